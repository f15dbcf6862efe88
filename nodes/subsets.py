"""Nodes that take tokens away from a scene, and one that shows results side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io
from torch import Tensor

from ..scenetok_core import subsets
from ..scenetok_core.pictures.sheets import contact_sheet, evenly_spread, side_by_side, to_tensor
from .sockets import SceneTokensSocket, image_from_frames, known, read_tokens, seed_input, tokens_input

_CATEGORY = "SceneTok/tokens"
_FIRST, _RANDOM, _LIST, _MASK = "first", "random", "list", "mask"


class TokenMask(io.ComfyNode):
    """Scene tokens -> the same scene with some of its tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_TokenMask",
            display_name="Token Mask",
            category=_CATEGORY,
            description="Keeps some tokens of a scene. Tokens are an unordered set: with fewer of them the scene is "
            "coarser and its samples vary more.",
            inputs=[
                tokens_input(),
                io.Combo.Input(
                    "mode",
                    options=[_RANDOM, _FIRST, _LIST, _MASK],
                    tooltip="Which tokens are chosen.\n- random: count of them, by the seed\n- first: the first count\n"
                    "- list: those in the list\n- mask: where the mask is white",
                ),
                io.Int.Input(
                    "count",
                    default=32,
                    min=1,
                    max=65536,
                    tooltip="Tokens to choose (1 to 65536): modes random and first.",
                ),
                seed_input(
                    "Seed of mode random; with an equal seed a smaller choice lies inside a larger one.",
                ),
                io.String.Input(
                    "list",
                    default="0-15",
                    tooltip="Token numbers from 0 for mode list, such as 0-15, 20, 40- (40- runs to the last token).",
                ),
                io.Boolean.Input(
                    "invert",
                    default=False,
                    tooltip="Remove the chosen tokens and keep the others.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Picture for mode mask, values 0 to 1, stretched over the tokens in rows (64 tokens: "
                    "8 x 8); the first of a batch.",
                ),
            ],
            outputs=[SceneTokensSocket.Output(display_name="tokens", tooltip="The scene with fewer tokens.")],
            **known(io.Schema, search_aliases=["drop tokens", "token subset"]),
        )

    @classmethod
    def execute(
        cls, tokens: object, mode: str, count: int, seed: int, list: str, invert: bool, mask: Tensor | None = None
    ) -> io.NodeOutput:
        """Choose and keep."""
        scene = read_tokens(tokens)
        if mode == _RANDOM:
            chosen = subsets.random_tokens(scene, count, torch.Generator().manual_seed(seed))
        elif mode == _FIRST:
            chosen = subsets.first_tokens(scene, count)
        elif mode == _LIST:
            chosen = subsets.listed_tokens(scene, list)
        elif mask is not None:
            chosen = subsets.painted_tokens(scene, mask[0])
        else:
            raise ValueError("mode mask needs a mask; connect one, or choose another mode")
        return io.NodeOutput(subsets.keep_tokens(scene, ~chosen if invert else chosen).to_dict())


class TokenSweep(io.ComfyNode):
    """Scene tokens -> one scene for each number of tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_TokenSweep",
            display_name="Token Sweep",
            category=_CATEGORY,
            description="Makes one scene for each number of tokens, every one part of the next larger. What follows "
            "runs once for each; Contact Sheet brings the results together.",
            inputs=[
                tokens_input(),
                io.String.Input(
                    "counts",
                    default="12.5%, 25%, 50%, 100%",
                    tooltip="Numbers of tokens, as numbers or as shares of all tokens in percent.",
                ),
                io.Combo.Input(
                    "order",
                    options=[_RANDOM, _FIRST],
                    tooltip="Which tokens come first: by the seed, or in their order.",
                ),
                seed_input(
                    "Seed of the random order.",
                ),
            ],
            outputs=[
                SceneTokensSocket.Output(
                    display_name="tokens", tooltip="One scene for each number of tokens.", is_output_list=True
                ),
                io.String.Output(
                    display_name="labels", tooltip="What each scene is, for Contact Sheet.", is_output_list=True
                ),
            ],
            **known(io.Schema, search_aliases=["progressive masking", "token ablation"]),
        )

    @classmethod
    def execute(cls, tokens: object, counts: str, order: str, seed: int) -> io.NodeOutput:
        """Make the subsets."""
        scene = read_tokens(tokens)
        total = len(scene.active)
        numbers = subsets.parse_counts(counts, total)
        scenes = subsets.sweep(scene, numbers, seed if order == _RANDOM else None)
        labels = [f"{number} of {total} tokens" for number in numbers]
        return io.NodeOutput([scene.to_dict() for scene in scenes], labels)


class ContactSheet(io.ComfyNode):
    """Several image batches -> one labelled picture, a row for each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_ContactSheet",
            display_name="Contact Sheet",
            category="SceneTok/render",
            description="Draws image batches below each other, each with its label; with headings, side by side in "
            "columns.",
            inputs=[
                io.Image.Input(
                    "images", tooltip="One image batch for each row, or for each heading of each row; values 0 to 1."
                ),
                io.String.Input(
                    "labels",
                    default="",
                    multiline=True,
                    tooltip="The rows' labels: a list, such as Token Sweep's, or text with one line for each row. Rows "
                    "without one are numbered.",
                ),
                io.Int.Input(
                    "columns", default=8, min=1, max=64, tooltip="Most pictures of a batch (1 to 64), evenly spread."
                ),
                io.String.Input(
                    "headings",
                    default="",
                    optional=True,
                    multiline=True,
                    tooltip="Headings of columns: a list, such as SceneGen Sweep's, or text with one line for each. "
                    "Every row then holds as many image batches side by side. Empty: one batch a row.",
                ),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="One picture, values 0 to 1.")],
            is_input_list=True,
            **known(io.Schema, search_aliases=["grid", "compare"]),
        )

    @classmethod
    def execute(
        cls, images: list[Tensor], labels: list[str], columns: list[int], headings: Sequence[str] = ("",)
    ) -> io.NodeOutput:
        """Draw the sheet."""
        names, heads = _texts(labels), _texts(headings)
        batches = [evenly_spread(batch[..., :3].movedim(-1, -3), columns[0]) for batch in images]
        rows = [
            (names[i] if i < len(names) else f"row {i + 1}", pictures)
            for i, pictures in enumerate(side_by_side(batches, max(1, len(heads))))
        ]
        return io.NodeOutput(image_from_frames(to_tensor(contact_sheet(rows, headings=heads))[None]))


def _texts(given: Sequence[str]) -> Sequence[str]:
    """A list of texts as linked, or the lines of the one text that was written."""
    return given[0].splitlines() if len(given) == 1 else given
