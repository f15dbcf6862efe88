"""Nodes that read cameras as other packs and tools have them."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core.interchange import from_cameractrl, from_depth_anything, from_matrices, from_realestate_text
from .sockets import SceneCamerasSocket, image_from_frames, known

CATEGORY = "SceneTok/cameras/convert"
CameraCtrlSocket = io.Custom("CAMERACTRL_POSES")
ExtrinsicsSocket = io.Custom("EXTRINSICS")
IntrinsicsSocket = io.Custom("INTRINSICS")
_DepthAnythingSocket = io.Custom("DA3_GEOMETRY")


def side_inputs(default: tuple[int, int], tooltip: str) -> list[io.Input]:
    """Width and height of pictures; `default` is (height, width)."""
    sides = (("width", default[1]), ("height", default[0]))
    return [io.Int.Input(name, default=value, min=0, max=16384, tooltip=tooltip) for name, value in sides]


def read_sides(width: int, height: int, image: Tensor | None = None) -> tuple[int, int] | None:
    """(height, width) of `image`, else of the inputs, None when these are 0."""
    if image is not None:
        return image.shape[1], image.shape[2]
    return (height, width) if width and height else None


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
