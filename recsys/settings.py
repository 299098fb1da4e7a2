"""Plain mappings, as YAML files give them, to checked settings dataclasses: errors name the entry."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

from recsys.schema import InputError

T = typing.TypeVar("T")


def read_settings(cls: type[T], given: Mapping[str, Any], *, where: str = "config") -> T:
    """Build `cls` from a plain mapping; InputError names an unknown, missing or wrongly typed entry."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for name in given:
        if name not in fields:
            raise InputError(f"{prefix}{name} is not a setting; known are {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if name not in given or (given[name] is None and required):
            if required:
                raise InputError(f"{prefix}{name} is missing; give it a value")
            continue
        if given[name] is not None:
            values[name] = _read_value(hints[name], given[name], where=f"{prefix}{name}")
    return cls(**values)


def read_own(cls: type[T], given: Mapping[str, Any], *, where: str = "") -> T:
    """The settings of `cls` from among those of a command or group: what is beside them is read by others."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return read_settings(cls, {name: given[name] for name in names if name in given}, where=where)


def check_range(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """InputError unless `value` is a finite number within the bounds; those not given do not bound."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{name} must be a number, not {value!r}")
    bounds = {
        "at least": (least, lambda bound: value >= bound),
        "above": (above, lambda bound: value > bound),
        "at most": (most, lambda bound: value <= bound),
        "below": (below, lambda bound: value < bound),
    }
    given = {words: (bound, holds) for words, (bound, holds) in bounds.items() if bound is not None}
    if not math.isfinite(value) or not all(holds(bound) for bound, holds in given.values()):
        wanted = " and ".join(f"{words} {bound}" for words, (bound, _) in given.items()) or "finite"
        raise InputError(f"{name}={value} does not fit; it must be {wanted}")


def check_arguments(target: Callable[..., Any], given: Mapping[str, Any], *, where: str) -> None:
    """InputError for a number, text or bool of another type than the parameter of `target` declares."""
    hints = typing.get_type_hints(target)
    for name, value in given.items():
        options = typing.get_args(hints.get(name)) or (hints.get(name),)
        plain = [option for option in options if option in (bool, int, float, str)]
        if not plain or not isinstance(value, (bool, int, float, str)):
            continue
        if any(typing.get_origin(option) is typing.Literal for option in options):
            continue
        if type(value) not in plain and not (float in plain and type(value) is int):
            types = " or ".join(option.__name__ for option in plain)
            raise InputError(f"{where}.{name} must be of type {types}, not {value!r}")


def _read_value(hint: Any, value: Any, *, where: str) -> Any:
    """`value` as the type `hint` says, or InputError."""
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if typing.get_origin(hint) not in (list, dict) and options:
        hint = options[0]  # X | None
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be a group of settings, not {value!r}")
        return read_settings(typing.cast(type, hint), value, where=where)
    expected = typing.get_origin(hint) or hint
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (isinstance(value, bool) and expected is not bool) or not isinstance(value, expected):
        raise InputError(f"{where} must be of type {expected.__name__}, not {value!r}")
    if expected is list and typing.get_args(hint):
        (of,) = typing.get_args(hint)
        return [_read_value(of, element, where=f"{where}[{n}]") for n, element in enumerate(value)]
    return value
