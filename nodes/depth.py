"""Nodes that measure depth with a depth head."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import SceneModel
from ..scenetok_core.depth import colour_depth, grey_depth
from ..scenetok_core.point_depth import PointDepth
from ..scenetok_core.points.geometry import DepthSource, measure_depth, to_da3
from . import folders
from .devices import load_managed_head
from .sockets import (
    LARGEST_FIRST_SEED,
    DepthHeadSocket,
    GeometrySocket,
    ModelSocket,
    NodeProgress,
    SceneCamerasSocket,
    SceneTokensSocket,
    fault,
    image_from_frames,
    known,
    read_cameras,
    read_tokens,
    seed_input,
    steps_input,
)

_OWN_POINTS = "the model's own point maps"
_ALWAYS_AGAIN = float("nan")  # for linked inputs: unequal to itself, so no earlier result counts


class LoadDepthHead(io.ComfyNode):
    """Checkpoint file, or nothing more than the model -> what measures depth in its scenes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LoadDepthHead",
            display_name="Load Depth Head",
            category="SceneTok/loaders",
            description="Loads a depth head: a small addition to a SceneTok model that renders depth from its tokens. "
            "A head belongs to the weights it was trained on. A 3DRAE with point maps needs none.",
            inputs=[
                ModelSocket.Input("model", tooltip="From Load SceneTok: the model that made the tokens."),
                io.Combo.Input(
                    "depth_head",
                    options=[*folders.depth_head_names(), _OWN_POINTS],
                    tooltip="For a SceneTok its depth head (.safetensors), from models/scenetok or one that comes with "
                    f"the pack; for a 3DRAE: {_OWN_POINTS}.",
                ),
            ],
            outputs=[DepthHeadSocket.Output(display_name="depth_head", tooltip="The head, for Depth Head.")],
            **known(io.Schema, search_aliases=["depth", "geometry", "checkpoint"]),
        )

    @classmethod
    def validate_inputs(cls, depth_head: str | None = None) -> bool | str:
        """Refuse files that are not there before anything runs."""
        return True if depth_head == _OWN_POINTS else fault(folders.model_path, depth_head)

    @classmethod
    def fingerprint_inputs(cls, depth_head: str | None, **others: Any) -> str | float:
        """Load again when the file changes."""
        if depth_head == _OWN_POINTS:
            return _OWN_POINTS
        return _ALWAYS_AGAIN if depth_head is None else folders.fingerprint([folders.model_path(depth_head)])

    @classmethod
    def execute(cls, model: SceneModel, depth_head: str) -> io.NodeOutput:
        """Read the head into main memory, or take the model's own point maps."""
        if depth_head == _OWN_POINTS:
            return io.NodeOutput(PointDepth.of(model))
        return io.NodeOutput(load_managed_head(folders.model_path(depth_head), model))


class MeasureDepth(io.ComfyNode):
    """Depth head, scene tokens and camera path -> depth."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_DepthHead",
            display_name="Depth Head",
            category="SceneTok/depth",
            description="Renders the depth that every camera of a path sees: as pictures, and as geometry for Point "
            "Cloud and for ComfyUI's Depth Anything 3 nodes. Depth is measured along the camera's z axis in the unit "
            "of the input cameras: in metres if these are.",
            inputs=[
                DepthHeadSocket.Input("depth_head", tooltip="From Load Depth Head."),
                SceneTokensSocket.Input("tokens", tooltip="The scene, from Encode Views or Load Scene Tokens."),
                SceneCamerasSocket.Input("cameras", tooltip="One camera per frame, as for Render Trajectory."),
                steps_input(
                    "Sampling steps (0 to 1000).\n- 0: the head's own number, or the model's for several samples\n"
                    "- 1: the mean of all likely depths"
                ),
                io.Int.Input(
                    "samples",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Renderings for the confidence (1 to 64).\n- 1: one rendering, confidence is 1 everywhere"
                    "\n- more: depth is their mean, and confidence falls from 1 where they agree to 0 where their "
                    "standard deviation is 20 % of the depth\nPoint maps are measured once, with a confidence they "
                    "have learnt.",
                ),
                io.Float.Input(
                    "min_confidence",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Least confidence (0 to 1) of what the mask shows as valid.",
                ),
                seed_input("Seed of the first rendering; the others count up from it.", LARGEST_FIRST_SEED),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The frames that Render Trajectory made of the same path: colours of the geometry. "
                    "Without them, the depth itself in grey.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="depth",
                    tooltip="Depth as grey pictures, 0 (far) to 1 (near), even in inverse depth; one range for all "
                    "frames, without the outermost 2 %.",
                ),
                io.Image.Output(display_name="depth_coloured", tooltip="The same from dark blue to pale yellow."),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="1 where depth is valid: within the range that the head can show, or in front of the "
                    "camera, and confident; else 0.",
                ),
                io.Mask.Output(
                    display_name="confidence",
                    tooltip="Confidence, 0 to 1, as `samples` says. Of point maps: 1 - 1 / c of the learnt c.",
                ),
                GeometrySocket.Output(
                    display_name="geometry",
                    tooltip="Depth in units of the cameras with colours and cameras, for Point Cloud and the core "
                    "nodes of Depth Anything 3. Confidence is 0 outside of the head's range.",
                ),
            ],
            **known(io.Schema, search_aliases=["depth map", "disparity", "geometry", "metric depth"]),
        )

    @classmethod
    def execute(
        cls,
        depth_head: DepthSource,
        tokens: object,
        cameras: object,
        steps: int,
        samples: int,
        min_confidence: float,
        seed: int,
        images: Tensor | None = None,
    ) -> io.NodeOutput:
        """Render on the compute device; cancellable within a step."""
        posed = measure_depth(
            depth_head,
            read_tokens(tokens),
            read_cameras(cameras),
            rgb=None if images is None else images[..., :3].movedim(-1, -3),
            samples=samples,
            steps=steps or None,
            seed=seed,
            progress=NodeProgress(),
        )
        depth = posed.depth[:, None]
        grey = grey_depth(depth)[:, None].expand(-1, 3, -1, -1)
        return io.NodeOutput(
            image_from_frames(grey),
            image_from_frames(colour_depth(depth)),
            posed.mask(min_confidence).float(),
            posed.confidence,
            to_da3(posed),
        )
