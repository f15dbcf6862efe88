"""What every configuration needs: checks with a clear message, and the strict form in JSON or TOML."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def require(condition: bool, message: str) -> None:
    """Raise `ValueError` with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def require_positive(section: str, config: Any, names: str) -> None:
    """Names are parted by spaces; None, where a setting allows it, is not checked."""
    for name in names.split():
        value = getattr(config, name)
        positive = value is None or (math.isfinite(value) and value > 0)
        require(positive, f"{section}{name} must be positive, got {value}")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass configuration as plain JSON-able data."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Build a (nested) configuration dataclass from plain data.

    Raises:
        ValueError: an unknown or missing key, or a value of the wrong type; the message gives the key's full path and
            what is known there.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where or cls.__name__} must be a table of settings, got {data!r}")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ValueError(f"unknown setting {where}{unknown[0]}; known here: {', '.join(fields)}")
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and name not in data
    ]
    if required:
        raise ValueError(f"setting {where}{required[0]} is missing ({cls.__name__} has no default for it)")
    return cls(**{name: convert(hints[name], value, f"{where}{name}") for name, value in data.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`; nothing is converted but int to float, list to tuple and table to dataclass.

    Where None is possible, the word "none" stands for it, even among strings.

    Raises:
        ValueError: another type; the message calls the value `where`.
    """
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where + ".")  # type: ignore[arg-type]
    if origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"setting {where} must be one of {list(get_args(hint))}, got {value!r}")
        return value
    if origin is tuple:
        return _convert_tuple(get_args(hint), value, where)
    return _convert_scalar(hint, value, where)


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    options = [option for option in get_args(hint) if option is not type(None)]
    if value in (None, "none") and len(options) < len(get_args(hint)):  # TOML has no null
        return None
    for option in options[:-1]:
        try:
            return convert(option, value, where)
        except ValueError:
            continue
    return convert(options[-1], value, where)


def _convert_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"setting {where} must be a list, got {value!r}")
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise ValueError(f"setting {where} must have {len(items)} entries, got {len(value)}: {value!r}")
    return tuple(
        convert(item, entry, f"{where}[{i}]") for i, (item, entry) in enumerate(zip(items, value, strict=True))
    )


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"setting {where} must be {hint.__name__}, got {value!r}")
    return value
