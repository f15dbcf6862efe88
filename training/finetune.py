"""Starting from trained weights, and ending the training of a part of a model."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scenetok_core.configs import StoredConfig, require
from scenetok_core.weights.checkpoints import load_checkpoint
from scenetok_core.weights.loading import check_shapes

logger = logging.getLogger("training")

_LISTED = 5
_NO_NETWORK = {"name", "scene_model", "image_size", "pixels", "context_views", "cond_views", "steps", "sampling"}
_QUERIES = "compressor.scene_tokens"
_QUERY_NOISE = 0.5  # of the saved queries' standard deviation; equal queries would stay equal


@torch.no_grad()
def start_from(path: Path, model: nn.Module, config: StoredConfig, differs: tuple[str, ...] = ()) -> None:
    """Give `model` the weights of a checkpoint.

    Args:
        path: an inference checkpoint of the same family.
        model: fresh; changed in place.
        config: of `model`.
        differs: settings of the networks that may differ from the checkpoint's, such as `compressor.tokens`. Weights
            that are missing there or have another shape stay fresh, but for the queries of another number of scene
            tokens: these are the saved ones, in turn, each with noise of half their spread.

    Raises:
        ValueError: no such file, no such checkpoint, or its networks differ in other settings; the message names them.
    """
    require(
        path.is_file(),
        f"no such file: {path}, which run.init names; train that model first (runs/NAME/model.safetensors is what a "
        "run makes), name another checkpoint, or start from nothing with --set run.init=none --set run.init_differs=[]",
    )
    state, saved, _ = load_checkpoint(path, type(config))
    before, now = (dict(_network_settings(part)) for part in (saved, config))
    unknown = sorted(set(differs) - set(now))
    if unknown:
        raise ValueError(
            f"run.init_differs names {unknown[0]!r}, which is no setting of the networks: {', '.join(now)}"
        )
    pairs = {key: (before.get(key), now.get(key)) for key in {**now, **before}}
    faults = [key for key, (there, here) in pairs.items() if there != here and key not in differs]
    if faults:
        lines = ["{} is {!r} there and {!r} here".format(key, *pairs[key]) for key in faults[:_LISTED]]
        raise ValueError(
            f"run.init {path.name} does not fit [model]: {'; '.join(lines)}{' ...' if faults[_LISTED:] else ''}; take "
            "over its settings, or list in run.init_differs which ones may differ"
        )
    target = model.state_dict()
    if not differs:
        check_shapes(state, {name: value.shape for name, value in target.items()}, f"run.init {path.name}")
    fitting = [name for name, value in target.items() if name in state and state[name].shape == value.shape]
    for name in fitting:
        target[name].copy_(state[name])
    if _QUERIES in target and _QUERIES in state and _QUERIES not in fitting:
        fitting += _spread_queries(target[_QUERIES], state[_QUERIES])
    fresh = [name for name in target if name not in fitting]
    logger.info("started from %s%s", path, f"; fresh: {', '.join(fresh)}" if fresh else "")


def _spread_queries(fresh: Tensor, saved: Tensor) -> list[str]:
    """Fill `fresh` [1, N, dim] from `saved` [1, M, dim]; nothing where these differ in width, too."""
    if fresh.shape[2] != saved.shape[2]:
        return []
    count = fresh.shape[1]
    copies = saved.float().repeat(1, -(-count // saved.shape[1]), 1)[:, :count]
    fresh.copy_(copies + fresh * (_QUERY_NOISE * copies.std()))
    return [_QUERIES]


def _network_settings(config: StoredConfig) -> Iterator[tuple[str, Any]]:
    """The settings of the networks by name; in configurations of several networks those of each, else all but a few."""
    stored = dataclasses.asdict(config)
    sections = [name for name in ("compressor", "decoder", "generator") if name in stored]
    for name in sections or [name for name in stored if name not in _NO_NETWORK]:
        value = stored[name]
        if isinstance(value, dict):
            yield from ((f"{name}.{part}", each) for part, each in value.items())
        else:
            yield name, value


def check_parts(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Raise `ValueError` unless every one of `parts` begins the name of a weight of `model`."""
    names = [name for name, _ in model.named_parameters()]
    for part in parts:
        if not any(name.startswith(part) for name in names):
            known = sorted({name.partition(".")[0] for name in names})
            raise ValueError(f"optim.freeze: no weight has a name that begins with {part!r}; names begin with {known}")


def freeze(model: nn.Module, parts: tuple[str, ...]) -> None:
    """End the training of the weights whose names begin with one of `parts`; they need no gradient any more."""
    for name, weight in model.named_parameters():
        if name.startswith(parts):
            weight.requires_grad_(False)
