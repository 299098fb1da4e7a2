"""Where in time a data set is cut. Plain Python: dates in, Unix seconds out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from recsys.schema import SECONDS_PER_DAY, InputError, Split
from spark_jobs.settings import SplitSettings


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Rolling train cuts, ascending, a validation and a test cut, the end of the data: int64 Unix seconds."""

    train: tuple[int, ...]
    validation: int
    test: int
    now: int

    def labelled(self) -> list[tuple[int, str]]:
        """(cut, split) pairs."""
        train = [(cut, Split.TRAIN) for cut in self.train]
        later = [(self.validation, Split.VALIDATION), (self.test, Split.TEST), (self.now, Split.NOW)]
        return [*train, *later]


def find_cuts(split: SplitSettings, *, first_timestamp: int, last_timestamp: int) -> Cuts:
    """The validation cut lies one window before the test cut; train cuts step back from there. `now` is the
    last event's time.

    InputError where a cut falls outside the data or no train cut is left.
    """
    test = _test_cut(split, last_timestamp)
    validation = test - split.window_days * SECONDS_PER_DAY
    if not first_timestamp < validation < test < last_timestamp:
        raise InputError(
            f"the test cut {_date(test)} and the validation cut {_date(validation)} must lie inside the data"
            f" ({_date(first_timestamp)} to {_date(last_timestamp)}); mend split.test_cut or"
            " split.window_days"
        )
    earliest = first_timestamp + split.min_train_days * SECONDS_PER_DAY
    step = split.train_every_days * SECONDS_PER_DAY
    train = tuple(reversed(range(validation - step, earliest - 1, -step)))
    if not train:
        raise InputError(
            f"no train cut fits between {_date(earliest)} and {_date(validation)};"
            " lower split.min_train_days or split.train_every_days"
        )
    return Cuts(train=train, validation=validation, test=test, now=last_timestamp)


def _test_cut(split: SplitSettings, last_timestamp: int) -> int:
    if split.test_days_before_end is not None:
        midnight = last_timestamp - last_timestamp % SECONDS_PER_DAY
        return midnight - split.test_days_before_end * SECONDS_PER_DAY
    try:
        moment = datetime.fromisoformat(str(split.test_cut))
    except ValueError:
        raise InputError(
            f"split.test_cut {split.test_cut!r} is no ISO date; write it as 2011-09-10"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _date(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, tz=UTC).strftime("%Y-%m-%d %H:%M")
