"""Nodes that load: models and posed pictures."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io

from ..scenetok_core import open_generator, open_model
from ..scenetok_core.captures import Capture
from ..scenetok_core.trajectories.framing import DEFAULT_FOV
from ..scenetok_core.views.photograph import load_photograph
from ..scenetok_core.views.selection import select_views
from . import folders
from .devices import DTYPES, load_managed
from .sockets import (
    GeneratorSocket,
    ModelSocket,
    NodeProgress,
    SceneCamerasSocket,
    always_again,
    fault,
    image_from_frames,
    known,
)

_CATEGORY = "SceneTok/loaders"
_FOV_SOURCES = {
    "given": "as set",
    "exif": "by the focal length in the EXIF data",
    "default": "the default, as the EXIF data tell no focal length",
}
_log = logging.getLogger("SceneTok")


def _dtype_input() -> io.Combo.Input:
    """The number format of a checkpoint's weights."""
    return io.Combo.Input(
        "dtype",
        options=list(DTYPES),
        default="auto",
        tooltip="Number format of the weights.\n- auto: suits the device\n- bf16, fp16: half the memory"
        "\n- fp32: most exact",
        **known(io.Combo.Input, advanced=True),
    )


def _compile_input() -> io.Boolean.Input:
    """Whether to compile the networks; optional, so that workflows from before it was offered still run."""
    return io.Boolean.Input(
        "compile",
        default=False,
        optional=True,
        tooltip="Compile the networks with torch.compile. The first run takes a minute longer, later ones may be "
        "faster; needs a C++ compiler on a CPU, Triton on a GPU.",
        **known(io.Boolean.Input, advanced=True),
    )


class LoadModel(io.ComfyNode):
    """Checkpoint file -> model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LoadModel",
            display_name="Load SceneTok",
            category=_CATEGORY,
            description="Loads a scene model, which makes tokens of views and pictures of tokens: a SceneTok or a "
            "3DRAE. The nodes take either; its tokens belong to it.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=folders.scene_model_names(),
                    tooltip="Checkpoint (.safetensors) from models/scenetok, or one that comes with the pack.\n- "
                    "SceneTok: unordered tokens; square pictures are sampled\n- 3DRAE: ordered latents; pictures of "
                    "any proportions in one pass, with depth of its own",
                ),
                _dtype_input(),
                _compile_input(),
            ],
            outputs=[
                ModelSocket.Output(display_name="model", tooltip="The model, for Encode Views and Render Trajectory."),
            ],
            **known(io.Schema, search_aliases=["scene tokens", "novel view synthesis", "nvs", "checkpoint"]),
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        """Refuse files that are not there before anything runs."""
        return fault(folders.model_path, model)

    @classmethod
    def fingerprint_inputs(cls, model: str | None, **others: Any) -> str | float:
        """Load again when the file changes."""
        return always_again() if model is None else folders.fingerprint([folders.model_path(model)])

    @classmethod
    def execute(cls, model: str, dtype: str, compile: bool = False) -> io.NodeOutput:  # the input's name
        """Read the checkpoint into main memory."""
        return io.NodeOutput(load_managed(open_model, folders.model_path(model), dtype, compile))


class LoadGenerator(io.ComfyNode):
    """Checkpoint file -> scene generator."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LoadGenerator",
            display_name="Load SceneGen",
            category=_CATEGORY,
            description="Loads a scene generator, which draws the tokens of a whole scene: a SceneGen (for a SceneTok, "
            "from one to three pictures) or a 3DDiT (for a 3DRAE, from none, one or several).",
            inputs=[
                io.Combo.Input(
                    "generator",
                    options=folders.generator_names(),
                    tooltip="Checkpoint of a scene generator (.safetensors) from models/scenetok, or one that comes "
                    "with the pack. It draws for the scene model it was trained on.",
                ),
                _dtype_input(),
                _compile_input(),
            ],
            outputs=[
                GeneratorSocket.Output(
                    display_name="generator", tooltip="The generator, for SceneGen Sample and Sweep."
                )
            ],
            **known(io.Schema, search_aliases=["scene generation", "checkpoint"]),
        )

    @classmethod
    def validate_inputs(cls, generator: str | None = None) -> bool | str:
        """Refuse files that are not there before anything runs."""
        return fault(folders.model_path, generator)

    @classmethod
    def fingerprint_inputs(cls, generator: str | None, **others: Any) -> str | float:
        """Load again when the file changes."""
        return always_again() if generator is None else folders.fingerprint([folders.model_path(generator)])

    @classmethod
    def execute(cls, generator: str, dtype: str, compile: bool = False) -> io.NodeOutput:
        """Read the checkpoint into main memory."""
        return io.NodeOutput(load_managed(open_generator, folders.model_path(generator), dtype, compile))


