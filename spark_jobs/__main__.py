"""`python -m spark_jobs dataset=NAME`: raw event logs -> features/NAME/<version>; or `job=erase`."""

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
    """Build and publish the feature tables of one data set, or erase people from it."""
    from omegaconf import OmegaConf

    settings = read_settings(JobSettings, OmegaConf.to_container(cfg, resolve=True), where="")  # type: ignore[arg-type]
    from spark_jobs.erase import erase, read_people
    from spark_jobs.job import build, checked_key
    from spark_jobs.session import start_session
    from spark_jobs.sizes import shown_sizes

    started = time.monotonic()
    checked_key(settings)
    people = read_people(settings.users_file) if settings.job == "erase" else None
    spark = start_session(settings.spark)
    try:
        if people is not None:
            print(erase(settings, people, spark).told(settings.dataset.name))
            return
        version = build(settings, spark, show_progress=True)
    finally:
        spark.stop()
    metadata = json.loads((version / Table.METADATA).read_text(encoding="utf-8"))
    counts = metadata["row_counts"]
    print(
        f"{version}: {counts['rows_in']:,} rows in, {counts['rows_kept']:,} kept,"
        f" {counts['quarantined']:,} quarantined, {counts['duplicates']:,} duplicates"
        f" ({time.monotonic() - started:.0f} s)\n{shown_sizes(metadata['tables'])}"
    )


if __name__ == "__main__":
    main()
