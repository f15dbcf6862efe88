"""Nodes that read cameras as other packs and tools have them."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import Cameras
from ..scenetok_core.interchange import (
    VIEWER_FOV,
    from_cameractrl,
    from_depth_anything,
    from_load3d,
    from_matrices,
    from_realestate_text,
    insert_key,
    place_at,
)
from ..scenetok_core.selection import middle_view
from .sockets import SceneCamerasSocket, image_from_frames, known, read_cameras

CATEGORY = "SceneTok/cameras/convert"
CameraCtrlSocket = io.Custom("CAMERACTRL_POSES")
ExtrinsicsSocket = io.Custom("EXTRINSICS")
IntrinsicsSocket = io.Custom("INTRINSICS")
_DepthAnythingSocket = io.Custom("DA3_GEOMETRY")
_ModelInfoSocket = io.Custom("LOAD3D_MODEL_INFO")

_CAPTURE, _REFERENCE = "capture", "reference"
_WORLDS = """What the viewer's world is.
- capture: the capture's own, with y up: the viewer shows points of this scene (GLB or PLY, as this pack and Depth \
Anything 3 write them)
- reference: something else; the viewer's origin, looking along -z, is laid onto a camera of the capture"""


def side_inputs(default: tuple[int, int], tooltip: str) -> list[io.Input]:
    """Width and height of pictures; `default` is (height, width)."""
    sides = (("width", default[1]), ("height", default[0]))
    return [io.Int.Input(name, default=value, min=0, max=16384, tooltip=tooltip) for name, value in sides]


def read_sides(width: int, height: int, image: Tensor | None = None) -> tuple[int, int] | None:
    """(height, width) of `image`, else of the inputs, None when these are 0."""
    if image is not None:
        return image.shape[1], image.shape[2]
    return (height, width) if width and height else None


def _load3d_inputs() -> list[io.Input]:
    folded = known(io.Float.Input, advanced=True)
    return [
        io.Load3DCamera.Input(
            "camera_info", tooltip="Camera of a viewer: from Load 3D, Preview 3D, Create Camera Info and others."
        ),
        io.Combo.Input("world", options=[_CAPTURE, _REFERENCE], default=_CAPTURE, tooltip=_WORLDS),
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
    cameras: object = None,
    model_3d_info: object = None,
) -> Cameras:
    capture = None if cameras is None else read_cameras(cameras)
    size = read_sides(width, height) or (capture.size if capture else None)
    camera = from_load3d(camera_info, size, fov, model_3d_info)
    if world not in (_CAPTURE, _REFERENCE):
        raise ValueError(f"unknown world {world!r}; choose {_CAPTURE} or {_REFERENCE}")
    if world == _CAPTURE:
        return camera if capture is None else camera.replace(unit=capture.unit)
    if capture is None:
        raise ValueError("world reference needs the capture's cameras; connect them")
    index = middle_view(capture) if reference < 0 else reference
    if index >= len(capture):
        raise ValueError(f"reference must be between 0 and {len(capture) - 1}, got {reference}")
    return place_at(camera, capture[[index]], scale)


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
    def execute(cls, place: int, keys: object = None, **viewer: object) -> io.NodeOutput:
        """Convert the camera and insert it."""
        camera = _viewer_camera(**viewer)  # pyright: ignore[reportArgumentType]
        return io.NodeOutput(insert_key(None if keys is None else read_cameras(keys), camera, place).to_dict())


