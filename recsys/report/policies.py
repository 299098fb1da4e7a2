"""What a change of policy costs and earns, as rows of text: the dial, the off-policy panel, the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.report.content import Row
from recsys.report.names import Style
from recsys.report.numbers import MISSING, finite, money, percent, plain, styled
from recsys.report.sections import Cell, Table, TableRow
from recsys.report.suppress import SMALL_CELL, is_small

# name in a panel -> (label, what it is)
ESTIMATES = {
    "dm": ("DM", "direct method: what the reward model says; nothing checks it, a reference only"),
    "ips": ("IPS", "inverse propensity: rewards weighted by how much likelier the policy shows the item"),
    "snips": ("SNIPS", "the same, divided by the sum of the weights: a small bias, less noise"),
    "dr": (
        "DR",
        "doubly robust: the reward model, mended by the weighted errors it makes; judged by this one",
    ),
    "sndr": ("SNDR", "doubly robust with weights divided by their sum"),
    "switch_dr": ("Switch-DR", "doubly robust, but where a weight is large the reward model is believed"),
    "dr_shrunk": ("DR, shrunk", "doubly robust with large weights drawn towards 0"),
}
BERNSTEIN = (
    "IPS, clipped",
    "weights cut at a cap; its empirical Bernstein bound holds for any number of users, and is wide",
)
BOUNDS = (("t", "Student's t"), ("percentile", "bootstrap"), ("studentised", "bootstrap, studentised"))
_POLICIES = {
    "tilted": "The policy that logged, tilted by the dial",
    "own": "This bundle's own policy",
}
_LOOP_POLICIES = {
    "dialled": "AURM, dialled",
    "variety": "AURM, mixed only",
    "accuracy": "AURM, accuracy",
    "myopic_revenue": "Myopic reference",
}
GAIN_SLOTS = 1000  # that a gain is told for
ORACLE, ORACLE_LABEL = "value_aware", "Best oracle of value"


def front_table(dial: Row, *, currency: str) -> Table | None:
    """A row a setting; the default says so."""
    front = dial.get("front") or ()
    if not front:
        return None
    body = [
        TableRow(
            label=f"Dial {dial_text(row['dial'])}",
            hint="default" if row["dial"] == dial["default"] else "",
            cells=(
                Cell(text=styled(row["ndcg@10"], Style.SHARE_4)),
                _with_ends(row, "ndcg_loss", percent),
                Cell(text=percent(row["value@10"])),
                Cell(text=percent(row["coverage@10"])),
                _with_ends(row, "gain", lambda value: gain_text(value, currency=currency)),
                Cell(text=gain_text(row["gain_lower"], currency=currency)),
            ),
        )
        for row in front
    ]
    header = ("Setting", "NDCG@10", "NDCG lost", "Value@10", "Coverage@10", "Gain, 1,000 slots", "At least")
    return Table(title="The front of the dial", header=header, rows=tuple(body))


def dial_text(dial: Any) -> str:
    return MISSING if dial is None else f"{dial:g}"


def gain_text(value: Any, *, currency: str) -> str:
    """Money a slot as signed money a thousand slots, to three significant digits: gains are often cents."""
    number = finite(value)
    if number is None:
        return MISSING
    text = plain(round(number * GAIN_SLOTS, 6), signed=True)
    sign = text[0] if text[0] in "+−" else ""
    space = " " if currency[-1:].isalnum() else ""
    return f"{sign}{currency}{space}{text.removeprefix(sign)}"


def _with_ends(row: Row, name: str, write: Any) -> Cell:
    value, low, high = (write(row.get(key)) for key in (name, f"{name}_low", f"{name}_high"))
    return Cell(text=value, small=f"{low} to {high}" if MISSING not in (low, high) else "")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One policy's panel: what it is about, why there is no estimate, facts of the log, the estimates."""

    title: str
    about: str
    refused: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    table: Table | None


def panel(found: Row, *, currency: str) -> Panel:
    return Panel(
        title=_POLICIES.get(found["policy"], str(found["policy"])),
        about=_about(found),
        refused=tuple(str(reason) for reason in found["refused"]),
        facts=_facts(found, currency=currency),
        table=_estimates(found, currency=currency),
    )


def _about(found: Row) -> str:
    dial = found["dial"]
    parts = [] if dial is None else [f"Dial {dial_text(dial)}"]
    if found.get("temperature") is not None:
        parts.append(f"items drawn at temperature {plain(found['temperature'])}")
    if found.get("horizon_days") and found.get("logged"):
        parts.append(
            f"what users brought on the day of a slate and within {found['horizon_days']} days after it"
        )
    if found.get("num_slates"):
        asked, known = plain(found["num_slates"]), plain(found["num_slates_known"])
        parts.append(f"{asked} of the {known} slates since it learned (a random sample where there are many)")
    return "; ".join(parts) + "." if parts else ""


def _facts(found: Row, *, currency: str) -> tuple[tuple[str, str], ...]:
    """How far the log reaches the policy; nothing where it was never looked at."""
    overlap = found.get("overlap")
    if overlap is None:
        return ()
    if is_small(overlap["num_users"]):
        return (("Users", SMALL_CELL),)
    size, share = plain(round(overlap["effective_size"])), percent(overlap["effective_share"])
    facts = [
        ("Users", plain(overlap["num_users"])),
        ("Slots", f"{plain(overlap['num_weights'])}, {plain(overlap['num_rewarded'])} with a reward"),
        ("Logged value a slot", money(found["logged"]["value"], currency=currency)),
        ("Effective sample", f"{size} slots, {share} of the log: what is left once the weights are in"),
        (
            "Mean weight",
            f"{overlap['mean_weight']:.3f} ± {overlap['mean_weight_error']:.3f}; "
            "1 where the log could show all that the policy shows",
        ),
        (
            "Weight tails",
            f"largest {plain(overlap['max_weight'])}, one in a thousand above "
            f"{plain(overlap['p999_weight'])}; the largest holds {_share(overlap['largest_share'])} of all",
        ),
    ]
    if found.get("zero_share") is not None:
        facts.append(("Never shown", f"{percent(found['zero_share'])} of the logged items by this policy"))
    if overlap["unsupported_mass"] is not None:
        facts.append(("Not in the log", f"{percent(overlap['unsupported_mass'])} of what the policy shows"))
    return tuple(facts)


