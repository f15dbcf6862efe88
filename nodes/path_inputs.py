"""The inputs of Camera Trajectory, and what its help says."""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io

from ..scenetok_core.trajectories import PRESETS, Easing, modifier_options, preset_options
from .sockets import SceneCamerasSocket, SceneTokensSocket, known

_PRESET_HELP = """Shape of the path.
- follow: along the input cameras, in their order, smoothed
- orbit: around the point the cameras look at
- arc: swing around that point, right, left and back
- dolly: straight ahead (negative: back)
- pan, tilt: turn on the spot, to the right, upwards
- spiral: wind around the line to the point the cameras look at
- keyframes: through the cameras on the socket keys, or the keys given as JSON
- zoom: the field of view changes
- loop: along the input cameras and straight back to the first"""
_KEYFRAMES_HELP = """keyframes: the keys as a JSON list, in the capture's unit (axes: x right, y down, z forward).
- {"view": 3}: input camera 3 (0 = first)
- {"position": [x, y, z], "look_at": [x, y, z]}
- {"c2w": 4 x 4 matrix}
Each may have "fov", the vertical field of view in degrees, and "speed" there (0.05 to 20, 1 is the usual one).
Empty: through the input cameras. The socket keys comes first."""


DEGREES = 60.0  # one widget serves all presets, whose own defaults differ


def python_degrees() -> str:
    """Where the Python functions start the angle, if not as the node does."""
    own = {preset: preset_options(preset).get("degrees", DEGREES) for preset in PRESETS}
    return ", ".join(f"{degrees:g} for {preset}" for preset, degrees in own.items() if degrees != DEGREES)


def _default(option: str) -> float | bool:
    """Where `scenetok_core` starts an option that is equal in all presets that have it."""
    (value,) = {options[option] for options in map(preset_options, PRESETS) if option in options}
    return value


def path_inputs() -> list[io.Input]:
    """The inputs of Camera Trajectory; those that came later are optional and last, so that old prompts still run."""
    folded = known(io.Float.Input, advanced=True)
    return [
        io.Combo.Input("preset", options=list(PRESETS), default="follow", tooltip=_PRESET_HELP),
        io.Int.Input("frames", default=48, min=1, max=4096, tooltip="Number of cameras, so of frames (1 to 4096)."),
        *_amounts(folded),
        io.Int.Input(
            "reference",
            default=-1,
            min=-1,
            max=4095,
            tooltip="Input camera that the path starts from (0 = first; -1 = the most central one). Not for follow and "
            "keyframes.",
            **folded,
        ),
        io.Float.Input(
            "focus_distance",
            default=0.0,
            min=0.0,
            max=100000.0,
            step=0.001,
            tooltip="Distance of the point to turn around, in front of the reference camera, in the capture's unit "
            "(0 to 100000). 0 = where the input cameras' viewing directions meet.",
            **folded,
        ),
        io.Boolean.Input(
            "loop", default=bool(_default("loop")), tooltip="keyframes: come back to the first key.", **folded
        ),
        io.String.Input("keyframes", default="", multiline=True, tooltip=_KEYFRAMES_HELP),
        SceneCamerasSocket.Input(
            "cameras", optional=True, tooltip="The input cameras, from Load Views. Unconnected: those of the tokens."
        ),
        SceneTokensSocket.Input(
            "tokens", optional=True, tooltip="Scene tokens whose cameras are used when cameras is not connected."
        ),
        *_zooms(folded),
        *_modifiers(folded),
        SceneCamerasSocket.Input(
            "keys",
            optional=True,
            tooltip="keyframes: the cameras to pass through, in their order, instead of the JSON text.",
        ),
    ]


def _zooms(folded: dict[str, bool]) -> list[io.Input]:
    return [
        io.Float.Input(
            "zoom",
            default=_default("zoom"),
            min=0.05,
            max=20.0,
            step=0.05,
            optional=True,
            tooltip="zoom: focal length at the end, as a multiple of that at the start (0.05 to 20). Above 1 the field "
            "of view narrows.",
            **folded,
        ),
        io.Boolean.Input(
            "dolly_zoom",
            default=bool(_default("dolly_zoom")),
            optional=True,
            tooltip="zoom: move meanwhile, so that what is as far away as the focus keeps its size.",
            **folded,
        ),
    ]


def _modifiers(folded: dict[str, bool]) -> list[io.Input]:
    start = modifier_options()
    return [
        io.Float.Input(
            "speed",
            default=start["speed"],
            min=0.01,
            max=100.0,
            step=0.05,
            optional=True,
            tooltip="Every preset: how often the path is covered in these frames (0.01 to 100). 0.5: its first half. "
            "Above 1 an open path waits at its end, a closed one goes round again.",
            **folded,
        ),
        io.Combo.Input(
            "easing",
            options=list(get_args(Easing)),
            default=start["easing"],
            optional=True,
            tooltip="Every preset: how the pace changes.\n- linear: even\n- ease-in: starts slowly\n- ease-out: ends "
            "slowly\n- ease-in-out: both",
            **known(io.Combo.Input, **folded),
        ),
        io.Boolean.Input(
            "reverse",
            default=start["reverse"],
            optional=True,
            tooltip="Every preset: from the end of the path to its start.",
            **folded,
        ),
        io.Float.Input(
            "path_smoothing",
            default=start["path_smoothing"],
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="Every preset: smoothing of the finished path, as a fraction of its frames (0 to 1; 0 = none). Its "
            "ends stay where they are.",
            **folded,
        ),
        limit_input(),
    ]


def limit_input() -> io.Boolean.Input:
    """Whether a path is kept where the input cameras looked."""
    return io.Boolean.Input(
        "limit_to_seen",
        default=False,
        optional=True,
        tooltip="Bring frames that leave what the input cameras saw back to where they are inside. Off: they are "
        "rendered, and named in the report.",
        **known(io.Boolean.Input, advanced=True),
    )


def _amounts(folded: dict[str, bool]) -> list[io.Input]:
    return [
        io.Float.Input(
            "degrees",
            default=DEGREES,
            min=-3600.0,
            max=3600.0,
            step=1.0,
            tooltip="orbit, arc, pan, tilt: angle in degrees (-3600 to 3600; 360 = full circle). Positive: to the "
            "right, or upwards.",
        ),
        io.Float.Input(
            "distance",
            default=_default("distance"),
            min=-10.0,
            max=10.0,
            step=0.01,
            tooltip="dolly: length of the way, as a fraction of the distance to the point the cameras look at (-10 to "
            "10). Negative: backwards.",
        ),
        io.Float.Input(
            "radius",
            default=_default("radius"),
            min=0.0,
            max=10.0,
            step=0.01,
            tooltip="spiral: largest distance from its axis, as a fraction of the distance to the focus (0 to 10).",
            **folded,
        ),
        io.Float.Input(
            "turns",
            default=_default("turns"),
            min=-100.0,
            max=100.0,
            step=0.25,
            tooltip="spiral: number of turns (-100 to 100). Negative: the other way round.",
            **folded,
        ),
        io.Float.Input(
            "forward",
            default=_default("forward"),
            min=-10.0,
            max=0.95,
            step=0.01,
            tooltip="spiral: way along its axis, as a fraction of the distance to the focus (-10 to 0.95).",
            **folded,
        ),
        io.Float.Input(
            "smoothing",
            default=_default("smoothing"),
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="follow, loop: strength of the smoothing, as a fraction of the whole path (0 to 1; 0 = none).",
            **folded,
        ),
    ]
