"""The end of a sweep for several objectives: the Pareto front of its study as a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class ParetoFront(Callback):
    """Writes pareto.csv and pareto.html into the sweep's folder and prints the front."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        import optuna

        from recsys.sweep import Run, table_lines, write_front

        sweeper, folder = config.hydra.sweeper, Path(config.hydra.sweep.dir)
        study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
        best = {trial.number for trial in study.best_trials}
        runs = [
            Run(
                number=trial.number,
                values=tuple(trial.values),
                settings=trial.params,
                in_front=trial.number in best,
            )
            for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        ]
        if not runs:
            return
        write_front(folder, runs, list(config.returns))
        print("\n".join(table_lines(runs, list(config.returns))))
        print(
            f"{len(best)} of {len(runs)} runs are in the front: {(folder / 'pareto.html').resolve()}",
            flush=True,
        )