def _share(share: float) -> str:
    return percent(share) if share >= 0.001 else f"under {percent(0.001)}"


def _estimates(found: Row, *, currency: str) -> Table | None:
    """The value and the gain by every estimate, with the lower bounds of the gain."""
    estimates = found.get("estimates")
    if not estimates:
        return None

    def cells(figure: Mapping[str, Any]) -> Cell:
        ends = {"value": figure["value"], "value_low": figure["low"], "value_high": figure["high"]}
        return _with_ends(ends, "value", lambda value: gain_text(value, currency=currency))

    rows = []
    for name in sorted(estimates, key=place_of):
        figure = estimates[name]
        gain = figure["gain"]
        lower = [Cell(text=gain_text(gain["lower"].get(key), currency=currency)) for key, _ in BOUNDS]
        value = Cell(
            text=money(figure["value"], currency=currency),
            small=f"{money(figure['low'], currency=currency)} to {money(figure['high'], currency=currency)}",
        )
        rows.append(TableRow(label=estimate_label(name), hint="", cells=(value, cells(gain), *lower)))
    if found.get("bernstein"):
        bound = gain_text(found["bernstein"]["gain_lower"], currency=currency)
        cells_of = [Cell(text=MISSING), Cell(text=f"at least {bound}"), *(Cell(text=MISSING) for _ in BOUNDS)]
        rows.append(TableRow(label="IPS, clipped", hint="empirical Bernstein", cells=tuple(cells_of)))
    header = ("Estimate", "Value a slot", "Gain, 1,000 slots", *(f"At least: {label}" for _, label in BOUNDS))
    return Table(title="Estimates", header=header, rows=tuple(rows))


def place_of(name: str) -> int:
    """Of an estimate in tables and plots."""
    known = list(ESTIMATES)
    return known.index(name) if name in known else len(known)


def estimate_label(name: str) -> str:
    return ESTIMATES[name][0] if name in ESTIMATES else name


def meanings(panels: Sequence[Row]) -> list[tuple[str, str]]:
    used = {name for found in panels for name in found.get("estimates") or ()}
    found = [words for name, words in ESTIMATES.items() if name in used]
    return found + ([BERNSTEIN] if any(panel.get("bernstein") for panel in panels) else [])


def loop_worlds(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """(world, its rounds), in the order of the rows."""
    worlds: dict[str, list[Row]] = {}
    for row in rows:
        worlds.setdefault(str(row["world"]), []).append(row)
    return list(worlds.items())


def loop_values(row: Row) -> dict[str, float]:
    """True value a user by label: known policies in their order, of the oracles of value the best."""
    values = dict(row["values"])
    oracles = [values.pop(name) for name in list(values) if name.startswith(ORACLE)]
    found = {label: values.pop(name) for name, label in _LOOP_POLICIES.items() if name in values}
    return found | values | ({ORACLE_LABEL: max(oracles)} if oracles else {})


def loop_table(rows: Sequence[Row], *, currency: str) -> Table:
    """A row a round: true values, the gain of the dial, and the share of what was attainable."""
    labels = list(dict.fromkeys(label for row in rows for label in loop_values(row)))
    body = []
    for row in rows:
        values, figures = loop_values(row), row["figures"]
        cells = [Cell(text=", ".join(dial_text(dial) for dial in row["dials"]) or MISSING)]
        cells += [Cell(text=money(values.get(label), currency=currency)) for label in labels]
        attainable = figures.get("attainable") or {}
        for name in ("gain", "over_myopic"):
            share = figures.get(f"share_{name}")
            cells.append(_loop_cell(figures.get(name), share, attainable.get("low"), currency=currency))
        hint = f"{len(row['seeds'])} seeds" if row["seeds"] else ""
        body.append(TableRow(label=f"Round {row['round']}", hint=hint, cells=tuple(cells)))
    header = ("Round", "Dial, by seed", *labels, "Dialled over accuracy", "Dialled over the reference")
    return Table(title="True value a user", header=header, rows=tuple(body))


def _loop_cell(
    gain: Mapping[str, Any] | None,
    share: Mapping[str, Any] | None,
    least_attainable: float | None,
    *,
    currency: str,
) -> Cell:
    """Money with its interval; below it the share of the attainable, which is one of something only where
    that surely exceeds 0.
    """
    if gain is None:
        return Cell(text=MISSING)
    value, low, high = (money(gain[end], currency=currency, signed=True) for end in ("value", "low", "high"))
    note = ""
    if least_attainable is None or least_attainable <= 0:
        note = "no share: nothing may be attainable"
    elif share is not None:
        part, least, most = (percent(share[end], signed=True) for end in ("value", "low", "high"))
        note = f"{part} of the attainable" + (f" ({least} to {most})" if MISSING not in (least, most) else "")
    return Cell(text=value, small=f"{low} to {high}" if MISSING not in (low, high) else "", note=note)
