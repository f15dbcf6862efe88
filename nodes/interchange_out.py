"""Nodes that give cameras to other packs and tools."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core.captures.export import FORMATS, check_format, save_cameras
from ..scenetok_core.interchange import to_cameractrl, to_load3d, to_matrices, to_wan
from . import folders
from .interchange import CATEGORY, CameraCtrlSocket, ExtrinsicsSocket, IntrinsicsSocket, read_sides, side_inputs
from .sockets import SceneCamerasSocket, fault, known, read_cameras, views_from_sockets


def _cameras_input() -> Any:
    return SceneCamerasSocket.Input("cameras", tooltip="From Load Views, Camera Trajectory and others.")


class CamerasToLoad3D(io.ComfyNode):
    """One of the cameras -> a viewer's camera."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CamerasToLoad3D",
            display_name="Camera to Load 3D",
            category=CATEGORY,
            description="Turns a camera of the scene into one of ComfyUI's 3-D viewers, which show its points (GLB, "
            "PLY) from there. A principal point outside the centre is lost.",
            inputs=[
                _cameras_input(),
                io.Int.Input("frame", default=0, min=0, max=4095, tooltip="Which camera (0 = first)."),
                io.Float.Input(
                    "distance",
                    default=0.0,
                    min=0.0,
                    max=100000.0,
                    step=0.001,
                    tooltip="Distance of the point around which the viewer turns, in the capture's unit (0 to "
                    "100000). 0: where the cameras look at.",
                    **known(io.Float.Input, advanced=True),
                ),
            ],
            outputs=[
                io.Load3DCamera.Output(
                    display_name="camera_info",
                    tooltip="With rotation and field of view, which viewers before ComfyUI 0.23 ignore.",
                )
            ],
            **known(io.Schema, search_aliases=["load3d camera", "camera info", "preview 3d"]),
        )

    @classmethod
    def execute(cls, cameras: object, frame: int, distance: float) -> io.NodeOutput:
        """Convert the camera."""
        return io.NodeOutput(to_load3d(read_cameras(cameras), frame, distance or None))


class CamerasToExtrinsics(io.ComfyNode):
    """Cameras -> matrices."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CamerasToExtrinsics",
            display_name="Cameras to Extrinsics",
            category=CATEGORY,
            description="Turns cameras into world-to-camera matrices (OpenCV axes) and intrinsics in pixels.",
            inputs=[
                _cameras_input(),
                *side_inputs(
                    (0, 0), "Size of the pictures in pixels (0 to 16384). 0: that of the cameras' own pictures."
                ),
            ],
            outputs=[
                ExtrinsicsSocket.Output(display_name="extrinsics", tooltip="World-to-camera matrices [V, 4, 4]."),
                IntrinsicsSocket.Output(display_name="intrinsics", tooltip="Intrinsics [V, 3, 3] in pixels."),
            ],
            **known(io.Schema, search_aliases=["pose matrix", "world to camera"]),
        )

    @classmethod
    def execute(cls, cameras: object, width: int, height: int) -> io.NodeOutput:
        """Convert the cameras."""
        return io.NodeOutput(*to_matrices(read_cameras(cameras), read_sides(width, height)))


class CamerasToCameraCtrl(io.ComfyNode):
    """Cameras -> CameraCtrl poses."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CamerasToCameraCtrl",
            display_name="Cameras to CameraCtrl Poses",
            category=CATEGORY,
            description="Turns cameras into the poses that the CameraCtrl nodes of AnimateDiff-Evolved, and others "
            "after them, take.",
            inputs=[_cameras_input()],
            outputs=[
                CameraCtrlSocket.Output(
                    display_name="poses", tooltip="One RealEstate10K row per camera, made for pictures of their shape."
                )
            ],
            **known(io.Schema, search_aliases=["realestate10k", "animatediff camera"]),
        )

    @classmethod
    def execute(cls, cameras: object) -> io.NodeOutput:
        """Convert the cameras."""
        return io.NodeOutput(to_cameractrl(read_cameras(cameras)))


