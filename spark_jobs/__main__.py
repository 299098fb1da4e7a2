"""`python -m spark_jobs dataset=NAME`: raw event logs -> features/NAME/<version>; or another `job`."""

from __future__ import annotations

import json
import time
from typing import Any

from recsys.entry import hydra_command
from recsys.schema import Table
from recsys.settings import read_settings
from spark_jobs.settings import JobSettings


@hydra_command("spark_jobs")
def main(cfg: Any) -> None:
    """Build and publish the feature tables of one data set, erase people from it, or change its key."""
    from omegaconf import OmegaConf

    settings = read_settings(JobSettings, OmegaConf.to_container(cfg, resolve=True), where="")  # type: ignore[arg-type]
    from spark_jobs.erase import erase, read_people
    from spark_jobs.faults import in_one_line
    from spark_jobs.job import build, checked_key
    from spark_jobs.rotate import rotate
    from spark_jobs.rotation_checks import ready_to_rotate
    from spark_jobs.session import start_session
    from spark_jobs.sizes import shown_sizes

    started = time.monotonic()
    (ready_to_rotate if settings.job == "rotate" else checked_key)(settings)
    is_named = settings.job == "erase" or settings.users_file is not None
    people = read_people(settings.users_file) if is_named else frozenset()
    spark = start_session(settings.spark)
    with in_one_line(settings), spark:
        if settings.job == "erase":
            print(erase(settings, people, spark).told(settings.dataset.name))
            return
        if settings.job == "rotate":
            print(rotate(settings, people, spark).told(settings.dataset.name))
            return
        version = build(settings, spark, show_progress=True)
    metadata = json.loads((version / Table.METADATA).read_text(encoding="utf-8"))
    counts = metadata["row_counts"]
    print(
        f"{version}: {counts['rows_in']:,} rows in, {counts['rows_kept']:,} kept,"
        f" {counts['quarantined']:,} quarantined, {counts['duplicates']:,} duplicates"
        f" ({time.monotonic() - started:.0f} s)\n{shown_sizes(metadata['tables'])}"
    )


if __name__ == "__main__":
    main()
