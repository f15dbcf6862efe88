"""What tells rendered pictures from photographs: heads that are trained, on features that are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenetok_core.weights.checkpoints import model_hash
from training.measures.availability import UnavailableError, require_module

DiscriminatorName = Literal["dinov2-small", "patch"]

_HUB = "facebook/dinov2-small"
_LAYERS = 4  # of the network, evenly spread, the last one among them
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTH = 128  # of the heads
_SLOPE = 0.2


class Features(Protocol):
    """What the heads read of pictures; never trained."""

    channels: tuple[int, ...]  # of the maps
    network: nn.Module | None
    digest: str | None  # of its weights

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Pictures [n, 3, H, W] around [0, 1] -> maps [n, C, h, w]; gradients reach the pictures."""
        ...


class Pixels:
    """The pictures themselves."""

    channels: tuple[int, ...] = (3,)
    network: nn.Module | None = None
    digest: str | None = None

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Pictures [n, 3, H, W] -> the same in [-1, 1]."""
        return [2 * pictures - 1]


class Dinov2Features:
    """Patches of a frozen DINOv2 (arXiv 2304.07193) after four of its layers, normalised.

    Pictures are resized to the nearest whole patches.
    """

    def __init__(self, network: Any) -> None:
        """Take a `transformers.Dinov2Model`."""
        self.network: nn.Module | None = network.eval().requires_grad_(False)
        self._run: Any = network
        self.digest: str | None = model_hash(network.state_dict())
        depth, self._patch = network.config.num_hidden_layers, network.config.patch_size
        self._layers = sorted({depth * (i + 1) // _LAYERS for i in range(_LAYERS)})
        self.channels: tuple[int, ...] = (network.config.hidden_size,) * len(self._layers)

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Pictures [n, 3, H, W] around [0, 1] -> maps [n, C, h, w] of unit variance."""
        rows, columns = (max(1, round(side / self._patch)) for side in pictures.shape[-2:])
        size = (rows * self._patch, columns * self._patch)
        if size != pictures.shape[-2:]:
            pictures = F.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (pictures.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        found = self._run((pictures - mean) / std, output_hidden_states=True).hidden_states
        patches = (found[layer][:, 1:] for layer in self._layers)  # without the class token
        normed = (F.layer_norm(x, x.shape[-1:]) for x in patches)
        return [x.transpose(1, 2).unflatten(2, (rows, columns)) for x in normed]


class Discriminator(nn.Module):
    """Heads, one for each map of features: scores of places in pictures, high for photographs."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        head = _patch_head if features.network is None else _feature_head
        self.heads = nn.ModuleList(head(channels) for channels in features.channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [n, C, h, w] -> scores [n, k] of all places of all maps."""
        return torch.cat([head(x).flatten(1) for head, x in zip(self.heads, maps, strict=True)], dim=1)


def _feature_head(channels: int) -> nn.Sequential:
    """Sees 3 x 3 patches."""
    return nn.Sequential(
        nn.Conv2d(channels, _WIDTH, 1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(_WIDTH, 1, 1),
    )


def _patch_head(channels: int) -> nn.Sequential:
    """Sees 22 x 22 pixels, every 4."""
    return nn.Sequential(
        nn.Conv2d(channels, _WIDTH // 2, 4, stride=2, padding=1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(_WIDTH // 2, _WIDTH, 4, stride=2, padding=1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(_WIDTH, 1, 3, padding=1),
    )


def load_features(name: DiscriminatorName, folder: Path) -> Features:
    """What a discriminator reads; weights lie in `folder / name`, as `save_pretrained` writes them, or on the hub.

    Raises:
        ValueError: transformers is not installed, or there are no weights.
    """
    if name == "patch":
        return Pixels()
    try:
        transformers: Any = require_module("transformers", "pip install transformers")
    except UnavailableError as error:
        raise ValueError(f"task.discriminator = {name!r} {error}; or set it to 'patch'") from error
    place = folder / name
    source = str(place) if place.is_dir() else _HUB
    try:
        return Dinov2Features(transformers.Dinov2Model.from_pretrained(source, use_safetensors=True))
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"task.discriminator = {name!r}: no weights in {place}, nor from the hub ({reason}); put config.json and "
            f"model.safetensors of {_HUB} into that folder, or set task.discriminator = 'patch', which needs none"
        ) from error
