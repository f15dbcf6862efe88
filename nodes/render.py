"""Nodes that make pictures from scene tokens."""

from __future__ import annotations

from typing import Any, get_args

import torch
from comfy_api.latest import io

from ..scenetok_core import SceneModel
from ..scenetok_core.configs import QUALITIES, TemporalTiles
from ..scenetok_core.uncertainty import as_mask, heat_map, render_uncertainty
from .sockets import (
    LARGEST_FIRST_SEED,
    MODEL_SOLVER,
    ModelSocket,
    NodeProgress,
    SceneCamerasSocket,
    SceneTokensSocket,
    fps_input,
    guidance_input,
    image_from_frames,
    known,
    read_cameras,
    read_solver,
    read_tokens,
    seed_input,
    solver_input,
    steps_input,
    video_of,
)

_MOST_VIEWS = 4096


def _scene_inputs() -> list[Any]:
    """The model and the scene that it renders."""
    return [
        ModelSocket.Input("model", tooltip="From Load SceneTok: the model that encoded the tokens."),
        SceneTokensSocket.Input("tokens", tooltip="The scene, from Encode Views or Load Scene Tokens."),
    ]


def _views_per_pass_input() -> Any:
    return io.Int.Input(
        "views_per_pass",
        default=0,
        min=0,
        max=_MOST_VIEWS,
        optional=True,
        tooltip=f"Frames that are made together (0 to {_MOST_VIEWS}), in whole groups of frames of the model. If they "
        "do not fit into memory, half of them are tried.\n- 0: the model's own number\n- fewer: less memory; each "
        "frame sees fewer of its neighbours, so the pictures change\n- more: several windows at once, where the "
        "model's windows are independent; same pictures\nWith 3DRAE pictures do not change, unless it was trained "
        "with global attention.",
        **known(io.Int.Input, advanced=True),
    )


