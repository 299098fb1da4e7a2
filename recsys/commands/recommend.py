"""`python -m recsys recommend`: bundle + tables -> top-K items, vectors, value estimates, impression log."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.disk import whole_folder
from recsys.entry import hydra_command
from recsys.rotating import check_not_rotating
from recsys.schema import Column, InputError, Recommendation, Split
from recsys.settings import check_range, read_own, read_settings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from recsys.bundle import Bundle
    from recsys.data.tables import FeatureTables, Items
    from recsys.parts import Parts
    from recsys.recommendation import Recommender


def write_recommendations(
    parts: Parts, *, items: Items, item_vector_VS: np.ndarray, output: Path, show_names: bool
) -> None:
    """The whole folder, complete or not there: the one before goes only when the new one is written."""
    import pyarrow.parquet as pq

    from recsys.recommendation_tables import item_vector_table

    with whole_folder(output) as building:
        for name in parts.names():
            rows = parts.tables(name)
            if name == Recommendation.TOP_K:
                rows = _with_csv(rows, items, building / f"{name}.csv", show_names=show_names)
            first = next(rows)
            with pq.ParquetWriter(building / f"{name}.parquet", first.schema, compression="zstd") as writer:
                for table in chain([first], rows):
                    writer.write_table(table)
        vectors = item_vector_table(items, item_vector_VS)
        pq.write_table(vectors, building / f"{Recommendation.ITEM_VECTORS}.parquet", compression="zstd")


def _with_csv(top_k: Iterator[pa.Table], items: Items, path: Path, *, show_names: bool) -> Iterator[pa.Table]:
    """The same tables, which go on into a readable file as they pass."""
    from pyarrow.csv import CSVWriter

    first = next(top_k)
    with CSVWriter(path, _readable(first, items, show_names=show_names).schema) as writer:
        for table in chain([first], top_k):
            writer.write_table(_readable(table, items, show_names=show_names))
            yield table


def _readable(top_k: pa.Table, items: Items, *, show_names: bool) -> pa.Table:
    import pyarrow as pa

    readable = top_k.drop_columns([Column.ITEM_INDEX])
    if show_names:
        names = [text or "" for text in items.text[top_k[Column.ITEM_INDEX].to_numpy()]]
        place = readable.column_names.index(Recommendation.SCORE)
        readable = readable.add_column(place, Recommendation.ITEM_NAME, pa.array(names, pa.string()))
    return readable


@dataclass(frozen=True, kw_only=True)
class RecommendSettings:
    """The settings of conf/recommend.yaml that belong to no group."""

    version: str
    bundle: str
    at: str | None = None
    shown_at: str | None = None
    top_k: int
    show_names: bool
    chunk_users: int
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
        check_range("chunk_users", self.chunk_users, least=1)


def latest_cut(tables: FeatureTables) -> str:
    """The split whose cut comes last: `now`, in leave_one_out splits `test`."""
    return Split.NOW if tables.is_time_split else Split.TEST


def occasion(shown_at: str | None, tables: FeatureTables, at: str) -> int:
    """Timestamp of an ISO time; without one that of the cut, or the clock's where there is no time."""
    known_until = tables.cut(at) if tables.has_time else None
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


def occasion_of_all(shown_at: str | None, tables: FeatureTables, at: str) -> int:
    """That of the first rank, where clocks have a part in it."""
    from recsys.parallel.dealing import of_all_ranks

    return int(of_all_ranks(occasion(shown_at, tables, at))[0])


@hydra_command("recommend")
def main(cfg: Any) -> None:
    from recsys.parallel.dealing import join_ranks, leave_ranks

    join_ranks()
    _recommend(cfg)
    leave_ranks()