class LoadViews(io.ComfyNode):
    """Posed capture -> pictures and cameras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LoadViews",
            display_name="Load Views",
            category=_CATEGORY,
            description="Loads photographs of one place together with their cameras: nerfstudio or instant-ngp "
            "transforms.json, COLMAP (text or binary), RealEstate10K text, or a folder with cameras.json. "
            "Lens distortion is removed.",
            inputs=[
                io.Combo.Input(
                    "capture",
                    options=folders.capture_names(),
                    tooltip="A capture in ComfyUI's input folder, as a path relative to it: a folder, a camera file, "
                    "or a .zip with both. Entries that start with 'example:' come with the pack.",
                ),
                io.Int.Input(
                    "max_views",
                    default=64,
                    min=0,
                    max=4096,
                    tooltip="Most pictures to load (0 to 4096; 0 = all). Of a larger capture, a well spread subset is "
                    "taken. Encode Views chooses again, so that the model gets the sharpest of these.",
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=0,
                    max=8192,
                    step=8,
                    tooltip="Side of the square pictures in pixels (0 to 8192): resized to cover the square, cropped "
                    "at the centre, never enlarged. 0 = the pictures' own size, which must then be one for all.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures as a batch, in the order of the cameras."),
                SceneCamerasSocket.Output(
                    display_name="cameras",
                    tooltip="One camera per picture: OpenCV camera-to-world poses in the capture's unit, intrinsics "
                    "divided by picture width and height.",
                ),
            ],
            **known(io.Schema, search_aliases=["colmap", "nerfstudio", "transforms.json", "posed images", "cameras"]),
        )

    @classmethod
    def validate_inputs(cls, capture: str | None = None) -> bool | str:
        """Refuse captures that are not there before anything runs."""
        return fault(folders.capture_path, capture)

    @classmethod
    def fingerprint_inputs(cls, capture: str | None, **others: Any) -> str | float:
        """Load again when a file of the capture changes."""
        return always_again() if capture is None else folders.fingerprint(folders.capture_files(capture))

    @classmethod
    def execute(cls, capture: str, max_views: int, size: int) -> io.NodeOutput:
        """Open the capture, choose views, decode them."""
        opened = folders.open_named_capture(capture)
        if 0 < max_views < len(opened):
            opened = opened.subset(select_views(opened.cameras, max_views))
        views = opened.load(size=_side(opened, size), progress=NodeProgress())
        return io.NodeOutput(image_from_frames(views.rgb), views.cameras.to_dict())


class LoadPhotograph(io.ComfyNode):
    """One picture file -> picture and a camera at the origin."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LoadPhotograph",
            display_name="Load Photograph",
            category=_CATEGORY,
            description="Loads one photograph whose pose is not known, turned upright, with a camera at the origin. "
            "The field of view comes from the focal length in its EXIF data, which Load Image drops.",
            inputs=[
                io.Combo.Input(
                    "image",
                    options=folders.photograph_names(),
                    upload=io.UploadType.image,
                    image_folder=io.FolderType.input,
                    tooltip="A picture in ComfyUI's input folder. The entry that starts with 'example:' comes with the "
                    "pack.",
                ),
                io.Float.Input(
                    "fov",
                    default=0.0,
                    min=0.0,
                    max=150.0,
                    step=0.5,
                    tooltip="Field of view across the longer side, in degrees (0 to 150).\n- 0: by the EXIF data; "
                    f"{DEFAULT_FOV:g} if they tell no focal length\n- about 65 for a telephone's main camera, 40 for a "
                    "50 mm lens on 35 mm film",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture at its own size; values 0 to 1."),
                SceneCamerasSocket.Output(display_name="cameras", tooltip="One camera at the origin, looking along z."),
                io.Float.Output(
                    display_name="fov", tooltip="The field of view across the longer side that was used, in degrees."
                ),
                io.String.Output(display_name="fov_source", tooltip="The same for people, and where it comes from."),
            ],
            **known(io.Schema, search_aliases=["single image", "exif", "focal length", "field of view"]),
        )

    @classmethod
    def validate_inputs(cls, image: str | None = None) -> bool | str:
        """Refuse pictures that are not there before anything runs."""
        return fault(folders.photograph_path, image)

    @classmethod
    def fingerprint_inputs(cls, image: str | None, **others: Any) -> str | float:
        """Load again when the file changes."""
        return always_again() if image is None else folders.fingerprint([folders.photograph_path(image)])

    @classmethod
    def execute(cls, image: str, fov: float) -> io.NodeOutput:
        """Decode the picture and find its field of view."""
        photograph = load_photograph(folders.photograph_path(image), fov or None)
        degrees, view = photograph.fov_degrees, photograph.view
        told = f"{degrees:.1f} degrees across the longer side, {_FOV_SOURCES[photograph.source]}"
        _log.info("%s: field of view %s", image, told)
        return io.NodeOutput(image_from_frames(view.rgb), view.cameras.to_dict(), degrees, told)


def _side(capture: Capture, size: int) -> int | None:
    return min(size, *(min(picture) for picture in capture.sizes)) if size else None
