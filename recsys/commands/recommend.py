"""`python -m recsys recommend`: bundle + tables -> top-K items, vectors, value estimates, impression log."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.disk import whole_folder
from recsys.entry import hydra_command
from recsys.schema import Column, InputError, Recommendation, Split
from recsys.settings import read_own, read_settings

if TYPE_CHECKING:
    import pyarrow as pa

    from recsys.data.tables import FeatureTables
    from recsys.recommendation import Recommendations


def write_recommendations(
    found: Recommendations, *, impressions: pa.Table, output: Path, show_names: bool
) -> None:
    """The whole folder, complete or not there: the one before goes only when the new one is written."""
    import pyarrow.parquet as pq

    from recsys.recommendation import item_vector_table, top_k_table, user_vector_table, value_table

    top_k = top_k_table(found)
    files = {
        Recommendation.TOP_K: top_k,
        Recommendation.USER_VECTORS: user_vector_table(found),
        Recommendation.ITEM_VECTORS: item_vector_table(found),
        Recommendation.VALUE_ESTIMATES: value_table(found),
        Recommendation.IMPRESSIONS: impressions,
    }
    with whole_folder(output) as building:
        for name, table in files.items():
            if table is not None:
                pq.write_table(table, building / f"{name}.parquet", compression="zstd")
        _write_csv(top_k, found, building / f"{Recommendation.TOP_K}.csv", show_names=show_names)


def _write_csv(top_k: pa.Table, found: Recommendations, path: Path, *, show_names: bool) -> None:
    import pyarrow as pa
    import pyarrow.csv

    readable = top_k.drop_columns([Column.ITEM_INDEX])
    if show_names:
        names = [text or "" for text in found.items.text[top_k[Column.ITEM_INDEX].to_numpy()]]
        place = readable.column_names.index(Recommendation.SCORE)
        readable = readable.add_column(place, Recommendation.ITEM_NAME, pa.array(names, pa.string()))
    pyarrow.csv.write_csv(readable, path)


@dataclass(frozen=True, kw_only=True)
class RecommendSettings:
    """The settings of conf/recommend.yaml that belong to no group."""

    version: str
    bundle: str
    at: str | None = None
    shown_at: str | None = None
    top_k: int
    show_names: bool
    features_dir: str
    models_dir: str
    cache_dir: str
    output_dir: str | None = None

    def __post_init__(self) -> None:
        if self.at not in (None, Split.NOW, *Split.HELD_OUT):
            raise InputError(
                f"at={self.at} is no split with one cut; use {Split.NOW}, {Split.TEST} or {Split.VALIDATION}"
            )
        if self.top_k < 1:
            raise InputError(f"top_k={self.top_k} recommends nothing; set it to 1 or more")


def latest_cut(tables: FeatureTables) -> str:
    """The split whose cut comes last: `now`, in leave_one_out splits `test`."""
    return Split.NOW if tables.is_time_split else Split.TEST


def occasion(shown_at: str | None, tables: FeatureTables, at: str) -> int:
    """Timestamp of an ISO time; without one that of the cut, or the clock's where there is no time."""
    known_until = tables.cut(at) if tables.metadata["has_time"] else None
    if shown_at is None:
        return int(time.time()) if known_until is None else known_until
    try:
        moment = datetime.fromisoformat(shown_at)
    except ValueError:
        raise InputError(
            f"shown_at={shown_at} is no ISO time; write it like 2024-05-01 or 2024-05-01T12:00:00Z"
        ) from None
    timestamp = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if timestamp < (known_until or 1):
        end = "end of the data" if at == Split.NOW else f"{at} cut"
        raise InputError(
            f"shown_at={shown_at} lies before the {end}, which the model knows of; name a later time"
            if known_until
            else f"shown_at={shown_at} lies before 1970; name a later time"
        )
    return timestamp


@hydra_command("recommend")
def main(cfg: Any) -> None:
    from omegaconf import OmegaConf

    from recsys.bundle import bundle_folder, load_bundle
    from recsys.data.tables import FeatureTables, resolve_tables
    from recsys.policy.impressions import impression_table
    from recsys.policy.origin import with_origin
    from recsys.policy.slates import PolicyConfig
    from recsys.recommendation import recommend

    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settings = read_own(RecommendSettings, given)
    policy = read_settings(PolicyConfig, given["policy"], where="policy")
    tables_dir = resolve_tables(
        features_dir=settings.features_dir, dataset=cfg.dataset.name, version=settings.version
    )
    tables = FeatureTables(tables_dir=tables_dir, cache_dir=settings.cache_dir)
    bundle = load_bundle(bundle_folder(Path(settings.models_dir) / cfg.dataset.name, settings.bundle))
    if policy.dial is None:
        policy = dataclasses.replace(policy, dial=bundle.dial)
    at = settings.at or latest_cut(tables)
    shown_at = occasion(settings.shown_at, tables, at)
    found = recommend(
        bundle=bundle,
        tables=tables,
        at=at,
        top_k=settings.top_k,
        policy=policy,
        shown_at=shown_at,
    )
    impressions = impression_table(
        slates=found.slates,
        config=policy,
        policy_version=policy.version(bundle_fingerprint=bundle.fingerprint),
        user_key_B=found.user_key_U[:-1].tolist(),
        item_id_V=found.items.item_id.tolist(),
        timestamp=shown_at,
    )
    output = Path(settings.output_dir) if settings.output_dir else bundle.output_dir / "recommendations"
    write_recommendations(
        found,
        impressions=with_origin(impressions, cfg.dataset.name),
        output=output,
        show_names=settings.show_names,
    )
    if found.heads is None:
        print("value parts are off: the data set has an order of events but no time and no money")
    print(f"recommendations of {len(found.user_key_U) - 1:,} users: {output.resolve()}")
    report = output.parent / "report.html"
    if report.is_file():
        print(f"report: {report.resolve()}", flush=True)
