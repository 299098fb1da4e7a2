"""What a market remembers from one day to the next, and its file (npz, no pickle)."""

from __future__ import annotations

import dataclasses
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.disk import whole_file
from recsys.schema import InputError
from recsys.simulator.items import NEVER
from recsys.simulator.users import Users

_IDENTITY = "identity"


@dataclass
class State:
    """day: the next one. Days in arrays are int32, NEVER where there is none.

    satisfaction_U, boredom_UT (as on last_visit_U): float32; spent_U: float64, money in the 30 days that are
    running; put_off_*_P: purchases decided on, and the day they are due; num_opened_V: int64, clicks and what
    searches found, so far.
    """

    day: int
    satisfaction_U: np.ndarray
    boredom_UT: np.ndarray
    last_visit_U: np.ndarray
    next_visit_U: np.ndarray
    churned_at_U: np.ndarray
    spent_U: np.ndarray
    put_off_user_P: np.ndarray
    put_off_item_P: np.ndarray
    put_off_until_P: np.ndarray
    num_opened_V: np.ndarray

    def save(self, path: Path, *, identity: str) -> None:
        """Whole or not at all; `identity` names the market that this is the state of."""
        arrays = {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}
        with whole_file(path) as building, building.open("wb") as file:
            np.savez_compressed(file, **{_IDENTITY: np.array(identity)}, **arrays)  # type: ignore[arg-type]


def first_state(users: Users, *, num_topics: int, num_items: int) -> State:
    """Before day 0: nobody has been shown anything, and everybody comes on the day of arrival."""
    num_users = len(users)
    return State(
        day=0,
        satisfaction_U=np.zeros(num_users, np.float32),
        boredom_UT=np.zeros((num_users, num_topics), np.float32),
        last_visit_U=users.arrival_U.copy(),
        next_visit_U=users.arrival_U.copy(),
        churned_at_U=np.full(num_users, NEVER, np.int32),
        spent_U=np.zeros(num_users),
        put_off_user_P=np.zeros(0, np.int64),
        put_off_item_P=np.zeros(0, np.int32),
        put_off_until_P=np.zeros(0, np.int32),
        num_opened_V=np.zeros(num_items + 1, np.int64),
    )


def load_state(path: Path, *, identity: str) -> State:
    """InputError where the file is no state, or that of another market."""
    if not path.is_file():
        raise InputError(f"{path} is not a file; name a state that a simulated log left")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = str(file[_IDENTITY])
            arrays = {field.name: file[field.name] for field in dataclasses.fields(State)}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path} cannot be read as a market's state; write it again") from None
    if found != identity:
        raise InputError(
            f"{path} is of another market; simulate with the world, users, items and seed it was made with"
        )
    return State(**(arrays | {"day": int(arrays["day"])}))
