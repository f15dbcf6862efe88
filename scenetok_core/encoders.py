"""The frozen 2-D encoders of 3DRAE (arXiv 2604.11331, section A.1): what its neck needs to know of them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class ImageEncoder(Protocol):
    """Pictures -> one feature per patch, as many as the 3DRAE has patches."""

    network: nn.Module

    def encode(self, rgb: Tensor) -> Tensor:
        """Pictures [n, 3, H, W] in [0, 1], sides multiples of the 3DRAE's patch -> [n, patches, features]."""
        ...

    def encode_bytes(self, pictures: int, patches: int) -> int:
        """Bytes to encode so many pictures of so many patches each, beside the weights."""
        ...