class CamerasFromExtrinsics(io.ComfyNode):
    """Matrices -> cameras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CamerasFromExtrinsics",
            display_name="Cameras from Extrinsics",
            category=CATEGORY,
            description="Turns world-to-camera matrices (OpenCV axes) and intrinsics in pixels into cameras.",
            inputs=[
                ExtrinsicsSocket.Input("extrinsics", tooltip="World-to-camera matrices [V, 4, 4] or [V, 3, 4]."),
                IntrinsicsSocket.Input("intrinsics", tooltip="Intrinsics [V, 3, 3] in pixels, or one for all."),
                *side_inputs(
                    (0, 0),
                    "Size of the pictures in pixels for which the intrinsics were made (0 to 16384). 0: that of image, "
                    "else twice the principal point.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The pictures that the intrinsics belong to; only their size counts.",
                ),
            ],
            outputs=[SceneCamerasSocket.Output(display_name="cameras", tooltip="One camera per matrix.")],
            **known(io.Schema, search_aliases=["pose matrix", "intrinsics", "world to camera"]),
        )

    @classmethod
    def execute(
        cls, extrinsics: Tensor, intrinsics: Tensor, width: int, height: int, image: Tensor | None = None
    ) -> io.NodeOutput:
        """Convert the matrices."""
        return io.NodeOutput(from_matrices(extrinsics, intrinsics, read_sides(width, height, image)).to_dict())


class CamerasFromCameraCtrl(io.ComfyNode):
    """CameraCtrl poses, or RealEstate10K text -> cameras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CamerasFromCameraCtrl",
            display_name="Cameras from CameraCtrl Poses",
            category=CATEGORY,
            description="Turns the poses of AnimateDiff-Evolved's CameraCtrl nodes, or the text of a RealEstate10K "
            "file, into cameras.",
            inputs=[
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="RealEstate10K lines, with or without the address: timestamp, fx fy cx cy divided by width "
                    "and height, 0 0, and a 3 x 4 world-to-camera matrix. Empty when poses are connected.",
                ),
                *side_inputs(
                    (720, 1280),
                    "Size in pixels of the pictures for which the poses were made, which they do not tell (0 to 16384; "
                    "CameraCtrl assumes 1280 x 720). 0: unknown, they fit any picture.",
                ),
                CameraCtrlSocket.Input("poses", optional=True, tooltip="From Load CameraCtrl Poses and its kin."),
                io.Image.Input("image", optional=True, tooltip="Pictures whose size is taken instead."),
            ],
            outputs=[SceneCamerasSocket.Output(display_name="cameras", tooltip="One camera per row.")],
            **known(io.Schema, search_aliases=["realestate10k", "animatediff camera", "load camera poses"]),
        )

    @classmethod
    def execute(
        cls, text: str, width: int, height: int, poses: object = None, image: Tensor | None = None
    ) -> io.NodeOutput:
        """Convert the rows."""
        if (poses is None) != bool(text.strip()):
            raise ValueError("give either poses or text, not both; connect poses, or paste RealEstate10K lines")
        size = read_sides(width, height, image)
        cameras = from_realestate_text(text, size) if poses is None else from_cameractrl(poses, size)
        return io.NodeOutput(cameras.to_dict())


class CamerasFromDA3(io.ComfyNode):
    """Depth Anything 3 geometry -> pictures and cameras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CamerasFromDA3",
            display_name="Cameras from DA3 Geometry",
            category=CATEGORY,
            description="Takes pictures and cameras out of what Run Depth Anything 3 (ComfyUI 0.25 or newer) found in "
            "mode multiview: posed views from photographs without poses.",
            inputs=[
                _DepthAnythingSocket.Input(
                    "da3_geometry",
                    tooltip="From Run Depth Anything 3: mode multiview, a Small or Base model, all pictures at once.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures, as they went in."),
                SceneCamerasSocket.Output(
                    display_name="cameras", tooltip="One camera per picture, in the network's own unit."
                ),
            ],
            **known(io.Schema, search_aliases=["depth anything 3", "pose estimation", "structure from motion"]),
        )

    @classmethod
    def execute(cls, da3_geometry: object) -> io.NodeOutput:
        """Convert the cameras."""
        views = from_depth_anything(da3_geometry)
        return io.NodeOutput(image_from_frames(views.rgb), views.cameras.to_dict())