class RenderTrajectory(io.ComfyNode):
    """Scene tokens and camera path -> pictures and video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_RenderTrajectory",
            display_name="Render Trajectory",
            category="SceneTok/render",
            description="Renders what every camera of a path sees of the scene. Any number of cameras: frames are "
            "made window by window and leave the graphics card as they are made; models whose latents span several "
            "frames render on to a whole group at the path's end, and the surplus is dropped. SceneTok's pictures are "
            "square: of wider cameras the middle is rendered; 3DRAE's have the cameras' proportions, and take one pass "
            "that no setting of the sampling changes. Of a list of scenes, one is rendered after the other.",
            inputs=[
                *_scene_inputs(),
                SceneCamerasSocket.Input(
                    "cameras",
                    tooltip="One camera per frame, in the space of the encoded cameras: from Camera Trajectory.",
                ),
                steps_input(
                    "Sampling steps per window of frames (0 to 1000).\n- 0: the model's own number\n- 1: the "
                    "mean of all likely pictures; fast, smooth\n- more: sharper, one likely picture\nChanges nothing "
                    "with 3DRAE.",
                ),
                guidance_input(
                    "How strongly frames follow the tokens (0 to 30).\n- 0: the model's own value\n- 1: off\n"
                    "- more: stronger, at twice the time\nChanges nothing with 3DRAE."
                ),
                seed_input(
                    "Seed of the noise; the same seed gives the same frames on every device. 3DRAE has no noise."
                ),
                fps_input(),
                solver_input(),
                io.Combo.Input(
                    "temporal_tiles",
                    options=list(get_args(TemporalTiles)),
                    default="auto",
                    optional=True,
                    tooltip="How VideoDCAE decodes a path of more than 32 frames.\n- on: in pieces of 32 that overlap "
                    "by 8 and fade into each other, as published\n- off: in one piece, for more memory\n- auto: off "
                    "where memory allows",
                    **known(io.Combo.Input, advanced=True),
                ),
                io.Combo.Input(
                    "quality",
                    options=list(QUALITIES),
                    default="normal",
                    optional=True,
                    tooltip="How much work a frame is. `steps` above 0 and a `solver` other than model prevail.\n"
                    "- draft: one step, the mean of all likely pictures; fast, smooth\n- normal: the model's own steps "
                    "and solver\n- best: four times the steps with solver ab2; closer to the exact sample, at four "
                    "times the time\nChanges nothing with 3DRAE.",
                ),
                _views_per_pass_input(),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The frames as a batch, one per camera; values 0 to 1."),
                io.Video.Output(display_name="video", tooltip="The same frames as a video, for Save Video."),
            ],
            **known(
                io.Schema, search_aliases=["novel view synthesis", "nvs", "fly-through", "camera move", "decode scene"]
            ),
        )

    @classmethod
    def execute(
        cls,
        model: SceneModel,
        tokens: object,
        cameras: object,
        steps: int,
        guidance: float,
        seed: int,
        fps: float,
        solver: str = MODEL_SOLVER,
        temporal_tiles: TemporalTiles = "auto",
        quality: str = "normal",
        views_per_pass: int = 0,
    ) -> io.NodeOutput:
        """Render on the compute device; cancellable within a step."""
        scene, path = read_tokens(tokens), read_cameras(cameras)
        frames = model.render(
            scene,
            path,
            quality=quality,
            steps=steps or None,
            guidance=guidance or None,
            solver=read_solver(solver),
            temporal_tiles=temporal_tiles,
            views_per_pass=views_per_pass,
            generator=torch.Generator().manual_seed(seed),
            progress=NodeProgress(),
        )
        images = image_from_frames(frames)
        return io.NodeOutput(images, video_of(images, fps))


class RenderUncertainty(io.ComfyNode):
    """Scene tokens and camera path -> where samples differ."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_RenderUncertainty",
            display_name="Render Uncertainty",
            category="SceneTok/render",
            description="Renders the path several times with different noise and shows where the results differ: "
            "there the tokens leave open what is to be seen. Not for 3DRAE, whose pictures are no samples.",
            inputs=[
                *_scene_inputs(),
                SceneCamerasSocket.Input("cameras", tooltip="One camera per frame, as for Render Trajectory."),
                io.Int.Input("samples", default=4, min=2, max=64, tooltip="Renderings that are compared (2 to 64)."),
                steps_input("Sampling steps of each (0 to 1000); 0: the model's own number."),
                guidance_input("How strongly frames follow the tokens (0 to 30). 0: the model's own value; 1: off."),
                seed_input("Seed of the first rendering; the others count up from it.", LARGEST_FIRST_SEED),
                io.Float.Input(
                    "white",
                    default=0.2,
                    min=0.001,
                    max=1.0,
                    step=0.01,
                    tooltip="Standard deviation of the brightness (0.001 to 1) that is shown brightest.",
                ),
                _views_per_pass_input(),
            ],
            outputs=[
                io.Image.Output(display_name="uncertainty", tooltip="Heat map of every frame, from dark to bright."),
                io.Mask.Output(display_name="mask", tooltip="The same as masks: 0 certain, 1 at `white` or above."),
                io.Image.Output(display_name="mean", tooltip="The mean of the samples; values 0 to 1."),
            ],
            **known(io.Schema, search_aliases=["variance", "confidence", "heat map"]),
        )

    @classmethod
    def execute(
        cls,
        model: SceneModel,
        tokens: object,
        cameras: object,
        samples: int,
        steps: int,
        guidance: float,
        seed: int,
        white: float,
        views_per_pass: int = 0,
    ) -> io.NodeOutput:
        """Render the samples on the compute device; cancellable within a step."""
        scene, path = read_tokens(tokens), read_cameras(cameras)
        mean, spread = render_uncertainty(
            model,
            scene,
            path,
            samples,
            steps=steps or None,
            guidance=guidance or None,
            views_per_pass=views_per_pass,
            seed=seed,
            progress=NodeProgress(),
        )
        mask = as_mask(spread, white)
        return io.NodeOutput(image_from_frames(heat_map(mask)), mask, image_from_frames(mean))
