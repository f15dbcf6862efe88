"""Keys of a camera path written as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from ..types import Cameras
from ..versions import Versions
from .framing import look_at, with_fov
from .pace import Easing
from .rig import Rig, start_rig
from .through import join_keys

KEYFRAMES_VERSIONS = Versions("keyframes")
_ENTRY_KEYS = {"view": {"view"}, "c2w": {"c2w"}, "position": {"position", "look_at"}}
_ENTRY_OPTIONS = {"fov", "speed"}
_ENTRY_FORMS = (
    '{"view": 0}, {"c2w": 4 x 4} or {"position": [x, y, z], "look_at": [x, y, z]}, each with an optional "fov" and '
    '"speed"'
)
_SLOWEST, _FASTEST = 0.05, 20.0


@dataclass(frozen=True)
class KeyedPath:
    """Keys of a path and how it is walked, as written down; see `read_keyed_path`.

    Raises:
        ValueError: settings that are none.
    """

    entries: tuple[object, ...]  # in order; none: the path follows the inputs
    loop: bool = False
    easing: Easing = "linear"

    def __post_init__(self) -> None:
        if not isinstance(self.loop, bool):
            raise ValueError(f"keyframes: loop must be true or false, got {self.loop!r}")
        if self.easing not in get_args(Easing):
            raise ValueError(f"keyframes: unknown easing {self.easing!r}; choose one of {', '.join(get_args(Easing))}")


def read_keyed_path(text: str) -> KeyedPath:
    """Read a path's text: nothing, a JSON list of keys, or `{"version": 1, "keys": [...], "loop": ..., "easing": ...}`.

    All but the keys may be left out. What a key is says `keyframes_from_json`; keys are read there.

    Raises:
        ValueError: not JSON of that form, a newer version, or settings that are none.
    """
    if not text.strip():
        return KeyedPath(())
    try:
        read: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"keyframes are not valid JSON ({error}); expected a list of {_ENTRY_FORMS}") from error
    data: Any = {"keys": read} if isinstance(read, list) else read
    if not isinstance(data, dict) or not isinstance(data.get("keys"), list):
        raise ValueError(
            f"keyframes must be a JSON list of {_ENTRY_FORMS}, or an object with such a list as its 'keys', got "
            f"{text.strip()[:60]}"
        )
    data = KEYFRAMES_VERSIONS.upgrade(data)
    settings = {name: value for name, value in data.items() if name not in ("keys", "version")}
    if unknown := sorted(set(settings) - {"loop", "easing"}):
        raise ValueError(f"keyframes know the settings loop and easing, got {', '.join(unknown)}")
    return KeyedPath(tuple(data["keys"]), **settings)


def keyframes_from_json(text: str, like: Cameras) -> Cameras:
    """Read keys from a JSON list, or from the `keys` of what `read_keyed_path` reads.

    An entry is `{"view": i}` (input camera i), `{"c2w": 4 x 4}` (OpenCV camera-to-world) or `{"position": [x, y, z],
    "look_at": [x, y, z]}`, in the inputs' scene units. Each may have `"fov"`, the vertical field of view in degrees of
    a whole picture of `like.size`, before a model crops it to its square; without it the intrinsics are those of the
    input view, or of the middle one. `"speed"` is read by `key_speeds`.

    Args:
        text: the JSON text.
        like: the input cameras of one scene.

    Returns:
        One camera per entry, with the `size` and `unit` of `like`.

    Raises:
        ValueError: no such JSON, no keys, or a broken one, which is named by its number.
    """
    entries = read_keyed_path(text).entries
    if not entries:
        raise ValueError(f"keyframes must be a non-empty JSON list of {_ENTRY_FORMS}, got {text.strip()[:60]!r}")
    rig = start_rig(like, None, None)
    keys = []
    for number, entry in enumerate(entries):
        try:
            keys.append(_read_key(entry, rig))
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"keyframe {number}: {error}") from error
    return join_keys(keys).to(like.c2w.device)


def key_speeds(text: str) -> list[float] | None:
    """The `"speed"` of every key of a text, for `keyframes`: 1 where a key has none; None where no key has one.

    Raises:
        ValueError: no such JSON, or a speed that is no number from 0.05 to 20; its key is named by its number.
    """
    entries = [entry if isinstance(entry, Mapping) else {} for entry in read_keyed_path(text).entries]
    if not any("speed" in entry for entry in entries):
        return None
    speeds = []
    for number, entry in enumerate(entries):
        speed = entry.get("speed", 1.0)
        if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not _SLOWEST <= speed <= _FASTEST:
            raise ValueError(
                f"keyframe {number}: speed must be a number from {_SLOWEST:g} (slow) to {_FASTEST:g} (fast), 1 is as "
                f"the rest, got {speed!r}"
            )
        speeds.append(float(speed))
    return speeds


def _read_key(entry: object, rig: Rig) -> Cameras:
    kind = next((name for name in _ENTRY_KEYS if isinstance(entry, Mapping) and name in entry), None)
    if not isinstance(entry, Mapping) or kind is None:
        raise ValueError(f"expected {_ENTRY_FORMS}, got {json.dumps(entry)[:80]}")
    required = _ENTRY_KEYS[kind]
    if not required <= set(entry) <= required | _ENTRY_OPTIONS:
        raise ValueError(f"needs {sorted(required)} and may have 'fov' and 'speed', got {sorted(entry)}")
    if kind == "view":
        key = _input_view(entry["view"], rig.cameras)
    elif kind == "c2w":
        key = rig.cameras[[rig.reference]].replace(c2w=_numbers("c2w", entry["c2w"], (4, 4))[None])
    else:
        position, target = (_numbers(name, entry[name], (3,)) for name in ("position", "look_at"))
        if torch.equal(position, target):
            raise ValueError(f"position and look_at are the same point {position.tolist()}; they give no direction")
        key = rig.path(position, look_at(position, target, rig.up, rig.rotation))
    return key if "fov" not in entry else key.replace(K=_with_fov(key.K, entry["fov"]))


def _input_view(index: object, cameras: Cameras) -> Cameras:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(cameras):
        raise ValueError(f"view must be a whole number between 0 and {len(cameras) - 1}, got {index!r}")
    return cameras[[index]]


def _numbers(name: str, value: object, shape: tuple[int, ...]) -> Tensor:
    tensor = torch.tensor(value, dtype=torch.float64)
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must hold {' x '.join(map(str, shape))} numbers, got shape {list(tensor.shape)}")
    return tensor


def _with_fov(K: Tensor, fov: object) -> Tensor:
    if isinstance(fov, bool) or not isinstance(fov, (int, float)):
        raise ValueError(f"fov must be a vertical angle between 0 and 180 degrees, got {fov!r}")
    return with_fov(K, fov)
