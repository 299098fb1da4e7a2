"""`python -m recsys simulate`: what policies are truly worth in a market whose users are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recsys.disk import whole_folder
from recsys.entry import hydra_command
from recsys.settings import read_own, read_settings

TRUTH = "truth.json"


@hydra_command("simulate")
def main(cfg: Any) -> None:
    from omegaconf import OmegaConf
    from tqdm import tqdm

    from recsys.market_run import LOG, SimulateSettings, Simulation, table_lines
    from recsys.policy.slates import PolicyConfig
    from recsys.pseudonym import load_key
    from recsys.simulator.world import WorldConfig

    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settings = read_own(SimulateSettings, given)
    simulation = Simulation(
        settings,
        world=read_settings(WorldConfig, given["world"], where="world"),
        slates=read_settings(PolicyConfig, given["policy"], where="policy"),
        key=load_key(),
    )
    output = Path(settings.output_dir)
    num_days = settings.days * len(simulation.policies)
    with whole_folder(output) as building, tqdm(total=num_days, unit="day", disable=None) as bar:

        def on_day(policy: str) -> None:
            bar.set_description(policy)
            bar.update()

        truth = simulation.run(building, on_day=on_day)
        (building / TRUTH).write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table_lines(truth["policies"])))
    if settings.log is not None:
        print(f"log of {settings.log}: {(output / LOG).resolve()}")
    print(f"truth: {(output / TRUTH).resolve()}", flush=True)
