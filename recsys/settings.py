"""Plain mappings, as YAML files give them, to checked settings dataclasses: errors name the entry."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from recsys.schema import InputError

T = typing.TypeVar("T")


def read_settings(cls: type[T], given: Mapping[str, Any], *, where: str = "config") -> T:
    """Build `cls` from a plain mapping; InputError names an unknown, missing or wrongly typed entry."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            raise InputError(f"{where}.{name} is not a setting; known are {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if name not in given or (given[name] is None and required):
            if required:
                raise InputError(f"{where}.{name} is missing; give it a value")
            continue
        if given[name] is not None:
            values[name] = _read_value(hints[name], given[name], where=f"{where}.{name}")
    return cls(**values)


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
    return value
