"""Nodes that change, join and show camera paths."""

from __future__ import annotations

import logging

from comfy_api.latest import io, ui
from torch import Tensor

from ..scenetok_core.pictures.path_preview import draw_path
from ..scenetok_core.pictures.sheets import to_tensor
from ..scenetok_core.trajectories import edit_path, join_paths
from ..scenetok_core.types import Cameras
from ..scenetok_core.views.seen import Seen, describe_seen, limit_to_seen, measure_seen
from .path_inputs import limit_input
from .sockets import SceneCamerasSocket, image_from_frames, known, read_cameras

_CATEGORY = "SceneTok/cameras"
_log = logging.getLogger("SceneTok")


def report_output() -> io.String.Output:
    """What the input cameras saw of a path."""
    return io.String.Output(
        display_name="report",
        tooltip="Whether the path stays in what the input cameras saw, and which frames leave it by how much.",
    )


def check_path(path: Cameras, inputs: Cameras, limit: bool) -> tuple[Cameras, Seen]:
    """A path, limited where asked, and how it sees what the inputs saw; a warning in the log where it leaves that."""
    path = limit_to_seen(path, inputs) if limit else path
    seen = measure_seen(path, inputs)
    if bool(seen.outside.any()):
        _log.warning("%s", describe_seen(seen))
    return path, seen


def path_and_report(path: Cameras, inputs: Cameras, limit: bool) -> io.NodeOutput:
    """A path and its report; a warning on the node and in the log where it leaves what was seen."""
    path, seen = check_path(path, inputs, limit)
    report = describe_seen(seen)
    return io.NodeOutput(path.to_dict(), report, ui=ui.PreviewText(report) if bool(seen.outside.any()) else None)


