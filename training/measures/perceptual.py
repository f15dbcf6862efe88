"""Distances in the features of networks trained on photographs: LPIPS and the Fréchet inception distance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scenetok_core.pictures.sheets import to_bytes
from training.measures.availability import UnavailableError, require_hub_file, require_module

_BACKBONE = "vgg16-397923af.pth"
_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_FEATURES = 2048
_AT_ONCE = 16


class Lpips:
    """LPIPS (Zhang et al. 2018) of pictures, in [0, about 1]; 0 for equal ones.

    Args:
        network: an `lpips.LPIPS`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> Lpips:
        """The measure with VGG features, as the pixelSplat family of methods reports it.

        Raises:
            UnavailableError: the package or the weights of its backbone are missing.
        """
        package = require_module("lpips")
        require_hub_file(_BACKBONE, 'import lpips; lpips.LPIPS(net="vgg")')
        return cls(package.LPIPS(net="vgg", verbose=False).to(device))

    @torch.no_grad()
    def __call__(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """Distance of every picture [N, 3, H, W] in [0, 1] from its truth: [N] on the CPU.

        Sides must have at least 16 pixels.
        """
        device = next(self.network.parameters()).device
        batches = zip(pictures.split(_AT_ONCE), truth.split(_AT_ONCE), strict=True)
        found = [self.network(a.to(device), b.to(device), normalize=True).flatten().cpu() for a, b in batches]
        return torch.cat(found)


class FrechetDistance:
    """Fréchet distance between the features of two sets of pictures (FID, Heusel et al. 2017), from 0 up; 0 is best.

    Called rFID where the pictures are renderings of encoded scenes, gFID where they are generated. It falls with the
    number of pictures: only figures of equally many compare.

    Args:
        features: module from uint8 pictures [N, 3, H, W] to features [N, F], or the width of the standard network.
        device: where it runs.

    Raises:
        UnavailableError: torchmetrics is missing.
    """

    def __init__(self, features: nn.Module | int, device: torch.device | str = "cpu") -> None:
        module = require_module("torchmetrics.image.fid")
        self._metric: Any = module.FrechetInceptionDistance(feature=features).to(device)
        self._device = device

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> FrechetDistance:
        """The measure with the standard network (Inception v3 as published with FID, 2048 features).

        Raises:
            UnavailableError: a package or the weights are missing.
        """
        require_module("torchmetrics.image.fid")
        require_module("torch_fidelity")
        fetch = f"from torchmetrics.image.fid import FrechetInceptionDistance as FID; FID({_INCEPTION_FEATURES})"
        require_hub_file(_INCEPTION, fetch)
        return cls(_INCEPTION_FEATURES, device)

    def twin(self) -> FrechetDistance:
        """An empty measure with the same network, for another set of pictures."""
        return FrechetDistance(self._metric.inception, self._device)

    def update(self, pictures: Tensor, truth: Tensor) -> None:
        """Take notice of pictures and truth, [N, 3, H, W] in [0, 1] each; rounded to 256 levels, as files hold them."""
        for values, real in ((pictures, False), (truth, True)):
            for batch in to_bytes(values).movedim(-1, -3).contiguous().split(_AT_ONCE):
                self._metric.update(batch.to(self._device), real=real)

    def compute(self) -> float:
        """The distance between all pictures and all truths so far.

        Raises:
            UnavailableError: fewer than two pictures.
        """
        counts = (int(self._metric.real_features_num_samples), int(self._metric.fake_features_num_samples))
        if min(counts) < 2:
            raise UnavailableError(f"needs at least two pictures, got {min(counts)}: measure more scenes")
        return float(self._metric.compute())
