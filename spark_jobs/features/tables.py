"""All feature tables of one version, computed from kept events. Nothing is read or written here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import Column
from spark_jobs.columns import Event
from spark_jobs.features import items as item_steps
from spark_jobs.features import leave_one_out
from spark_jobs.features import users as user_steps
from spark_jobs.features.cuts import Cuts
from spark_jobs.features.follows import follows_at_cuts
from spark_jobs.features.histories import histories
from spark_jobs.features.indices import Indexed
from spark_jobs.features.items import ItemEncoding
from spark_jobs.features.queries import with_query_words
from spark_jobs.features.vocabulary import PriorFit, Vocabulary, count_values, numbered
from spark_jobs.session import pin, together
from spark_jobs.settings import Dataset


@dataclass(frozen=True, kw_only=True)
class FeatureTables:
    """The published frames, what was fitted for them, and what they were encoded from: `users` and
    `snapshots` of items at each cut.
    """

    item_features: DataFrame
    user_features: DataFrame
    histories: DataFrame
    examples: DataFrame
    value_targets: DataFrame
    encoding: ItemEncoding
    profile: dict[str, Vocabulary]
    users: DataFrame
    snapshots: DataFrame


def build_tables(
    indexed: Indexed,
    dataset: Dataset,
    cuts: Cuts | None,
    *,
    item_table: DataFrame | None,
    user_table: DataFrame | None,
    window_events: int,
    edges: DataFrame | None = None,
    prior: PriorFit | None = None,
) -> FeatureTables:
    """`cuts` is None for leave_one_out. The item and user tables are undated (see `attributes`); `edges`: of
    the follow graph, which only data sets with cuts in time have.

    `prior`: what the last version had fitted, where its training time ended no later than this one's.
    """
    prior = prior or PriorFit()
    events = indexed.in_order()
    if cuts is not None:
        shown_at = (cuts.validation, cuts.test, cuts.now)
        facts = item_steps.facts_at_cuts(indexed.events, shown_at, dataset.target_event_types)
        of_keys = user_steps.users_at_cuts(
            user_steps.activity(indexed.events, (cut for cut, _ in cuts.labelled())),
            cuts.labelled(),
            horizons_days=dataset.split.horizons_days,
            last_timestamp=indexed.last_timestamp,
        )
        users = indexed.with_users(of_keys)
        fitting_cut = cuts.validation
        follows = None if edges is None else follows_at_cuts(edges, (cut for cut, _ in cuts.labelled()))
    else:
        prefixes = pin(indexed.with_users(leave_one_out.prefixes(events, dataset.target_event_types)))
        facts = leave_one_out.facts(events, prefixes, dataset.target_event_types)
        users = indexed.with_users(leave_one_out.users(facts))
        fitting_cut, follows = leave_one_out.NO_CUT, None
    snapshots = item_steps.snapshots(facts, indexed.items, item_table, ties=indexed.ties)
    users, snapshots = together(partial(pin, users), partial(pin, snapshots))
    if cuts is not None:
        examples = user_steps.examples(users, window_days=dataset.split.window_days)
        targets = user_steps.value_targets(users, horizons_days=dataset.split.horizons_days)
    else:
        examples = leave_one_out.examples(prefixes)
        targets = no_targets(examples)
    is_training = (F.col(Column.VALID_FROM) == fitting_cut) & F.col(Column.IN_TRAINING)
    encoding = item_steps.fit_encoding(
        snapshots.where(is_training), dataset.features, has_price=dataset.has_value, prior=prior
    )
    training_users = users.where(F.col(Column.CUT) == fitting_cut)
    profile = fit_profile(training_users, user_table, dataset, prior=prior)
    if Event.QUERY in events.columns:
        events = with_query_words(events, encoding.vocabularies.tokens)
    return FeatureTables(
        item_features=item_steps.encode(snapshots, encoding),
        user_features=user_steps.user_features(users, user_table, profile, follows=follows),
        histories=histories(events, indexed.users, window_events=window_events),
        examples=examples,
        value_targets=targets,
        encoding=encoding,
        profile=profile,
        users=users,
        snapshots=snapshots,
    )


def fit_profile(
    training: DataFrame, table: DataFrame | None, dataset: Dataset, *, prior: PriorFit
) -> dict[str, Vocabulary]:
    """Values of each profile field among the users known at the end of training time, most common first."""
    known = training.where(F.col(Column.PREFIX_LENGTH) > 0)
    if table is not None:
        known = known.join(table, on=Column.USER_KEY, how="left")
    columns = [name for name in known.columns if name.startswith(Event.PROFILE)]
    if not columns:
        return {}
    lists = {name.removeprefix(Event.PROFILE): F.array(F.col(name)) for name in columns}
    counted = count_values(known, lists, keep=dataset.features.max_field_size)
    return {
        name: numbered(
            (value for value, _ in counted.get(name, [])),
            prior=prior.profile_fields.get(name, ()),
            size=dataset.features.max_field_size,
        )
        for name in lists
    }


def no_targets(examples: DataFrame) -> DataFrame:
    """An empty value_targets table, for data without time or money at a cut."""
    doubles, ints = F.array().cast("array<double>"), F.array().cast("array<int>")
    return examples.where(F.lit(False)).select(
        Column.USER_INDEX,
        Column.CUT,
        doubles.alias(Column.SPEND),
        ints.alias(Column.NUM_ACTIVE_DAYS),
        ints.alias(Column.NUM_PURCHASES),
        F.lit(None).cast("double").alias(Column.NEXT_ACTIVE_DAYS),
        F.lit(None).cast("double").alias(Column.OBSERVED_DAYS),
    )
