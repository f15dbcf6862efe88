"""Camera paths: presets by name, and the functions behind them. Pure functions to `Cameras`.

Every path has as many cameras as asked for, keeps `size` and `unit` of its inputs and scales with them: inputs in other
units give the same path in those units. Paths are computed on the CPU and returned on the inputs' device. Conventions:
OpenCV axes (x right, y down, z forward), angles in degrees, lengths as fractions of the distance to the focus point.

`around` has the circles, `moves` what one camera does, `through` the paths along given cameras, `keys` their JSON,
`pace` the time, `tools` and `join` what can be done to a finished path.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..types import Cameras
from .around import arc, orbit, spiral
from .framing import estimate_up, focus_point
from .join import join_paths
from .keys import KeyedPath, key_speeds, keyframes_from_json, read_keyed_path
from .moves import dolly, pan, tilt, zoom
from .pace import Easing, Pace
from .through import follow, keyframes, loop
from .tools import edit_path, offset_path, path_fov, resample_path, reverse_path, smooth_path, trim_path

__all__ = [
    "PRESETS",
    "Easing",
    "KeyedPath",
    "Pace",
    "arc",
    "dolly",
    "edit_path",
    "estimate_up",
    "focus_point",
    "follow",
    "join_paths",
    "key_speeds",
    "keyframes",
    "keyframes_from_json",
    "loop",
    "make_trajectory",
    "modifier_options",
    "offset_path",
    "orbit",
    "pan",
    "path_fov",
    "preset_options",
    "read_keyed_path",
    "resample_path",
    "reverse_path",
    "smooth_path",
    "spiral",
    "tilt",
    "trim_path",
    "zoom",
]


def _keyframes_preset(
    cameras: Cameras, frames: int | Pace, *, keys: str | Cameras | None = None, loop: bool = False
) -> Cameras:
    """`keyframes` through `keys` (cameras, or JSON as of `keyframes_from_json`), or through the inputs without them."""
    if not isinstance(keys, str):
        return keyframes(keys or cameras, frames, loop=loop)
    if not keys:
        return keyframes(cameras, frames, loop=loop)
    return keyframes(keyframes_from_json(keys, cameras), frames, loop=loop, speeds=key_speeds(keys))


PRESETS: dict[str, Callable[..., Cameras]] = {
    "follow": follow,
    "orbit": orbit,
    "arc": arc,
    "dolly": dolly,
    "pan": pan,
    "tilt": tilt,
    "spiral": spiral,
    "keyframes": _keyframes_preset,
    "zoom": zoom,
    "loop": loop,
}


def preset_options(preset: str) -> dict[str, Any]:
    """The options of a preset with their default values. Raises `ValueError` for an unknown preset."""
    if preset not in PRESETS:
        raise ValueError(f"unknown trajectory {preset!r}; choose one of {', '.join(PRESETS)}")
    return _keywords(PRESETS[preset])


def modifier_options() -> dict[str, Any]:
    """The options that `make_trajectory` has for every preset, with their default values."""
    return _keywords(make_trajectory)


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}


def make_trajectory(
    preset: str,
    cameras: Cameras,
    frames: int,
    *,
    speed: float = 1.0,
    easing: Easing = "linear",
    reverse: bool = False,
    path_smoothing: float = 0.0,
    **options: Any,
) -> Cameras:
    """The camera path called `preset` (a key of `PRESETS`) with `frames` cameras.

    Args:
        preset: name of the path.
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        speed: times the path is covered in these frames, > 0. Below 1 it ends early; above 1 an open path rests at its
            end and a closed one (whole turns of `orbit`, `arc`, `loop`, looping keyframes) goes round again.
        easing: how the pace changes: "linear" (even), "ease-in" (slow start), "ease-out" (slow end), "ease-in-out".
        reverse: walk the path from its end to its start.
        path_smoothing: standard deviation of a smoothing of the finished path, as a fraction of its frames.
        **options: keyword arguments of the preset's function, see `preset_options`.

    Raises:
        ValueError: unknown preset or option, no frames, or what the preset's function refuses.
    """
    known = preset_options(preset)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"trajectory {preset!r} has no option {', '.join(unknown)}; it knows {', '.join(known)}, and as every "
            f"preset {', '.join(modifier_options())}"
        )
    path = PRESETS[preset](cameras, Pace(frames, speed, easing, reverse), **options)
    return smooth_path(path, path_smoothing)
