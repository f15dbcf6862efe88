"""Nodes around scene files: save, load, say what is inside."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..scenetok_core import SceneTokens, load_scene, save_scene
from ..scenetok_core.scene_info import annotate, read_thumbnail, report
from . import folders
from .sockets import (
    SceneTokensSocket,
    always_again,
    fault,
    image_from_frames,
    known,
    read_tokens,
    tokens_input,
)


class SaveSceneTokens(io.ComfyNode):
    """Scene tokens -> file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_SaveTokens",
            display_name="Save Scene Tokens",
            category="SceneTok/tokens",
            description="Writes scene tokens with their cameras into a .safetensors file, small enough to mail.",
            inputs=[
                tokens_input(),
                io.String.Input(
                    "filename_prefix",
                    default=f"{folders.SCENES}/SceneTok",
                    tooltip="Path below ComfyUI's output folder; a number and .safetensors are added. Load Scene "
                    f"Tokens lists what lies in {folders.SCENES}/.",
                ),
                io.String.Input(
                    "title",
                    default="",
                    optional=True,
                    tooltip="A line kept in the file. Empty: the one that the tokens already have.",
                ),
                io.String.Input(
                    "notes",
                    default="",
                    optional=True,
                    multiline=True,
                    tooltip="Text kept in the file. Empty: the one that the tokens already have.",
                ),
                io.Image.Input(
                    "thumbnail",
                    optional=True,
                    tooltip="A picture of the scene, such as a rendered frame; the first of a batch. It is kept in the "
                    "file at no more than 256 pixels a side and shown when the file is loaded. Unconnected: the one "
                    "that the tokens already have.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="scene",
                    tooltip="File name below the output folder, ending with [output], for nodes that show or take text "
                    "and for API clients. Not for wiring into Load Scene Tokens, whose list takes no text.",
                ),
            ],
            is_output_node=True,
            **known(io.Schema, search_aliases=["export scene", "write scene"]),
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """Refuse paths outside the output folder, and names that not every system takes, before anything runs."""
        return fault(folders.output_prefix, filename_prefix)

    @classmethod
    def execute(
        cls, tokens: object, filename_prefix: str, title: str = "", notes: str = "", thumbnail: Tensor | None = None
    ) -> io.NodeOutput:
        """Write the file and list it for the history."""
        picture = None if thumbnail is None else thumbnail[0, ..., :3].movedim(-1, 0)
        scene = annotate(read_tokens(tokens), title=title, notes=notes, picture=picture)
        path = folders.new_scene_path(filename_prefix)
        save_scene(path, scene)
        name = path.relative_to(folders.output_folder()).as_posix()
        return io.NodeOutput(f"{name} [output]", ui={"scenes": [folders.listing(path)], **_shown(scene, cls)})


class LoadSceneTokens(io.ComfyNode):
    """Saved scene -> tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_LoadTokens",
            display_name="Load Scene Tokens",
            category="SceneTok/loaders",
            description="Loads a scene that Save Scene Tokens wrote. It renders with the model that encoded it.",
            inputs=[
                io.Combo.Input(
                    "scene",
                    options=folders.scene_names(),
                    tooltip="A .safetensors file in output/scenes, marked [output], or in input/scenes, where the "
                    "button below and files dropped onto the node put theirs.",
                ),
            ],
            outputs=[
                SceneTokensSocket.Output(
                    display_name="tokens", tooltip="The scene's tokens with the cameras they were made from."
                ),
            ],
            **known(io.Schema, search_aliases=["open scene", "scene file"]),
        )

    @classmethod
    def validate_inputs(cls, scene: str | None = None) -> bool | str:
        """Refuse files that are not there before anything runs."""
        return fault(folders.scene_path, scene)

    @classmethod
    def fingerprint_inputs(cls, scene: str | None) -> str | float:
        """Load again when the file changes."""
        return always_again() if scene is None else folders.fingerprint([folders.scene_path(scene)])

    @classmethod
    def execute(cls, scene: str) -> io.NodeOutput:
        """Read the file."""
        loaded = load_scene(folders.scene_path(scene))
        return io.NodeOutput(loaded.to_dict(), ui=_shown(loaded, cls))


class SceneInfo(io.ComfyNode):
    """Scene tokens -> what is known of them, as text and picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_SceneInfo",
            display_name="Scene Info",
            category="SceneTok/tokens",
            description="Tells what scene tokens are: their model, number and size, the cameras they were made from "
            "(number, extent, unit, field of view), their scale, what they come from, title and notes.",
            inputs=[tokens_input()],
            outputs=[
                io.String.Output(display_name="text", tooltip="The report, a few lines; for Preview Any."),
                io.Image.Output(
                    display_name="thumbnail",
                    tooltip="The picture kept with the scene, values 0 to 1; plain grey, 64 x 64, where there is none.",
                ),
            ],
            is_output_node=True,
            **known(io.Schema, search_aliases=["scene metadata", "inspect scene"]),
        )

    @classmethod
    def execute(cls, tokens: object) -> io.NodeOutput:
        """Describe the scene."""
        scene = read_tokens(tokens)
        text, picture = report(scene), read_thumbnail(scene)
        image = scene.tokens.new_full((1, 64, 64, 3), 0.5) if picture is None else image_from_frames(picture[None])
        return io.NodeOutput(text, image, ui={**ui.PreviewText(text).as_dict(), **_shown(scene, cls)})


def _shown(scene: SceneTokens, node: type[io.ComfyNode]) -> dict[str, Any]:
    """What shows a scene's thumbnail on a node."""
    picture = read_thumbnail(scene)
    return {} if picture is None else ui.PreviewImage(image_from_frames(picture[None]), cls=node).as_dict()
