"""Nodes that make cameras and camera paths."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import make_trajectory
from ..scenetok_core.framing import DEFAULT_FOV, single_camera
from ..scenetok_core.trajectories import PRESETS, preset_options
from ..scenetok_core.transfer import transfer_path
from .sockets import SceneCamerasSocket, SceneTokensSocket, fault, known, read_cameras, read_tokens

_PRESET_HELP = """Shape of the path.
- follow: along the input cameras, in their order, smoothed
- orbit: around the point the cameras look at
- arc: swing around that point, right, left and back
- dolly: straight ahead (negative: back)
- pan, tilt: turn on the spot, to the right, upwards
- spiral: wind around the line to the point the cameras look at
- keyframes: through the keys given as JSON"""
_KEYFRAMES_HELP = """keyframes: the keys as a JSON list, in the capture's unit (axes: x right, y down, z forward).
- {"view": 3}: input camera 3 (0 = first)
- {"position": [x, y, z], "look_at": [x, y, z]}
- {"c2w": 4 x 4 matrix}
Each may have "fov": vertical field of view in degrees. Empty: through the input cameras."""


_DEGREES = 60.0  # one widget serves all presets, whose own defaults differ


def _python_degrees() -> str:
    own = {preset: preset_options(preset).get("degrees", _DEGREES) for preset in PRESETS}
    return ", ".join(f"{degrees:g} for {preset}" for preset, degrees in own.items() if degrees != _DEGREES)


def _default(option: str) -> float | bool:
    """Where `scenetok_core` starts an option that only one preset has."""
    (value,) = (options[option] for options in map(preset_options, PRESETS) if option in options)
    return value


class CameraTrajectory(io.ComfyNode):
    """Input cameras -> camera path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CameraTrajectory",
            display_name="Camera Trajectory",
            category="SceneTok/cameras",
            description="Makes a camera path in the space of the input cameras. Settings that a preset does not use "
            "are ignored. Lengths are fractions of the distance to the point the cameras look at. "
            f"degrees starts at {_DEGREES:g} for every preset; the Python functions start at {_python_degrees()}.",
            inputs=_path_inputs(),
            outputs=[
                SceneCamerasSocket.Output(
                    display_name="cameras",
                    tooltip="One camera per frame: OpenCV camera-to-world poses in the capture's unit.",
                ),
            ],
            **known(io.Schema, search_aliases=["camera path", "orbit", "dolly", "keyframes", "fly-through"]),
        )

    @classmethod
    def validate_inputs(cls, preset: str | None = None) -> bool | str:
        """Refuse unknown presets before anything runs."""
        return fault(preset_options, preset)

    @classmethod
    def execute(
        cls,
        preset: str,
        frames: int,
        cameras: object = None,
        tokens: object = None,
        **options: float | str | bool,
    ) -> io.NodeOutput:
        """Compute the path."""
        if cameras is None and tokens is None:
            raise ValueError("connect cameras, or tokens to use the cameras they were made from")
        inputs = read_tokens(tokens).cameras if cameras is None else read_cameras(cameras)
        values = {
            **options,
            "keys": str(options["keyframes"]).strip() or None,
            "reference": options["reference"] if options["reference"] != -1 else None,
            "focus_distance": options["focus_distance"] or None,
        }
        used = {name: values[name] for name in preset_options(preset)}
        return io.NodeOutput(make_trajectory(preset, inputs, frames, **used).to_dict())


class SingleViewCamera(io.ComfyNode):
    """A picture without a pose -> a camera at the origin."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_SingleViewCamera",
            display_name="Single View Camera",
            category="SceneTok/cameras",
            description="Gives one picture without a known pose a camera at the origin, for SceneGen Sample and Camera "
            "Trajectory.",
            inputs=[
                io.Image.Input("image", tooltip="One picture; its shape sets the camera's."),
                io.Float.Input(
                    "fov",
                    default=DEFAULT_FOV,
                    min=5.0,
                    max=150.0,
                    step=0.5,
                    tooltip="Field of view across the longer side, in degrees (5 to 150). About 65 for a telephone's "
                    "main camera, 40 for a 50 mm lens on 35 mm film.",
                ),
            ],
            outputs=[SceneCamerasSocket.Output(display_name="cameras", tooltip="One camera looking along z.")],
            **known(io.Schema, search_aliases=["identity pose", "field of view"]),
        )

    @classmethod
    def execute(cls, image: Tensor, fov: float) -> io.NodeOutput:
        """Make the camera."""
        if len(image) != 1:
            raise ValueError(f"expected one picture, got a batch of {len(image)}; choose one, or load posed views")
        height, width = image.shape[1:3]
        return io.NodeOutput(single_camera((height, width), fov).to_dict())


class TransferTrajectory(io.ComfyNode):
    """The camera path of another capture -> camera path in this scene."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_TransferTrajectory",
            display_name="Transfer Trajectory",
            category="SceneTok/cameras",
            description="Walks the cameras of one capture through the scene of another: the path's reference camera is "
            "laid onto the scene's most central one. Fields of view stay those of the path.",
            inputs=[
                SceneCamerasSocket.Input("path", tooltip="The cameras to follow, from another Load Views."),
                SceneTokensSocket.Input("tokens", tooltip="The scene in which they are followed."),
                io.Float.Input(
                    "scale",
                    default=0.0,
                    min=0.0,
                    max=100000.0,
                    step=0.001,
                    tooltip="Scene units per unit of the path (0 to 100000). 0: automatic, so that the path is as long "
                    "from end to end as the scene's own cameras lie apart.",
                ),
                io.Int.Input(
                    "reference",
                    default=-1,
                    min=-1,
                    max=4095,
                    tooltip="Camera of the path that is laid onto the scene's (0 = first; -1 = the most central one).",
                    **known(io.Int.Input, advanced=True),
                ),
            ],
            outputs=[
                SceneCamerasSocket.Output(display_name="cameras", tooltip="The path in the scene's space and unit.")
            ],
            **known(io.Schema, search_aliases=["copy camera path", "camera from video"]),
        )

    @classmethod
    def execute(cls, path: object, tokens: object, scale: float, reference: int) -> io.NodeOutput:
        """Carry the path over."""
        onto = read_tokens(tokens).cameras
        carried = transfer_path(read_cameras(path), onto, scale or None, None if reference < 0 else reference)
        return io.NodeOutput(carried.to_dict())


def _path_inputs() -> list[io.Input]:
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
            tooltip="Distance of the point to turn around, in front of the reference camera, in the capture's unit. "
            "0 = where the input cameras' viewing directions meet.",
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
    ]


def _amounts(folded: dict[str, bool]) -> list[io.Input]:
    return [
        io.Float.Input(
            "degrees",
            default=_DEGREES,
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
            tooltip="spiral: number of turns.",
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
            tooltip="follow: strength of the smoothing, as a fraction of the whole path (0 to 1; 0 = none).",
            **folded,
        ),
    ]
