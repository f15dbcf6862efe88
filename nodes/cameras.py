"""Nodes that make cameras and camera paths."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import make_trajectory
from ..scenetok_core.trajectories import modifier_options, preset_options
from ..scenetok_core.trajectories.framing import DEFAULT_FOV, single_camera
from ..scenetok_core.transfer import transfer_path
from .path_inputs import DEGREES, path_inputs, python_degrees
from .path_tools import path_and_report, report_output
from .sockets import SceneCamerasSocket, SceneTokensSocket, fault, known, read_cameras, read_tokens


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
            f"degrees starts at {DEGREES:g} for every preset; the Python functions start at {python_degrees()}.",
            inputs=path_inputs(),
            outputs=[
                SceneCamerasSocket.Output(
                    display_name="cameras",
                    tooltip="One camera per frame: OpenCV camera-to-world poses in the capture's unit.",
                ),
                report_output(),
            ],
            **known(
                io.Schema,
                search_aliases=["camera path", "camera move", "orbit", "dolly", "spiral", "keyframes", "fly-through"],
            ),
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
        keys: object = None,
        limit_to_seen: bool = False,
        **options: float | str | bool,
    ) -> io.NodeOutput:
        """Compute the path."""
        if cameras is None and tokens is None:
            raise ValueError("connect cameras, or tokens to use the cameras they were made from")
        inputs = read_tokens(tokens).cameras if cameras is None else read_cameras(cameras)
        values = {
            **options,
            "keys": str(options["keyframes"]).strip() or None if keys is None else read_cameras(keys),
            "reference": options["reference"] if options["reference"] != -1 else None,
            "focus_distance": options["focus_distance"] or None,
        }
        used = {name: values[name] for name in preset_options(preset) | modifier_options() if name in values}
        return path_and_report(make_trajectory(preset, inputs, frames, **used), inputs, limit_to_seen)


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