class CamerasToWan(io.ComfyNode):
    """Cameras -> Wan's camera conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_CamerasToWan",
            display_name="Cameras to Wan Embedding",
            category=CATEGORY,
            description="Turns a path into the camera conditioning of Wan's camera models, in place of "
            "WanCameraEmbedding: a video model follows any path of this pack.",
            inputs=[
                SceneCamerasSocket.Input("cameras", tooltip="One camera per frame; 4 n + 1 of them, such as 49 or 81."),
                io.Int.Input(
                    "width",
                    default=832,
                    min=16,
                    max=16384,
                    step=16,
                    tooltip="Width of the video in pixels (16 to 16384).",
                ),
                io.Int.Input(
                    "height", default=480, min=16, max=16384, step=16, tooltip="Its height in pixels (16 to 16384)."
                ),
                io.Float.Input(
                    "scale",
                    default=0.0,
                    min=0.0,
                    max=100000.0,
                    step=0.001,
                    tooltip="Wan's units per unit of the path (0 to 100000). 0: automatic, the path goes as far as "
                    "WanCameraEmbedding's at speed 1 (1.5 units).",
                    **known(io.Float.Input, advanced=True),
                ),
            ],
            outputs=[
                io.WanCameraEmbedding.Output(
                    display_name="camera_embedding", tooltip="For camera_conditions of WanCameraImageToVideo."
                ),
                io.Int.Output(display_name="width", tooltip="Width of the video in pixels."),
                io.Int.Output(display_name="height", tooltip="Height of the video in pixels."),
                io.Int.Output(display_name="length", tooltip="Number of frames."),
            ],
            **known(io.Schema, search_aliases=["wan camera", "plucker embedding", "fun camera control"]),
        )

    @classmethod
    def execute(cls, cameras: object, width: int, height: int, scale: float) -> io.NodeOutput:
        """Make the embedding."""
        path = read_cameras(cameras)
        return io.NodeOutput(to_wan(path, (height, width), scale), width, height, len(path))


class SaveCameras(io.ComfyNode):
    """Cameras -> files."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_SaveCameras",
            display_name="Save Cameras",
            category=CATEGORY,
            description="Writes cameras as files of other tools, and the pictures beside them: a folder that Load "
            "Views, nerfstudio or COLMAP open.",
            inputs=[
                _cameras_input(),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="transforms.json",
                    tooltip="What to write.\n- transforms.json: nerfstudio\n- COLMAP: a sparse model as text, without "
                    "points\n- RealEstate10K: text, one line per camera, as CameraCtrl nodes load it",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="cameras/SceneTok",
                    tooltip="Folder below ComfyUI's output folder; a number is added.",
                ),
                io.Image.Input(
                    "images", optional=True, tooltip="The pictures of the cameras, one each, to be saved with them."
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="folder", tooltip="The new folder, relative to ComfyUI's output folder, as text."
                )
            ],
            is_output_node=True,
            **known(io.Schema, search_aliases=["export cameras", "write camera path", "colmap", "nerfstudio"]),
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None, format: str | None = None) -> bool | str:
        """Refuse paths outside the output folder and unknown formats before anything runs."""
        known_format = fault(check_format, format)
        path = fault(folders.output_prefix, filename_prefix)
        return path if known_format is True else known_format

    @classmethod
    def execute(cls, cameras: object, format: str, filename_prefix: str, images: Tensor | None = None) -> io.NodeOutput:
        """Write the files and list them for the history."""
        posed = read_cameras(cameras)
        rgb = None if images is None else views_from_sockets(images, cameras).rgb
        folder = folders.new_cameras_folder(filename_prefix)
        listed = [folders.listing(file) for file in save_cameras(folder, posed, format, rgb)]
        return io.NodeOutput(folder.relative_to(folders.output_folder()).as_posix(), ui={"cameras": listed})
