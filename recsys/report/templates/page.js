// Draws every plot in the colours of the page, and again when the light or dark scheme changes.
(() => {
  "use strict";
  const specs = JSON.parse(document.getElementById("plots").textContent);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true, scrollZoom: false };

  function paint(part, styles) {
    if (typeof part === "string") {
      return part.startsWith("var:") ? styles.getPropertyValue(part.slice(4)).trim() : part;
    }
    if (Array.isArray(part)) return part.map((inner) => paint(inner, styles));
    if (part && typeof part === "object") {
      return Object.fromEntries(Object.entries(part).map(([key, inner]) => [key, paint(inner, styles)]));
    }
    return part;
  }

  function draw() {
    const styles = getComputedStyle(document.documentElement);
    for (const element of document.querySelectorAll("[data-plot]")) {
      const { data, layout } = paint(specs[element.dataset.plot], styles);
      Plotly.react(element, data, layout, config);
    }
  }

  function resize() {
    for (const element of document.querySelectorAll("[data-plot]")) Plotly.Plots.resize(element);
  }

  draw();
  scheme.addEventListener("change", draw);
  window.addEventListener("beforeprint", resize);
  window.addEventListener("afterprint", resize);

  // The entry of the section in view is marked in the table of contents.
  const list = document.querySelector("nav ol");
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        const link = links.get(entry.target.id);
        if (!link) continue;
        link.setAttribute("aria-current", "true");
        list.scrollTo({ left: link.offsetLeft - (list.clientWidth - link.clientWidth) / 2 });
      }
    },
    { rootMargin: "-15% 0px -75% 0px" },
  );
  for (const section of document.querySelectorAll("main > section[id]")) seen.observe(section);
})();
