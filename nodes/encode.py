"""The node that makes scene tokens of posed pictures."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import SceneModel
from .sockets import (
    LARGEST_SEED,
    ModelSocket,
    NodeProgress,
    SceneCamerasSocket,
    SceneTokensSocket,
    known,
    scale_input,
    views_from_sockets,
)


class EncodeViews(io.ComfyNode):
    """Pictures and cameras -> scene tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_EncodeViews",
            display_name="Encode Views",
            category="SceneTok/tokens",
            description="Compresses posed pictures of one place into a small set of scene tokens. Of more pictures "
            "than the model takes, sharp ones far apart from each other are chosen.",
            inputs=[
                ModelSocket.Input("model", tooltip="From Load SceneTok."),
                io.Image.Input(
                    "images",
                    tooltip="Pictures of one place as one batch, in the order of the cameras; values 0 to 1. They are "
                    "resized and cropped at the centre: to the model's square, or with 3DRAE to the nearest size it "
                    "takes, with their proportions.",
                ),
                SceneCamerasSocket.Input("cameras", tooltip="One camera per picture, from Load Views."),
                scale_input(
                    "Model units per unit of the capture (0 to 10000).\n- 0: automatic, from the extent of the "
                    "cameras, so that the capture's unit does not matter\n- 1: the capture's own units"
                ),
                io.Int.Input(
                    "reference",
                    default=-1,
                    min=-1,
                    max=4095,
                    tooltip="Number of the picture whose camera becomes the scene's origin (0 = first). -1 = the "
                    "most central one; with 3DRAE the first.",
                    **known(io.Int.Input, advanced=True),
                ),
                io.Boolean.Input(
                    "sample",
                    default=False,
                    optional=True,
                    tooltip="Draw latents and tokens from their posteriors, as the original method does, instead of "
                    "taking the means. Models without a posterior give the same tokens.",
                    **known(io.Boolean.Input, advanced=True),
                ),
                io.Int.Input(
                    "sample_seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    optional=True,
                    tooltip="Seed for sample; without it, nothing is drawn.",
                    **known(io.Int.Input, advanced=True),
                ),
            ],
            outputs=[
                SceneTokensSocket.Output(
                    display_name="tokens", tooltip="The scene's tokens with the cameras they were made from."
                ),
            ],
            **known(io.Schema, search_aliases=["compress scene", "scene encoder", "images to scene", "scene tokens"]),
        )

    @classmethod
    def execute(
        cls,
        model: SceneModel,
        images: Tensor,
        cameras: object,
        scene_scale: float,
        reference: int,
        sample: bool = False,
        sample_seed: int = 0,
    ) -> io.NodeOutput:
        """Encode on the compute device."""
        views = views_from_sockets(images, cameras)
        scene = model.encode(
            views,
            reference=None if reference < 0 else reference,
            scale=scene_scale or "auto",
            sample=sample,
            generator=torch.Generator().manual_seed(sample_seed),
            progress=NodeProgress(),
        )
        return io.NodeOutput(scene.to_dict())
