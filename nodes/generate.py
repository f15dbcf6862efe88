"""Nodes that draw scenes with a scene generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import SceneModel, Views
from ..scenetok_core.generation import parse_values
from ..scenetok_core.token_generator import TokenGenerator
from .sockets import (
    LARGEST_FIRST_SEED,
    LARGEST_GUIDANCE,
    MODEL_SOLVER,
    GeneratorSocket,
    ModelSocket,
    NodeProgress,
    SceneCamerasSocket,
    SceneTokensSocket,
    fault,
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

_LARGEST_SHIFT = 100.0


def _scene_inputs() -> list[Any]:
    """What scenes are drawn from, and in how many steps."""
    return [
        GeneratorSocket.Input("generator", tooltip="From Load SceneGen."),
        ModelSocket.Input("model", tooltip="From Load SceneTok: the model that will render the tokens."),
        io.Image.Input(
            "images",
            optional=True,
            tooltip="Pictures as one batch, values 0 to 1.\n- SceneGen: one to three\n- 3DDiT: any number that leaves "
            "a camera to the path, or none: then the scene is drawn from the path alone",
        ),
        SceneCamerasSocket.Input(
            "cameras",
            optional=True,
            tooltip="One camera per picture: Load Views, Load Photograph, Single View Camera.",
        ),
        SceneCamerasSocket.Input("path", tooltip="The path that will be rendered, from Camera Trajectory."),
        steps_input("Sampling steps (0 to 1000). 0: the model's own number."),
    ]


def _scale_input() -> io.Float.Input:
    return scale_input("Model units per unit of the cameras (0 to 10000). 0: automatic, from their extent.")


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
            "seed is another scene. With SceneGen or 3DDiT, each for its own kind of scene model.",
            inputs=[
                *_scene_inputs(),
                guidance_input(
                    "How strongly the scene follows the pictures (0 to 30).\n- 0: the model's own value\n- 1: "
                    "off, in half the time",
                    advanced=False,
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=_LARGEST_SHIFT,
                    step=0.1,
                    tooltip="Timestep shift (0 to 100): larger: more steps for the layout. 0: the model's own.",
                    **known(io.Float.Input, advanced=True),
                ),
                _scale_input(),
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
        generator: TokenGenerator,
        model: SceneModel,
        path: object,
        steps: int,
        guidance: float,
        shift: float,
        scene_scale: float,
        seed: int,
        scenes: int,
        solver: str = MODEL_SOLVER,
        images: Tensor | None = None,
        cameras: object = None,
    ) -> io.NodeOutput:
        """Draw on the compute device; cancellable within a step."""
        settings = {"steps": steps, "guidance": guidance, "shift": shift, "solver": solver}
        seeds = range(seed, seed + scenes)
        draws = [{**settings, "seed": number} for number in seeds]
        tokens = _draw_all(generator, model, images, cameras, path, scene_scale, draws)
        return io.NodeOutput(tokens, [f"seed {number}" for number in seeds])


class SceneGenSweep(io.ComfyNode):
    """Pictures and a camera path -> one scene for each pair of settings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_SceneGenSweep",
            display_name="SceneGen Sweep",
            category="SceneTok/tokens",
            description="Draws one scene from the same seed for each pair of a shift and a guidance. What follows runs "
            "once for each; Contact Sheet shows a row for each shift and a column for each guidance.",
            inputs=[
                *_scene_inputs(),
                io.String.Input(
                    "shifts",
                    default="1, 4, 12",
                    tooltip=f"Timestep shifts, as numbers above 0 up to {_LARGEST_SHIFT:g}. Larger: more steps for the "
                    "layout.",
                ),
                io.String.Input(
                    "guidances",
                    default="1, 2, 3, 5",
                    tooltip=f"How strongly the scene follows the pictures, as numbers above 0 up to "
                    f"{LARGEST_GUIDANCE:g}. 1: off, in half the time.",
                ),
                _scale_input(),
                seed_input("Seed of every scene."),
                solver_input(),
            ],
            outputs=[
                SceneTokensSocket.Output(
                    display_name="tokens",
                    tooltip="The scenes: all guidances of a shift, then the next shift.",
                    is_output_list=True,
                ),
                io.String.Output(
                    display_name="labels", tooltip="The shifts, one for each row of Contact Sheet.", is_output_list=True
                ),
                io.String.Output(
                    display_name="headings",
                    tooltip="The guidances, one for each column of Contact Sheet.",
                    is_output_list=True,
                ),
            ],
            **known(io.Schema, search_aliases=["grid search", "compare settings", "xy plot"]),
        )

    @classmethod
    def validate_inputs(cls, shifts: str | None = None, guidances: str | None = None) -> bool | str:
        """Refuse lists that are none before anything runs."""
        faults = (fault(_read_shifts, shifts), fault(_read_guidances, guidances))
        return next((told for told in faults if told is not True), True)

    @classmethod
    def execute(
        cls,
        generator: TokenGenerator,
        model: SceneModel,
        path: object,
        steps: int,
        shifts: str,
        guidances: str,
        scene_scale: float,
        seed: int,
        solver: str = MODEL_SOLVER,
        images: Tensor | None = None,
        cameras: object = None,
    ) -> io.NodeOutput:
        """Draw on the compute device; cancellable within a step."""
        rows, columns = _read_shifts(shifts), _read_guidances(guidances)
        settings = {"steps": steps, "solver": solver, "seed": seed}
        draws = [{**settings, "shift": shift, "guidance": guidance} for shift in rows for guidance in columns]
        tokens = _draw_all(generator, model, images, cameras, path, scene_scale, draws)
        return io.NodeOutput(
            tokens, [f"shift {shift:g}" for shift in rows], [f"guidance {guidance:g}" for guidance in columns]
        )


def _read_shifts(text: str) -> list[float]:
    return parse_values(text, "shift", _LARGEST_SHIFT)


def _read_guidances(text: str) -> list[float]:
    return parse_values(text, "guidance", LARGEST_GUIDANCE)


def _given_views(images: Tensor | None, cameras: object) -> Views | None:
    if images is None and cameras is None:
        return None
    if images is None or cameras is None:
        missing = "images" if images is None else "cameras"
        raise ValueError(f"pictures and their cameras belong together, and {missing} is not connected; connect both")
    return views_from_sockets(images, cameras)


def _draw_all(
    generator: TokenGenerator,
    model: SceneModel,
    images: Tensor | None,
    cameras: object,
    path: object,
    scene_scale: float,
    draws: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """One scene for each of `draws`, the settings as the nodes' inputs give them; the pictures are encoded once."""
    views, wanted, progress = _given_views(images, cameras), read_cameras(path), NodeProgress()
    prepared = generator.prepare(views, wanted, model, scale=scene_scale or "auto")
    scenes = [
        generator.draw(
            prepared,
            steps=draw["steps"] or None,
            guidance=draw["guidance"] or None,
            shift=draw["shift"] or None,
            solver=read_solver(draw["solver"]),
            generator=torch.Generator().manual_seed(draw["seed"]),
            progress=lambda done, total, _, i=i: progress(i * total + done, len(draws) * total),
        )
        for i, draw in enumerate(draws)
    ]
    return [scene.to_dict() for scene in scenes]
