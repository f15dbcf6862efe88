"""Nodes around the scene generator: load it, draw scenes, give a single picture a camera."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import SceneTok
from ..scenetok_core.framing import single_camera
from ..scenetok_core.generation import SceneGenerator
from . import folders
from .devices import DTYPES, load_managed
from .sockets import (
    MODEL_SOLVER,
    GeneratorSocket,
    ModelSocket,
    NodeProgress,
    SceneCamerasSocket,
    SceneTokensSocket,
    fault,
    known,
    read_cameras,
    read_solver,
    solver_input,
    views_from_sockets,
)

_ALWAYS_AGAIN = float("nan")


class LoadGenerator(io.ComfyNode):
    """Checkpoint file -> scene generator."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LoadGenerator",
            display_name="Load SceneGen",
            category="SceneTok/loaders",
            description="Loads a scene generator: one to three pictures to the tokens of a whole scene.",
            inputs=[
                io.Combo.Input(
                    "generator",
                    options=folders.model_names(),
                    tooltip="Checkpoint of a scene generator (.safetensors) from models/scenetok.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="auto",
                    tooltip="Number format of the weights.\n- auto: suits the device\n- bf16, fp16: half the memory"
                    "\n- fp32: most exact",
                    **known(io.Combo.Input, advanced=True),
                ),
            ],
            outputs=[GeneratorSocket.Output(display_name="generator", tooltip="The generator, for SceneGen Sample.")],
            **known(io.Schema, search_aliases=["scene generation", "checkpoint"]),
        )

    @classmethod
    def validate_inputs(cls, generator: str | None = None) -> bool | str:
        """Refuse files that are not there before anything runs."""
        return fault(folders.model_path, generator)

    @classmethod
    def fingerprint_inputs(cls, generator: str | None, **others: Any) -> str | float:
        """Load again when the file changes."""
        return _ALWAYS_AGAIN if generator is None else folders.fingerprint([folders.model_path(generator)])

    @classmethod
    def execute(cls, generator: str, dtype: str) -> io.NodeOutput:
        """Read the checkpoint into main memory."""
        return io.NodeOutput(load_managed(SceneGenerator, folders.model_path(generator), dtype))


class SingleViewCamera(io.ComfyNode):
    """A picture without a pose -> a camera at the origin."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_SingleViewCamera",
            display_name="Single View Camera",
            category="SceneTok/cameras",
            description="Gives one picture without a known pose a camera at the origin, for SceneGen Sample and Camera "
            "Trajectory.",
            inputs=[
                io.Image.Input("image", tooltip="One picture; its shape sets the camera's."),
                io.Float.Input(
                    "fov",
                    default=60.0,
                    min=5.0,
                    max=150.0,
                    step=0.5,
                    tooltip="Field of view across the longer side, in degrees (5 to 150). About 65 for a telephone's "
                    "main camera, 40 for a 50 mm lens on 35 mm film.",
                ),
            ],
            outputs=[SceneCamerasSocket.Output(display_name="cameras", tooltip="One camera looking along z.")],
            **known(io.Schema, search_aliases=["identity pose", "field of view"]),
        )

    @classmethod
    def execute(cls, image: Tensor, fov: float) -> io.NodeOutput:
        """Make the camera."""
        if len(image) != 1:
            raise ValueError(f"expected one picture, got a batch of {len(image)}; choose one, or load posed views")
        height, width = image.shape[1:3]
        return io.NodeOutput(single_camera((height, width), fov).to_dict())


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
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Sampling steps (0 to 1000). 0: the model's own number.",
                ),
                io.Float.Input(
                    "guidance",
                    default=0.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="How strongly the scene follows the pictures (0 to 30).\n- 0: the model's own value\n- 1: "
                    "off, in half the time",
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
                io.Float.Input(
                    "scene_scale",
                    default=0.0,
                    min=0.0,
                    max=10000.0,
                    step=0.001,
                    tooltip="Model units per unit of the cameras (0 to 10000). 0: automatic, from their extent.",
                    **known(io.Float.Input, advanced=True),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the first scene; the others count up from it.",
                ),
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
        generator: SceneGenerator,
        model: SceneTok,
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
        seeds = range(seed, seed + scenes)
        drawn = [
            generator.generate(
                views,
                wanted,
                model,
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
