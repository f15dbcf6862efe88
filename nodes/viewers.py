"""Nodes that read the cameras of ComfyUI's 3-D viewers."""

from __future__ import annotations

from comfy_api.latest import io

from ..scenetok_core import Cameras
from ..scenetok_core.interchange import LAYOUTS, VIEWER_FOV, from_load3d, from_upright, insert_key, place_at, viewer_fit
from ..scenetok_core.views.selection import middle_view
from . import folders
from .interchange import CATEGORY, read_sides, side_inputs
from .sockets import SceneCamerasSocket, known, read_cameras

_ModelInfoSocket = io.Custom("LOAD3D_MODEL_INFO")

_CAPTURE, _UPRIGHT, _REFERENCE, _AS_IT_IS = "capture", "upright", "reference", "none"
_WORLDS = """What the viewer's world is.
- capture: the capture's own, with y and z turned round: the viewer shows points of this scene, from Point Cloud \
with axes flipped or from Depth Anything 3
- upright: points from Point Cloud with axes upright; connect the cameras that they were made with
- reference: something else; the viewer's origin, looking along -z, is laid onto a camera of the capture"""

_LAYOUTS = """How the viewer lays out the points of the file; viewers tell it nowhere. For world capture only.
- none: as they are (GLB in newer front ends)
- ball: PLY in newer front ends
- box: any file in older front ends (1.32 and about)"""


def _load3d_inputs() -> list[io.Input]:
    folded = known(io.Float.Input, advanced=True)
    return [
        io.Load3DCamera.Input(
            "camera_info", tooltip="Camera of a viewer: from Load 3D, Preview 3D, Create Camera Info and others."
        ),
        io.Combo.Input("world", options=[_CAPTURE, _UPRIGHT, _REFERENCE], default=_CAPTURE, tooltip=_WORLDS),
        io.Float.Input(
            "scale",
            default=1.0,
            min=0.000001,
            max=1000000.0,
            step=0.001,
            tooltip="Scene units per unit of the viewer (more than 0 to 1000000). For world reference only.",
            **folded,
        ),
        io.Int.Input(
            "reference",
            default=-1,
            min=-1,
            max=4095,
            tooltip="Camera of the capture onto which the viewer's origin is laid (0 = first; -1 = the most central "
            "one). For world reference only.",
            **known(io.Int.Input, advanced=True),
        ),
        io.Float.Input(
            "fov",
            default=VIEWER_FOV,
            min=1.0,
            max=170.0,
            step=0.5,
            tooltip="Vertical field of view in degrees (1 to 170), as set in the viewer. Only for viewers before "
            "ComfyUI 0.23, which do not tell theirs.",
            **folded,
        ),
        *side_inputs(
            (0, 0),
            "Size in pixels of the pictures to take with this camera (0 to 16384); the vertical field of view stays. "
            "0: as the connected cameras, else as the viewer's shape.",
        ),
    ]


def _load3d_sources() -> list[io.Input]:
    return [
        io.Combo.Input(
            "layout",
            options=[_AS_IT_IS, *LAYOUTS],
            default=_AS_IT_IS,
            optional=True,
            tooltip=_LAYOUTS,
            **known(io.Combo.Input, advanced=True),
        ),
        io.String.Input(
            "points",
            default="",
            optional=True,
            tooltip="The .ply or .glb file that the viewer shows, in ComfyUI's input folder; one in the output folder "
            "ends with [output]. For layout ball and box only.",
            **known(io.String.Input, advanced=True),
        ),
        SceneCamerasSocket.Input(
            "cameras",
            optional=True,
            tooltip="Cameras of the capture, from Load Views: their picture size and unit, and the reference.",
        ),
        _ModelInfoSocket.Input(
            "model_3d_info",
            optional=True,
            tooltip="From the same viewer (ComfyUI 0.23 or newer): where it has put the model. Connect it when the "
            "model was moved, turned, scaled or fitted to the view.",
        ),
    ]


