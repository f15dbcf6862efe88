"""The DPT head (arXiv 2103.13413) for point maps with confidence, with the output of VGGT (arXiv 2503.11651)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import PointsConfig
from ..nn.attention import RMSNorm

_LARGEST_LOG = 10.0  # of coordinates and confidence before the exponential


class ResidualUnit(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Joins a map with the coarser one below it, and brings the sum to the next size."""

    def __init__(self, features: int, *, first: bool) -> None:
        super().__init__()
        if not first:
            self.skip = ResidualUnit(features)
        self.unit = ResidualUnit(features)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor, size: Sequence[int], skip: Tensor | None = None) -> Tensor:
        """Maps [B, C, h, w] -> [B, C, *size]; `skip` [B, C, h, w] is the finer map."""
        x = x if skip is None else x + self.skip(skip)
        return self.out(_resize(self.unit(x), size))


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


class PointHead(nn.Module):
    """Tokens of four layers -> one feature map at four scales -> points and confidence of every pixel."""

    def __init__(self, hidden: int, config: PointsConfig, eps: float | None) -> None:
        super().__init__()
        channels, features = config.channels, config.features
        self.norms = nn.ModuleList(RMSNorm(hidden, eps) for _ in channels)
        self.projects = nn.ModuleList(nn.Conv2d(hidden, count, 1) for count in channels)
        self.scales = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            ]
        )
        self.reduce = nn.ModuleList(nn.Conv2d(count, features, 3, padding=1, bias=False) for count in channels)
        self.fuse = nn.ModuleList(Fusion(features, first=i == len(channels) - 1) for i in range(len(channels)))
        self.out1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.out2 = nn.Sequential(nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 4, 1))

    def forward(
        self,
        features: Sequence[Tensor],  # four of [B, rows * columns, hidden]
        grid: tuple[int, int],  # (rows, columns) of the patches
        size: tuple[int, int],  # (height, width) in pixels
    ) -> tuple[Tensor, Tensor]:
        """Points [B, 3, H, W] and confidence [B, H, W] > 1, in float32."""
        maps = []
        for tokens, norm, project, scale, reduce in zip(
            features, self.norms, self.projects, self.scales, self.reduce, strict=True
        ):
            x = norm(tokens).transpose(1, 2).unflatten(2, grid)
            maps.append(reduce(scale(project(x))))
        x = self.fuse[3](maps[3], maps[2].shape[-2:])
        x = self.fuse[2](x, maps[1].shape[-2:], maps[2])
        x = self.fuse[1](x, maps[0].shape[-2:], maps[1])
        x = self.fuse[0](x, [2 * side for side in maps[0].shape[-2:]], maps[0])
        out = self.out2(_resize(self.out1(x), size)).float()
        points, confidence = out.split([3, 1], dim=1)
        points = points.clamp(-_LARGEST_LOG, _LARGEST_LOG)
        # Not sign times magnitude: fresh ones, at 0, need a gradient.
        points = torch.where(points < 0, -torch.expm1(-points), torch.expm1(points))
        return points, 1 + confidence[:, 0].clamp(max=_LARGEST_LOG).exp()