def _recommend(cfg: Any) -> None:
    from omegaconf import OmegaConf

    from recsys.bundle import bundle_folder, load_bundle
    from recsys.data.tables import FeatureTables, resolve_tables
    from recsys.parallel.dealing import of_all_ranks, rank_and_world
    from recsys.parts import Parts
    from recsys.policy.slates import PolicyConfig
    from recsys.recommendation import Recommender
    from recsys.retrieval.approximate import ApproximateConfig

    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settings = read_own(RecommendSettings, given)
    policy = read_settings(PolicyConfig, given["policy"], where="policy")
    approximate = None
    if given["approximate"] is not None:
        approximate = read_settings(ApproximateConfig, given["approximate"], where="approximate")
    check_not_rotating(Path(settings.features_dir) / cfg.dataset.name)
    tables_dir = resolve_tables(
        features_dir=settings.features_dir, dataset=cfg.dataset.name, version=settings.version
    )
    tables = FeatureTables(tables_dir=tables_dir, cache_dir=settings.cache_dir)
    bundle = load_bundle(bundle_folder(Path(settings.models_dir) / cfg.dataset.name, settings.bundle))
    if policy.dial is None:
        policy = dataclasses.replace(policy, dial=bundle.dial)
    at = settings.at or latest_cut(tables)
    shown_at = occasion_of_all(settings.shown_at, tables, at)
    recommender = Recommender(
        bundle=_shared_out(bundle),
        tables=tables,
        at=at,
        top_k=settings.top_k,
        policy=policy,
        shown_at=shown_at,
        chunk_users=settings.chunk_users,
        approximate=approximate,
    )
    output = Path(settings.output_dir) if settings.output_dir else bundle.output_dir / "recommendations"
    decisive = {
        "dataset": cfg.dataset.name,
        "bundle": bundle.fingerprint,
        "tables": tables.fingerprint,
        "at": at,
        "shown_at": shown_at,
        "top_k": settings.top_k,
        "policy": dataclasses.asdict(policy),
        "dial": recommender.dial,
        "approximate": given["approximate"],
    }
    parts = Parts(output, settings=decisive, num_parts=recommender.num_chunks)
    with parts.in_use():
        answer(recommender, parts, dataset=cfg.dataset.name, fingerprint=bundle.fingerprint)
        vector_VS = recommender.item_vectors()
        of_all_ranks(None)  # all parts are there
        if rank_and_world()[0] != 0:
            return
        write_recommendations(
            parts,
            items=recommender.items,
            item_vector_VS=vector_VS,
            output=output,
            show_names=settings.show_names,
        )
        parts.remove()
    if bundle.model.value_heads is None:
        print("value parts are off: the data set has an order of events but no time and no money")
    print(f"recommendations of {recommender.num_users:,} users: {output.resolve()}")
    report = output.parent / "report.html"
    if report.is_file():
        print(f"report: {report.resolve()}", flush=True)


def _shared_out(bundle: Bundle) -> Bundle:
    """With item tables that were sharded in training sharded over the ranks, if there are several."""
    from recsys.parallel.dealing import rank_and_world
    from recsys.parallel.tables import over_ranks

    if rank_and_world()[1] == 1 or bundle.settings["model"]["table"] == "replicated":
        return bundle
    return dataclasses.replace(bundle, model=over_ranks(bundle.model))


def answer(recommender: Recommender, parts: Parts, *, dataset: str, fingerprint: str) -> None:
    """Write the parts that are missing, dealt over the ranks: what the first rank sees counts for all."""
    from recsys.parallel.dealing import dealt, of_all_ranks, rank_and_world
    from recsys.policy.impressions import impression_table
    from recsys.policy.origin import with_origin
    from recsys.recommendation_tables import top_k_table, user_vector_table, value_table

    config = recommender.policy
    missing = of_all_ranks(parts.missing())[0]
    for number, is_wanted in dealt(missing):
        told = f"recommending, part {number + 1} of {parts.num_parts}"
        found = recommender.chunk(number, progress=told if rank_and_world()[0] == 0 else None)
        if not is_wanted:
            continue
        impressions = impression_table(
            slates=found.slates,
            config=config,
            policy_version=config.version(bundle_fingerprint=fingerprint),
            user_key_B=found.user_key_U[: len(found.slates.item_BK)].tolist(),
            item_id_V=found.items.item_id.tolist(),
            timestamp=recommender.occasion,
        )
        tables = {
            Recommendation.TOP_K: top_k_table(found),
            Recommendation.USER_VECTORS: user_vector_table(found),
            Recommendation.VALUE_ESTIMATES: value_table(found),
            Recommendation.IMPRESSIONS: with_origin(impressions, dataset),
        }
        parts.write(number, {name: table for name, table in tables.items() if table is not None})