def _viewer_camera(
    camera_info: object,
    world: str,
    scale: float,
    reference: int,
    fov: float,
    width: int,
    height: int,
    layout: str = _AS_IT_IS,
    points: str = "",
    cameras: object = None,
    model_3d_info: object = None,
) -> Cameras:
    capture = None if cameras is None else read_cameras(cameras)
    size = read_sides(width, height) or (capture.size if capture else None)
    fit = None if layout == _AS_IT_IS or world == _REFERENCE else viewer_fit(folders.points_path(points), layout)
    camera = from_load3d(camera_info, size, fov, model_3d_info, fit)
    if world not in (_CAPTURE, _UPRIGHT, _REFERENCE):
        raise ValueError(f"unknown world {world!r}; choose {_CAPTURE}, {_UPRIGHT} or {_REFERENCE}")
    if world == _CAPTURE:
        return camera if capture is None else camera.replace(unit=capture.unit)
    if capture is None:
        raise ValueError(f"world {world} needs the capture's cameras; connect them")
    if world == _UPRIGHT:
        return from_upright(camera, capture)
    index = middle_view(capture) if reference < 0 else reference
    if index >= len(capture):
        raise ValueError(f"reference must be between 0 and {len(capture) - 1}, got {reference}")
    return place_at(camera, capture[[index]], scale)


def _points_stamp(points: str | None) -> str | float:
    """What changes with the file; of a linked input, whose value is not known yet, always."""
    if points is None:
        return float("nan")
    return folders.fingerprint([folders.points_path(points)]) if points.strip() else ""


class CamerasFromLoad3D(io.ComfyNode):
    """A viewer's camera -> camera."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CamerasFromLoad3D",
            display_name="Camera from Load 3D",
            category=CATEGORY,
            description="Turns the camera of a 3-D viewer into a camera of the scene.",
            inputs=[*_load3d_inputs(), *_load3d_sources()],
            outputs=[SceneCamerasSocket.Output(display_name="cameras", tooltip="One camera, in the capture's world.")],
            **known(io.Schema, search_aliases=["load3d camera", "camera info", "three.js"]),
        )

    @classmethod
    def fingerprint_inputs(cls, points: str | None = "", **others: object) -> str | float:
        """Convert again when the file of points changes."""
        return _points_stamp(points)

    @classmethod
    def execute(cls, **viewer: object) -> io.NodeOutput:
        """Convert the camera."""
        return io.NodeOutput(_viewer_camera(**viewer).to_dict())  # pyright: ignore[reportArgumentType]


class AddKeyframe(io.ComfyNode):
    """Keys so far and a viewer's camera -> keys."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_AddKeyframe",
            display_name="Add Keyframe",
            category=CATEGORY,
            description="Adds the camera of a 3-D viewer to the keys of a camera path. Chain one node per key, then "
            "walk through the keys with Camera Trajectory.",
            inputs=[
                *_load3d_inputs(),
                io.Int.Input(
                    "place",
                    default=-1,
                    min=-1,
                    max=4095,
                    tooltip="Number of the new key among the keys (0 = first; -1 = last).",
                ),
                SceneCamerasSocket.Input(
                    "keys", optional=True, tooltip="The keys so far, from another Add Keyframe. Unconnected: none."
                ),
                *_load3d_sources(),
            ],
            outputs=[SceneCamerasSocket.Output(display_name="keys", tooltip="The keys with the new one.")],
            **known(io.Schema, search_aliases=["keyframe", "camera path", "load3d camera"]),
        )

    @classmethod
    def fingerprint_inputs(cls, points: str | None = "", **others: object) -> str | float:
        """Convert again when the file of points changes."""
        return _points_stamp(points)

    @classmethod
    def execute(cls, place: int, keys: object = None, **viewer: object) -> io.NodeOutput:
        """Convert the camera and insert it."""
        camera = _viewer_camera(**viewer)  # pyright: ignore[reportArgumentType]
        return io.NodeOutput(insert_key(None if keys is None else read_cameras(keys), camera, place).to_dict())
