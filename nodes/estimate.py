"""Nodes for photographs without poses: frames of a video, cameras by structure from motion."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.latest import Input, io
from torch import Tensor

from ..scenetok_core.views.frame_selection import pick_frames
from ..scenetok_core.views.photograph import load_photographs
from ..scenetok_core.views.pose_estimation import EstimationConfig, Lens, Order, estimate_cameras
from . import folders
from .sockets import NodeProgress, SceneCamerasSocket, fault, image_from_frames, known

_CATEGORY = "SceneTok/cameras"
_LONGEST_S = 86400.0


def _side_input(own: str) -> io.Int.Input:
    return io.Int.Input(
        "max_side",
        default=1280,
        min=0,
        max=8192,
        step=8,
        tooltip=f"Longest side of the pictures in pixels (0 to 8192); larger ones are reduced. 0: the {own}.",
    )


class FramesFromVideo(io.ComfyNode):
    """Video -> sharp, well spread frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_FramesFromVideo",
            display_name="Frames from Video",
            category=_CATEGORY,
            description="Picks sharp frames of a video, spread over what the camera saw: a pause counts once. The "
            "video is decoded frame by frame, so it may be long; frames are turned upright.",
            inputs=[
                io.Video.Input("video", tooltip="From Load Video."),
                io.Int.Input(
                    "count", default=40, min=1, max=1000, tooltip="Most frames (1 to 1000); 30 to 100 for a room."
                ),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=_LONGEST_S,
                    step=0.1,
                    tooltip="Seconds from the start before which no frame is taken (0 to 86400).",
                ),
                io.Float.Input(
                    "end",
                    default=0.0,
                    min=0.0,
                    max=_LONGEST_S,
                    step=0.1,
                    tooltip="Seconds after which no frame is taken (0 to 86400). 0: the video's end.",
                ),
                io.Float.Input(
                    "min_sharpness",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="A frame is dropped when it is less sharp than this share (0 to 1) of those around it. 0: "
                    "none is.",
                    **known(io.Float.Input, advanced=True),
                ),
                _side_input("video's own size"),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The frames in the order of time; values 0 to 1."),
                io.String.Output(display_name="times", tooltip="Their times in seconds, one a line."),
            ],
            **known(io.Schema, search_aliases=["extract frames", "key frames", "video to images", "sharp frames"]),
        )

    @classmethod
    def execute(
        cls, video: Input.Video, count: int, start: float, end: float, min_sharpness: float, max_side: int
    ) -> io.NodeOutput:
        """Decode twice, one frame at a time."""
        picked = pick_frames(
            video.get_stream_source(),
            count,
            start_s=start,
            end_s=end or None,
            min_sharpness=min_sharpness,
            max_side=max_side or None,
            progress=NodeProgress(),
        )
        times = "\n".join(f"{time_s:.3f}" for time_s in picked.times_s)
        return io.NodeOutput(image_from_frames(picked.rgb), times)


class LoadPictures(io.ComfyNode):
    """Folder -> pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LoadPictures",
            display_name="Load Pictures",
            category="SceneTok/loaders",
            description="Loads the photographs of a folder in ComfyUI's input folder as one batch, turned upright, in "
            "the order of their names; for Estimate Cameras. Photographs with known cameras: Load Views.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folders.picture_folder_names(),
                    tooltip="A folder with pictures of one size in ComfyUI's input folder. The entry that starts with "
                    "'example:' comes with the pack.",
                ),
                io.Int.Input(
                    "max_pictures",
                    default=100,
                    min=0,
                    max=10000,
                    tooltip="Of more pictures so many are taken, evenly spread (0 to 10000). 0: all.",
                ),
                _side_input("own size"),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures; values 0 to 1."),
                io.Float.Output(
                    display_name="fov",
                    tooltip="Field of view across the longer side in degrees, by the EXIF data, for Estimate Cameras. "
                    "0: they tell none, or several.",
                ),
            ],
            **known(io.Schema, search_aliases=["load images", "image folder", "photographs", "batch"]),
        )

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        """Refuse folders without pictures before anything runs."""
        return fault(folders.pictures_in, folder)

    @classmethod
    def fingerprint_inputs(cls, folder: str | None, **others: Any) -> str | float:
        """Load again when a picture changes."""
        return float("nan") if folder is None else folders.fingerprint(folders.pictures_in(folder))

    @classmethod
    def execute(cls, folder: str, max_pictures: int, max_side: int) -> io.NodeOutput:
        """Decode the pictures."""
        paths = folders.pictures_in(folder)
        rgb, fov = load_photographs(paths, max_pictures or None, max_side or None, NodeProgress())
        return io.NodeOutput(image_from_frames(rgb), fov or 0.0)


class EstimateCameras(io.ComfyNode):
    """Pictures -> cameras, by structure from motion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_EstimateCameras",
            display_name="Estimate Cameras",
            category=_CATEGORY,
            description="Finds the cameras of photographs of one place by structure from motion. Needs the package "
            "pycolmap (pip install pycolmap); runs on the processor, in minutes for a hundred pictures. Pictures that "
            "find no place are left out; lens distortion is removed.",
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Photographs of one place, at least 3, all of one size and not cropped; 640 pixels and "
                    "more along the longer side work best. From Frames from Video or Load Image.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(get_args(Order)),
                    default="auto",
                    tooltip="Which pictures are compared.\n- auto: all pairs up to 60 pictures, else as video\n- "
                    "video: those near in time, and every so many with each other\n- unordered: all pairs",
                ),
                io.Combo.Input(
                    "lens",
                    options=list(get_args(Lens)),
                    default="simple_radial",
                    tooltip="Lens model.\n- simple_radial: one coefficient of distortion, for most cameras\n- pinhole: "
                    "pictures are already straightened\n- opencv: four coefficients, for wide lenses and many pictures",
                ),
                io.Float.Input(
                    "fov",
                    default=0.0,
                    min=0.0,
                    max=150.0,
                    step=0.5,
                    tooltip="Field of view across the longer side in degrees (0 to 150), refined from there.\n- 0: not "
                    "known\n- about 65 for a telephone's main camera",
                ),
                io.Boolean.Input(
                    "shared_camera",
                    default=True,
                    tooltip="All pictures come from one camera with one zoom. Off: a focal length for each picture.",
                ),
                io.Int.Input(
                    "random_seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    tooltip="Seed of the random choices (0 to 2147483647): another one may place more pictures.",
                    **known(io.Int.Input, advanced=True),
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures that found their place, straightened."),
                SceneCamerasSocket.Output(
                    display_name="cameras",
                    tooltip="Their cameras: OpenCV camera-to-world poses in an arbitrary frame and unit.",
                ),
                io.String.Output(
                    display_name="report", tooltip="How well it went, in figures and as a verdict, for Preview as Text."
                ),
            ],
            **known(
                io.Schema,
                search_aliases=["colmap", "structure from motion", "sfm", "pose estimation", "photogrammetry"],
            ),
        )

    @classmethod
    def execute(
        cls, images: Tensor, order: Order, lens: Lens, fov: float, shared_camera: bool, random_seed: int
    ) -> io.NodeOutput:
        """Run in a process of its own; cancellable at any time."""
        rgb = images[..., :3].movedim(-1, -3)
        config = EstimationConfig(
            order=order, lens=lens, fov_degrees=fov or None, shared_camera=shared_camera, seed=random_seed
        )
        bar = NodeProgress()
        found = estimate_cameras(rgb, config, lambda done, total, _: bar(done, total))
        views = found.views(rgb)
        return io.NodeOutput(image_from_frames(views.rgb), views.cameras.to_dict(), str(found.report))
