"""`python -m recsys COMMAND [overrides]`: takes the command word off before Hydra sees the rest."""

from __future__ import annotations

import importlib
import sys

from recsys import entry

COMMANDS = {
    "train": "feature tables -> model bundle, metrics.json, report.html",
    "evaluate": "bundle + tables -> metrics.json, report.html",
    "importance": "bundle + tables -> which features the model rests on, and which only add noise",
    "recommend": "bundle + tables -> top-K items, vectors, value estimates, impression log",
    "feedback": "impressions and outcomes -> the feedback log that spark_jobs reads",
    "promote": "challenger against champion; promotes or refuses with reasons",
    "plan": "memory, FLOPs, traffic, time and cost of a run on N nodes, before paying for it",
    "simulate": "a market with known long-term value -> the true value of policies, and their logs",
    "reshard": "a bundle with room for more items",
}


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word not in COMMANDS:
        lines = ["usage: python -m recsys COMMAND [key=value ...]", ""]
        lines += [f"  {name:<10} {what}" for name, what in COMMANDS.items()]
        print("\n".join(lines), file=sys.stdout if word in ("", "-h", "--help") else sys.stderr)
        raise SystemExit(0 if word in ("", "-h", "--help") else 2)
    entry.COMMAND_LINE = [*sys.argv]
    del sys.argv[1]
    importlib.import_module(f"recsys.commands.{word}").main()


if __name__ == "__main__":
    main()
