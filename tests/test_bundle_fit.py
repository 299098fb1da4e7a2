"""A bundle is scored, and gone on from, only at cuts that it has not learned past."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from recsys.bundle_fit import check_unseen
from recsys.schema import InputError
from tests.data.shop import DAY, many_users


def bundle(*, fit_until: str, learned_until: int) -> Any:
    return SimpleNamespace(trained_on={"fit_until": fit_until, "learned_until": learned_until})


def test_a_cut_is_refused_only_before_what_was_learned() -> None:
    shop: Any = many_users()  # validation on day 60, test on day 80 since 1970
    for learned_until in (59 * DAY, 60 * DAY):
        for split in ("validation", "test"):
            check_unseen(bundle(fit_until="validation", learned_until=learned_until), shop, split)
    for learned_until in (60 * DAY + 1, 80 * DAY):  # warm starts: learned further than it was fitted
        learned = bundle(fit_until="validation", learned_until=learned_until)
        check_unseen(learned, shop, "test")
        with pytest.raises(
            InputError, match=r"until 1970-03-.*past the validation cut of 1970-03-02.*split=test"
        ):
            check_unseen(learned, shop, "validation")
    with pytest.raises(InputError, match=r"past the test cut.*newer tables"):
        check_unseen(bundle(fit_until="test", learned_until=81 * DAY), shop, "test")


def test_without_time_the_test_events_come_after_the_validation_ones() -> None:
    shop: Any = SimpleNamespace(is_time_split=False)
    for fit_until, split in (("validation", "validation"), ("validation", "test"), ("test", "test")):
        check_unseen(bundle(fit_until=fit_until, learned_until=0), shop, split)
    with pytest.raises(InputError, match="learned until the test events, past the validation ones"):
        check_unseen(bundle(fit_until="test", learned_until=0), shop, "validation")
