"""Camera paths: follow the inputs, orbit, arc, dolly, pan, tilt, spiral, keyframes. Pure functions to `Cameras`.

Every path has as many cameras as asked for, keeps `size` and `unit` of its inputs and scales with them: inputs in other
units give the same path in those units. Paths are computed on the CPU and returned on the inputs' device. Conventions:
OpenCV axes (x right, y down, z forward), angles in degrees, lengths as fractions of the distance to the focus point.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .framing import estimate_up, focus_point, look_at, one_scene
from .selection import middle_view
from .splines import Keys, constant_pace, matrix_from_quaternion, quaternion_from_matrix, rotation_about, smooth
from .types import Cameras

_SMOOTHING_SAMPLES = 512


def _fractions(frames: int, closed: bool = False) -> Tensor:
    """Times [T] in [0, 1]; a closed path leaves out 1, which is its first picture again."""
    if isinstance(frames, bool) or int(frames) != frames or frames < 1:
        raise ValueError(f"a camera path needs at least 1 frame, got {frames} frames")
    if closed:
        return torch.arange(frames, dtype=torch.float64) / frames
    return torch.linspace(0, 1, int(frames), dtype=torch.float64)


def _sweep(degrees: float, frames: int) -> Tensor:
    """Angles [T] in radians from 0 to `degrees`; whole turns are closed."""
    whole_turns = degrees != 0 and math.isclose(degrees % 360.0, 0.0, abs_tol=1e-9)
    return _fractions(frames, closed=whole_turns) * math.radians(degrees)


class _Rig(NamedTuple):
    """Where a path starts."""

    cameras: Cameras
    reference: int
    position: Tensor  # [3] float64
    rotation: Tensor  # [3, 3] float64, the reference camera's own
    pivot: Tensor  # [3] float64
    up: Tensor  # [3] float64
    device: torch.device  # of the caller's cameras; all else is on the CPU

    @property
    def aimed(self) -> Tensor:
        """The reference camera turned to look at the pivot, [3, 3]."""
        return look_at(self.position, self.pivot, self.up, self.rotation)

    def path(self, position: Tensor, rotation: Tensor) -> Cameras:
        """Cameras with the reference camera's intrinsics; [T, 3] and [T, 3, 3], either one may be broadcast."""
        frames = max(position.shape[0] if position.ndim == 2 else 1, rotation.shape[0] if rotation.ndim == 3 else 1)
        K = self.cameras.K[self.reference].double()
        path = _cameras(self.cameras, position.expand(frames, 3), rotation.expand(frames, 3, 3), K.expand(frames, 3, 3))
        return path.to(self.device)


def _rig(cameras: Cameras, reference: int | None, focus_distance: float | None) -> _Rig:
    scene = one_scene(cameras)
    index = middle_view(scene) if reference is None else reference
    if not 0 <= index < len(scene):
        raise ValueError(f"reference view must be between 0 and {len(scene) - 1}, got {reference}")
    if focus_distance is not None and not (math.isfinite(focus_distance) and focus_distance > 0):
        raise ValueError(f"focus_distance must be a positive length in scene units, got {focus_distance}")
    position = scene.centers[index].double()
    rotation = matrix_from_quaternion(quaternion_from_matrix(scene.c2w[index, :3, :3]))
    pivot = focus_point(scene).double() if focus_distance is None else position + rotation[:, 2] * focus_distance
    return _Rig(scene, index, position, rotation, pivot, estimate_up(scene).double(), cameras.c2w.device)


def _cameras(like: Cameras, position: Tensor, rotation: Tensor, K: Tensor) -> Cameras:
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(position), 1, 1)
    c2w[:, :3, :3], c2w[:, :3, 3] = rotation, position
    device = like.c2w.device
    return like.replace(c2w=c2w.to(device), K=K.to(device), names=())


def _circle(rig: _Rig, angles: Tensor) -> Cameras:
    turn = rotation_about(rig.up, angles)
    return rig.path(rig.pivot + turn @ (rig.position - rig.pivot), turn @ rig.aimed)