class EditTrajectory(io.ComfyNode):
    """Camera path -> the same path, changed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_EditTrajectory",
            display_name="Edit Trajectory",
            category=_CATEGORY,
            description="Changes a camera path, in the order of the inputs: trim, reverse, resample, smooth, offset, "
            "field of view. As it is added, nothing changes.",
            inputs=[
                SceneCamerasSocket.Input("path", tooltip="The cameras of a path, one per frame."),
                *_time_inputs(),
                *_offset_inputs(),
                *_lens_inputs(),
                SceneCamerasSocket.Input(
                    "cameras",
                    optional=True,
                    tooltip="The input cameras, from Load Views: the measure of offsets, and of what was seen. "
                    "Unconnected: offsets are measured by the path itself, and nothing is reported or limited.",
                ),
                limit_input(),
            ],
            outputs=[
                SceneCamerasSocket.Output(display_name="cameras", tooltip="The changed path."),
                report_output(),
            ],
            **known(io.Schema, search_aliases=["reverse path", "retime", "resample", "smooth path", "offset camera"]),
        )

    @classmethod
    def execute(
        cls,
        path: object,
        trim_start: int,
        trim_end: int,
        reverse: bool,
        frames: int,
        even_pace: bool,
        smoothing: float,
        right: float,
        down: float,
        forward: float,
        fov: float,
        zoom: float,
        cameras: object = None,
        limit_to_seen: bool = False,
    ) -> io.NodeOutput:
        """Change the path."""
        inputs = None if cameras is None else read_cameras(cameras)
        if limit_to_seen and inputs is None:
            raise ValueError("limit_to_seen needs the input cameras; connect cameras")
        edited = edit_path(
            read_cameras(path),
            trim=(trim_start, trim_end),
            reverse=reverse,
            frames=frames or None,
            even=even_pace,
            smoothing=smoothing,
            offset=(right, down, forward),
            fov=fov or None,
            zoom=zoom,
            around=inputs,
        )
        if inputs is None:
            return io.NodeOutput(edited.to_dict(), "")
        return path_and_report(edited, inputs, limit_to_seen)


def _time_inputs() -> list[io.Input]:
    return [
        io.Int.Input("trim_start", default=0, min=0, max=4095, tooltip="Frames to take from the start (0 to 4095)."),
        io.Int.Input("trim_end", default=0, min=0, max=4095, tooltip="Frames to take from the end (0 to 4095)."),
        io.Boolean.Input("reverse", default=False, tooltip="From the last frame to the first."),
        io.Int.Input(
            "frames",
            default=0,
            min=0,
            max=4096,
            tooltip="Number of frames of the result, on the same way (1 to 4096). 0: as many as there are.",
        ),
        io.Boolean.Input(
            "even_pace",
            default=False,
            tooltip="Walk at constant pace. Off: slow and fast parts stay as they are.",
            **known(io.Boolean.Input, advanced=True),
        ),
        io.Float.Input(
            "smoothing",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Takes shake out: a fraction of the whole path (0 to 1; 0 = none). Its ends stay.",
        ),
    ]


def _offset_inputs() -> list[io.Input]:
    ways = {"right": "to its right", "down": "downwards in its picture", "forward": "along its view"}
    return [
        io.Float.Input(
            name,
            default=0.0,
            min=-10.0,
            max=10.0,
            step=0.01,
            tooltip=f"Move every camera {way}, as a fraction of the distance to the point the input cameras look at "
            "(-10 to 10). Negative: the other way.",
        )
        for name, way in ways.items()
    ]


def _lens_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "fov",
            default=0.0,
            min=0.0,
            max=170.0,
            step=0.5,
            tooltip="Vertical field of view in degrees (0 to 170). 0: that of each camera.",
        ),
        io.Float.Input(
            "zoom",
            default=1.0,
            min=0.05,
            max=20.0,
            step=0.05,
            tooltip="Focal length times this (0.05 to 20). Above 1 the field of view narrows.",
        ),
    ]


class JoinTrajectories(io.ComfyNode):
    """Two camera paths -> one after another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_JoinTrajectories",
            display_name="Join Trajectories",
            category=_CATEGORY,
            description="Puts one camera path after another, with frames between that lead over smoothly.",
            inputs=[
                SceneCamerasSocket.Input("first", tooltip="The path that comes first."),
                SceneCamerasSocket.Input("second", tooltip="The path that follows, in the same space."),
                io.Int.Input(
                    "blend",
                    default=12,
                    min=0,
                    max=4096,
                    tooltip="Frames between the paths (0 to 4096): they leave the first and meet the second as fast as "
                    "those move. 0: none; a camera at which the paths meet is shown once.",
                ),
            ],
            outputs=[SceneCamerasSocket.Output(display_name="cameras", tooltip="Both paths, one camera per frame.")],
            **known(io.Schema, search_aliases=["concatenate paths", "append path", "combine trajectories"]),
        )

    @classmethod
    def execute(cls, first: object, second: object, blend: int) -> io.NodeOutput:
        """Join them."""
        return io.NodeOutput(join_paths(read_cameras(first), read_cameras(second), blend).to_dict())


class PathPreview(io.ComfyNode):
    """Camera path and input cameras -> a drawing of both."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_PathPreview",
            display_name="Path Preview",
            category=_CATEGORY,
            description="Draws a camera path among the input cameras: from above, from behind, from the side, and over "
            "the first input picture. Colours go from the first frame to the last; red edges mark where the path "
            "leaves what the input cameras saw.",
            inputs=[
                SceneCamerasSocket.Input("path", tooltip="The cameras of a path, one per frame."),
                SceneCamerasSocket.Input("cameras", tooltip="The input cameras, from Load Views."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The input pictures: the first one is drawn behind the path. Unconnected: grey.",
                ),
                SceneCamerasSocket.Input("keys", optional=True, tooltip="Cameras to mark as the path's keys."),
                io.Int.Input(
                    "width",
                    default=1280,
                    min=320,
                    max=4096,
                    optional=True,
                    tooltip="Width of the drawing in pixels (320 to 4096).",
                    **known(io.Int.Input, advanced=True),
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="One picture, values 0 to 1.")],
            is_output_node=True,
            **known(io.Schema, search_aliases=["show camera path", "visualize trajectory", "frustums"]),
        )

    @classmethod
    def execute(
        cls, path: object, cameras: object, images: Tensor | None = None, keys: object = None, width: int = 1280
    ) -> io.NodeOutput:
        """Draw them."""
        drawing = draw_path(
            read_cameras(path),
            read_cameras(cameras),
            None if images is None else images[0, ..., :3].movedim(-1, 0),
            keys=None if keys is None else read_cameras(keys),
            width=width,
        )
        image = image_from_frames(to_tensor(drawing)[None])
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
