"""Nodes that draw scenes with a scene generator."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from .devices import ManagedGenerator, ManagedModel
from .sockets import (
    LARGEST_FIRST_SEED,
    MODEL_SOLVER,
    GeneratorSocket,
    ModelSocket,
    NodeProgress,
    SceneCamerasSocket,
    SceneTokensSocket,
    guidance_input,
    known,
    read_cameras,
    read_solver,
    scale_input,
    seed_input,
    solver_input,
    steps_input,
    views_from_sockets,
)


class SceneGenSample(io.ComfyNode):
    """Pictures and a camera path -> scene tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_SceneGenSample",
            display_name="SceneGen Sample",
            category="SceneTok/tokens",
            description="Draws the tokens of whole scenes that show the given pictures and go on along the path. Every "
            "seed is another scene.",
            inputs=[
                GeneratorSocket.Input("generator", tooltip="From Load SceneGen."),
                ModelSocket.Input("model", tooltip="From Load SceneTok: the model that will render the tokens."),
                io.Image.Input("images", tooltip="One to three pictures as one batch; values 0 to 1."),
                SceneCamerasSocket.Input("cameras", tooltip="One camera per picture: Load Views, Single View Camera."),
                SceneCamerasSocket.Input("path", tooltip="The path that will be rendered, from Camera Trajectory."),
                steps_input("Sampling steps (0 to 1000). 0: the model's own number."),
                guidance_input(
                    "How strongly the scene follows the pictures (0 to 30).\n- 0: the model's own value\n- 1: "
                    "off, in half the time",
                    advanced=False,
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Timestep shift (0 to 100): larger: more steps for the layout. 0: the model's own.",
                    **known(io.Float.Input, advanced=True),
                ),
                scale_input("Model units per unit of the cameras (0 to 10000). 0: automatic, from their extent."),
                seed_input("Seed of the first scene; the others count up from it.", LARGEST_FIRST_SEED),
                io.Int.Input("scenes", default=1, min=1, max=64, tooltip="Number of scenes to draw (1 to 64)."),
                solver_input(),
            ],
            outputs=[
                SceneTokensSocket.Output(
                    display_name="tokens", tooltip="The scenes, one after the other.", is_output_list=True
                ),
                io.String.Output(display_name="labels", tooltip="Their seeds, for Contact Sheet.", is_output_list=True),
            ],
            **known(io.Schema, search_aliases=["image to scene", "generate scene"]),
        )

    @classmethod
    def execute(
        cls,
        generator: ManagedGenerator,
        model: ManagedModel,
        images: Tensor,
        cameras: object,
        path: object,
        steps: int,
        guidance: float,
        shift: float,
        scene_scale: float,
        seed: int,
        scenes: int,
        solver: str = MODEL_SOLVER,
    ) -> io.NodeOutput:
        """Draw on the compute device; cancellable within a step."""
        views, wanted, progress = views_from_sockets(images, cameras), read_cameras(path), NodeProgress()
        pipeline = generator.on_device(len(views))
        seeds = range(seed, seed + scenes)
        drawn = [
            pipeline.generate(
                views,
                wanted,
                model.pipeline,
                scale=scene_scale or "auto",
                steps=steps or None,
                guidance=guidance or None,
                shift=shift or None,
                solver=read_solver(solver),
                generator=torch.Generator().manual_seed(number),
                progress=lambda done, total, _, i=i: progress(i * total + done, scenes * total),
            )
            for i, number in enumerate(seeds)
        ]
        return io.NodeOutput([scene.to_dict() for scene in drawn], [f"seed {number}" for number in seeds])