def orbit(
    cameras: Cameras,
    frames: int,
    *,
    degrees: float = 360.0,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Circle around the focus point at the reference camera's height and distance, always looking at that point.

    Starts where the reference camera stands; positive degrees move the camera to its right. Whole turns leave out the
    last camera, which would repeat the first, so that the video loops.

    Args:
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        degrees: angle of the path.
        reference: input view to start from; None = the middle one (`selection.middle_view`).
        focus_distance: put the pivot this far in front of the reference camera, scene units; None = `focus_point`.

    Raises:
        ValueError: no frames, an unknown reference view, or a focus distance that is not positive.
    """
    return _circle(_rig(cameras, reference, focus_distance), _sweep(degrees, frames))


def arc(
    cameras: Cameras,
    frames: int,
    *,
    degrees: float = 60.0,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Swing on a circle around the focus point: half of `degrees` to the right, to the left, and back; the video loops.

    Arguments and errors as for `orbit`.
    """
    swing = torch.sin(2 * math.pi * _fractions(frames, closed=True)) * math.radians(degrees) / 2
    return _circle(_rig(cameras, reference, focus_distance), swing)


def dolly(
    cameras: Cameras,
    frames: int,
    *,
    distance: float = 0.5,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Move straight along the reference camera's viewing direction; it does not turn.

    Args:
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        distance: length of the path as a fraction of the distance to the focus point; negative moves back.
        reference: as for `orbit`.
        focus_distance: as for `orbit`.

    Raises:
        ValueError: as for `orbit`.
    """
    rig = _rig(cameras, reference, focus_distance)
    step = rig.rotation[:, 2] * (rig.pivot - rig.position).norm() * distance
    return rig.path(rig.position + _fractions(frames)[:, None] * step, rig.rotation)


def pan(cameras: Cameras, frames: int, *, degrees: float = 45.0, reference: int | None = None) -> Cameras:
    """Turn the reference camera about the world's up direction; positive degrees look to the right.

    Arguments and errors as for `orbit`.
    """
    rig = _rig(cameras, reference, None)
    return rig.path(rig.position, rotation_about(rig.up, -_sweep(degrees, frames)) @ rig.rotation)


def tilt(cameras: Cameras, frames: int, *, degrees: float = 30.0, reference: int | None = None) -> Cameras:
    """Turn the reference camera about its own x axis; positive degrees look up.

    Arguments and errors as for `orbit`.
    """
    rig = _rig(cameras, reference, None)
    return rig.path(rig.position, rotation_about(rig.rotation[:, 0], _sweep(degrees, frames)) @ rig.rotation)


def spiral(
    cameras: Cameras,
    frames: int,
    *,
    radius: float = 0.2,
    turns: float = 2.0,
    forward: float = 0.2,
    reference: int | None = None,
    focus_distance: float | None = None,
) -> Cameras:
    """Wind around the line from the reference camera to the focus point, looking at that point all the time.

    The spiral opens from the line to `radius` halfway and closes again, so it starts at the reference camera and ends
    straight ahead of it.

    Args:
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        radius: largest distance from the line, as a fraction of the distance to the focus point.
        turns: number of turns, the sign sets the direction.
        forward: motion along the line, as a fraction of the distance to the focus point, below 1.
        reference: as for `orbit`.
        focus_distance: as for `orbit`.

    Raises:
        ValueError: as for `orbit`, or `forward` that reaches the focus point.
    """
    if not forward < 1:
        raise ValueError(f"forward must stay below 1, the focus point itself, got {forward}")
    rig = _rig(cameras, reference, focus_distance)
    time = _fractions(frames)
    distance, aimed = (rig.pivot - rig.position).norm(), rig.aimed
    angle = 2 * math.pi * turns * time
    opening = radius * torch.sin(math.pi * time)
    local = torch.stack([opening * angle.cos(), opening * angle.sin(), forward * time], dim=-1) * distance
    position = rig.position + local @ aimed.T
    return rig.path(position, look_at(position, rig.pivot, rig.up, aimed))


def _keys(cameras: Cameras) -> Keys:
    scene = one_scene(cameras)
    return Keys(scene.centers.double(), quaternion_from_matrix(scene.c2w[:, :3, :3]), scene.K.double())


def keyframes(keys: Cameras | Sequence[Cameras], frames: int, *, loop: bool = False) -> Cameras:
    """A smooth path through keys at constant pace.

    Positions follow a centripetal Catmull-Rom curve, rotations turn from key to key along the shortest arc,
    intrinsics are interpolated. The pace counts translation, rotation and zoom together (`splines.path_lengths`); a
    repeated key takes no time, a single key is a still shot. The path starts at the first key and ends at the last
    one; with `loop` it returns to the first one, without repeating it.

    Args:
        keys: the keys in order, as `Cameras` or a list of them.
        frames: number of cameras, >= 1.
        loop: close the path.

    Raises:
        ValueError: no keys, no frames, or keys of several scenes.
    """
    times = _fractions(frames, closed=loop)
    joined = keys if isinstance(keys, Cameras) else _join(keys)
    path = constant_pace(_keys(joined), times, loop=loop)
    return _cameras(joined, path.position, matrix_from_quaternion(path.quaternion), path.K)


def _join(keys: Sequence[Cameras]) -> Cameras:
    if not keys:
        raise ValueError("a keyframe path needs at least one key, got none")
    parts = [one_scene(key) for key in keys]
    c2w, K = (torch.cat([getattr(part, name) for part in parts]) for name in ("c2w", "K"))
    return keys[0].replace(c2w=c2w.to(keys[0].c2w.device), K=K.to(keys[0].c2w.device), names=())


def follow(cameras: Cameras, frames: int, *, smoothing: float = 0.02) -> Cameras:
    """Walk along the inputs in their order at constant pace, without the shake of a hand-held camera.

    Starts at the first input and ends at the last one, exactly.

    Args:
        cameras: the input cameras of one scene, in order.
        frames: number of cameras, >= 1.
        smoothing: standard deviation of the smoothing, as a fraction of the path's length; 0 passes through every
            input.

    Raises:
        ValueError: no frames, cameras of several scenes, or negative smoothing.
    """
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise ValueError(f"smoothing must be 0 or a positive fraction of the path, got {smoothing}")
    times, keys = _fractions(frames), _keys(cameras)
    if smoothing > 0 and len(cameras) > 2:
        keys = smooth(constant_pace(keys, _fractions(_SMOOTHING_SAMPLES)), smoothing * _SMOOTHING_SAMPLES)
    path = constant_pace(keys, times)
    return _cameras(cameras, path.position, matrix_from_quaternion(path.quaternion), path.K)


_ENTRY_KEYS = {
    "view": {"view", "fov"},
    "c2w": {"c2w", "fov"},
    "position": {"position", "look_at", "fov"},
}
_ENTRY_FORMS = (
    '{"view": 0}, {"c2w": 4 x 4} or {"position": [x, y, z], "look_at": [x, y, z]}, each with an optional "fov"'
)


def keyframes_from_json(text: str, like: Cameras) -> Cameras:
    """Read keys from a JSON list.

    An entry is `{"view": i}` (input camera i), `{"c2w": 4 x 4}` (OpenCV camera-to-world) or `{"position": [x, y, z],
    "look_at": [x, y, z]}`, in the inputs' scene units. Each may have `"fov"`, the vertical field of view in degrees of
    a whole picture of `like.size`, before a model crops it to its square; without it the intrinsics are those of the
    input view, or of the middle one.

    Args:
        text: the JSON text.
        like: the input cameras of one scene.

    Returns:
        One camera per entry, with the `size` and `unit` of `like`.

    Raises:
        ValueError: not a JSON list, an empty one, or a broken entry, which is named by its number.
    """
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"keyframes are not valid JSON ({error}); expected a list of {_ENTRY_FORMS}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"keyframes must be a non-empty JSON list of {_ENTRY_FORMS}, got {text.strip()[:60]}")
    rig = _rig(like, None, None)
    keys = []
    for number, entry in enumerate(entries):
        try:
            keys.append(_read_key(entry, rig))
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"keyframe {number}: {error}") from error
    return _join(keys).to(like.c2w.device)


def _read_key(entry: object, rig: _Rig) -> Cameras:
    kind = next((name for name in _ENTRY_KEYS if isinstance(entry, Mapping) and name in entry), None)
    if not isinstance(entry, Mapping) or kind is None:
        raise ValueError(f"expected {_ENTRY_FORMS}, got {json.dumps(entry)[:80]}")
    unknown, required = set(entry) - _ENTRY_KEYS[kind], _ENTRY_KEYS[kind] - {"fov"}
    if unknown or required - set(entry):
        raise ValueError(f"needs {sorted(required)} and may have 'fov', got {sorted(entry)}")
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
    """K with another vertical field of view in degrees; pixel shape and principal point are kept."""
    if isinstance(fov, bool) or not isinstance(fov, (int, float)) or not 0 < fov < 180:
        raise ValueError(f"fov must be a vertical angle between 0 and 180 degrees, got {fov!r}")
    zoom = 0.5 / math.tan(math.radians(fov) / 2) / K[..., 1, 1]
    stretch = torch.stack([zoom, zoom, torch.ones_like(zoom)], dim=-1)
    return torch.where(torch.eye(3, dtype=torch.bool, device=K.device), K * stretch[..., None], K)


def _keyframes_preset(cameras: Cameras, frames: int, *, keys: str | None = None, loop: bool = False) -> Cameras:
    """`keyframes` through `keys` (JSON, see `keyframes_from_json`), or through the inputs when there are none."""
    return keyframes(keyframes_from_json(keys, cameras) if keys else cameras, frames, loop=loop)


PRESETS: dict[str, Callable[..., Cameras]] = {
    "follow": follow,
    "orbit": orbit,
    "arc": arc,
    "dolly": dolly,
    "pan": pan,
    "tilt": tilt,
    "spiral": spiral,
    "keyframes": _keyframes_preset,
}


def preset_options(preset: str) -> dict[str, Any]:
    """The options of a preset with their default values. Raises `ValueError` for an unknown preset."""
    if preset not in PRESETS:
        raise ValueError(f"unknown trajectory {preset!r}; choose one of {', '.join(PRESETS)}")
    parameters = inspect.signature(PRESETS[preset]).parameters.values()
    return {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}


def make_trajectory(preset: str, cameras: Cameras, frames: int, **options: Any) -> Cameras:
    """The camera path called `preset` (a key of `PRESETS`) with `frames` cameras.

    Args:
        preset: name of the path.
        cameras: the input cameras of one scene.
        frames: number of cameras, >= 1.
        **options: keyword arguments of the preset's function, see `preset_options`.

    Raises:
        ValueError: unknown preset or option, no frames, or what the preset's function refuses.
    """
    known = preset_options(preset)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"trajectory {preset!r} has no option {', '.join(unknown)}; it knows {', '.join(known)}")
    return PRESETS[preset](cameras, frames, **options)
