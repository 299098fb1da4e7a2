"""The page in a real browser at a phone's width: nothing sticks out sideways, every plot is drawn."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from recsys.report.page import render
from tests.report.sample import sample_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# A headless window is never narrower than about 500 px, so the page is put into a frame of the width.
HARNESS = """<!doctype html><body><iframe width="{width}" height="844" srcdoc="{page}"></iframe>
<pre id="result"></pre><script>
addEventListener("load", () => setTimeout(() => {{
  const page = document.querySelector("iframe").contentDocument;
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  const tables = [...page.querySelectorAll(".scroll")];
  document.getElementById("result").textContent = JSON.stringify({{
    num_cut_off: tables.filter((table) => table.scrollWidth > table.clientWidth).length,
    scroll_width: page.documentElement.scrollWidth,
    num_plots: page.querySelectorAll("[data-plot]").length,
    num_drawn: page.querySelectorAll("[data-plot] .main-svg .xaxislayer-above").length,
  }});
}}, 2000));
</script></body>"""


def measure(folder: Path, *, width: int) -> tuple[dict[str, int], str]:
    assert CHROMIUM is not None
    page = folder / "harness.html"
    page.write_text(HARNESS.format(width=width, page=html.escape(render(sample_report()))), encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-component-update"),
            *(
                "--disable-background-networking",
                "--disable-sync",
                "--hide-scrollbars",
                f"--user-data-dir={folder / 'profile'}",
            ),
            *("--enable-logging=stderr", "--virtual-time-budget=15000", "--window-size=1400,900"),
            *("--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout)
    assert found is not None
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(html.unescape(found.group(1))), console


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(tmp_path: Path, width: int) -> None:
    measured, console = measure(tmp_path, width=width)
    assert measured["scroll_width"] <= width
    assert measured["num_cut_off"] == 0
    assert measured["num_drawn"] == measured["num_plots"] > 0
    assert "Content Security Policy" not in console
    assert "Uncaught" not in console
