"""Numbers as text: sensible digits, thousands separators, a real minus sign."""

from __future__ import annotations

import math
from typing import Any

from recsys.report.names import Style

MISSING = "–"
_MINUS = "−"


def finite(value: Any) -> float | None:
    """The value as a float, or None where it is missing, not a number or infinite."""
    if value is None or isinstance(value, str):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _fixed(number: float, decimals: int, *, signed: bool) -> str:
    rounded = round(number, decimals)
    if rounded == 0:
        rounded = 0.0  # no "−0.00"
    text = f"{abs(rounded):,.{decimals}f}"
    sign = _MINUS if rounded < 0 else "+" if signed and rounded > 0 else ""
    return sign + text


def plain(value: Any, *, signed: bool = False) -> str:
    """About three significant digits; whole numbers stay whole."""
    number = finite(value)
    if number is None:
        return MISSING
    if number == 0 or (number == int(number) and abs(number) < 1e15):
        return _fixed(number, 0, signed=signed)
    decimals = max(0, 2 - math.floor(math.log10(abs(number))))
    return _fixed(number, min(decimals, 6), signed=signed)


def percent(value: Any, *, signed: bool = False) -> str:
    number = finite(value)
    return MISSING if number is None else _fixed(100 * number, 1, signed=signed) + "%"


def money(value: Any, *, currency: str, signed: bool = False) -> str:
    """`£1,234`, `£12.50`, `GBP 1,234`; without a currency the bare number."""
    number = finite(value)
    if number is None:
        return MISSING
    text = _fixed(number, 0 if abs(number) >= 100 else 2, signed=signed)
    sign = text[0] if text[0] in f"+{_MINUS}" else ""
    space = " " if currency[-1:].isalnum() else ""
    return f"{sign}{currency}{space}{text.removeprefix(sign)}"


def styled(value: Any, style: Style, *, currency: str = "", signed: bool = False) -> str:
    """A metric's number in its own style."""
    number = finite(value)
    if number is None:
        return MISSING
    match style:
        case Style.SHARE_4:
            return _fixed(number, 4, signed=signed)
        case Style.SHARE_3:
            return _fixed(number, 3, signed=signed)
        case Style.PERCENT:
            return percent(number, signed=signed)
        case Style.MONEY:
            return money(number, currency=currency, signed=signed)
        case Style.PLAIN:
            return plain(number, signed=signed)
