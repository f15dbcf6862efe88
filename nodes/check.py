"""A node that tells whether pictures and cameras fit each other."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import SceneModel
from ..scenetok_core.pictures.sheets import to_tensor
from ..scenetok_core.views.camera_check import READINGS, check_cameras
from .sockets import (
    ModelSocket,
    NodeProgress,
    SceneCamerasSocket,
    image_from_frames,
    known,
    scale_input,
    views_from_sockets,
)


class LeaveOneOut(io.ComfyNode):
    """Pictures and cameras -> renderings of hidden views, and whether other readings of the cameras fit better."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LeaveOneOut",
            display_name="Leave One Out",
            category="SceneTok/cameras",
            description="Hides views, renders them from the others and compares with the photographs. Then it reads "
            "the cameras in other ways that are common mistakes (inverted poses, other axes, another field of view, "
            "reversed order, another scale) and tells whether one fits better. Only as telling as the model is good on "
            "such pictures.",
            inputs=[
                ModelSocket.Input("model", tooltip="From Load SceneTok."),
                io.Image.Input(
                    "images", tooltip="Pictures of one place in the order they were taken, at least 4; values 0 to 1."
                ),
                SceneCamerasSocket.Input("cameras", tooltip="One camera per picture."),
                io.Int.Input(
                    "rounds",
                    default=2,
                    min=2,
                    max=64,
                    tooltip="Rounds of hiding (2 to 64); together they hide every view but the first and the last.\n- "
                    "2: every other view, then the rest\n- more: more inputs are left in each round; takes longer",
                ),
                io.Boolean.Input(
                    "alternatives",
                    default=True,
                    tooltip=f"Try {len(READINGS)} other readings of the cameras as well, each as long as the first.",
                ),
                scale_input(
                    "Model units per unit of the capture (0 to 10000), as for Encode Views.\n- 0: automatic, from the "
                    "extent of the cameras\n- 1: the capture's own units"
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="sheet", tooltip="Hidden photographs above their renderings, one picture."
                ),
                io.String.Output(
                    display_name="verdict", tooltip="What to do, then all figures in dB, for Preview as Text."
                ),
                io.Float.Output(
                    display_name="psnr", tooltip="Mean PSNR in dB of the renderings with the cameras as given."
                ),
            ],
            **known(
                io.Schema, search_aliases=["check cameras", "validate poses", "cross validation", "psnr", "held out"]
            ),
        )

    @classmethod
    def execute(
        cls, model: SceneModel, images: Tensor, cameras: object, rounds: int, alternatives: bool, scene_scale: float
    ) -> io.NodeOutput:
        """Encode and render on the compute device; cancellable between renderings."""
        result = check_cameras(
            model,
            views_from_sockets(images, cameras),
            rounds=rounds,
            scale=scene_scale or "auto",
            readings=READINGS if alternatives else (),
            progress=NodeProgress(),
        )
        return io.NodeOutput(image_from_frames(to_tensor(result.sheet())[None]), str(result), result.psnr)
