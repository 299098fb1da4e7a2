"""Numbers as a reader expects them."""

from __future__ import annotations

import pytest

from recsys.report.names import Style
from recsys.report.numbers import money, percent, plain, styled


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (3684, "3,684"), (12.345, "12.3"), (0.012345, "0.0123"), (1234.56, "1,235"), (-2.5, "−2.50")],
)
def test_plain(number: float, text: str) -> None:
    assert plain(number) == text


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_missing(missing: float | None) -> None:
    assert plain(missing) == percent(missing) == money(missing, currency="£") == "–"


def test_money_puts_the_sign_before_the_currency() -> None:
    assert money(1234.5, currency="£") == "£1,234"
    assert money(12.5, currency="£") == "£12.50"
    assert money(-1234567.0, currency="GBP") == "−GBP 1,234,567"
    assert money(3.0, currency="", signed=True) == "+3.00"


def test_styles() -> None:
    assert styled(0.04214, Style.SHARE_4) == "0.0421"
    assert styled(0.0421, Style.SHARE_3, signed=True) == "+0.042"
    assert styled(-0.00001, Style.SHARE_4) == "0.0000"
    assert styled(-0.043, Style.PERCENT) == "−4.3%"
