"""The values that travel through the package: cameras, posed pictures and scene tokens.

Conventions (`docs/conventions.md`): OpenCV axes (x right, y down, z forward), camera-to-world poses, intrinsics
divided by picture width (row 0) and height (row 1), RGB in [0, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .versions import Versions

SCENE_TOKENS_VERSIONS = Versions("scene tokens")
CAMERAS_VERSIONS = Versions("cameras")
_ROTATION_TOLERANCE = 5e-3
_LAST_ROW_TOLERANCE = 1e-4
_LARGEST_NORMALISED_CENTRE = 4.0
_LARGEST_NORMALISED_FOCAL = 64.0


def check_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise `ValueError` unless the last dimensions of `tensor` are `shape` (None matches any size)."""
    tail = tuple(tensor.shape[-len(shape) :])
    matches = len(tail) == len(shape) and all(want in (None, got) for want, got in zip(shape, tail, strict=True))
    if not matches:
        want = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [..., {want}], got {list(tensor.shape)}")


def _check_finite(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        bad = (~torch.isfinite(tensor)).flatten(-2).any(-1).reshape(-1).nonzero().flatten().tolist()
        where = f" in view(s) {bad[:5]}" if tensor.ndim > 2 else ""
        raise ValueError(f"{name} holds NaN or infinite values{where}; remove or repair these poses")


def _check_poses(name: str, c2w: Tensor) -> None:
    _check_finite(name, c2w)
    rotation = c2w[..., :3, :3].double()
    eye = torch.eye(3, dtype=torch.float64, device=c2w.device)
    error = (rotation @ rotation.transpose(-1, -2) - eye).abs().amax((-1, -2)).reshape(-1)
    error = torch.maximum(error, (torch.linalg.det(rotation).reshape(-1) - 1).abs())
    worst = int(error.argmax())
    if error[worst] > _ROTATION_TOLERANCE:
        where = f" of view {worst}" if c2w.ndim > 2 else ""
        raise ValueError(
            f"{name}{where} is not a rotation (R R^T or det R is off by {float(error[worst]):.3g}); expected a "
            "right-handed orthonormal camera-to-world rotation without scale or mirror"
        )
    _check_last_row(name, c2w, "a projective or transposed matrix")


def _check_last_row(name: str, matrices: Tensor, otherwise: str) -> None:
    side = matrices.shape[-1]
    last = torch.eye(side, device=matrices.device)[-1]
    if not torch.allclose(matrices[..., -1, :], last.expand_as(matrices[..., -1, :]), atol=_LAST_ROW_TOLERANCE):
        row = [0] * (side - 1) + [1]
        raise ValueError(f"the last row of every {name} must be {row}; got {otherwise}")


def _check_intrinsics(K: Tensor) -> None:
    _check_finite("K", K)
    focal, centre = K[..., (0, 1), (0, 1)], K[..., :2, 2]
    offset = float(centre.abs().max())
    if offset > _LARGEST_NORMALISED_CENTRE or float(focal.max()) > _LARGEST_NORMALISED_FOCAL:
        raise ValueError(
            f"K looks like pixels (focal up to {float(focal.max()):.4g}, centre up to {offset:.4g} from the picture's "
            "corner); divide row 0 by the picture width and row 1 by its height"
        )
    _check_last_row("K", K, "a projective or transposed matrix, or one multiplied by a factor")
    if float(focal.min()) <= 0:
        raise ValueError(
            f"K must have positive focal lengths, got {float(focal.min()):.4g}; mirrored axes are not supported"
        )


@dataclass(frozen=True, eq=False)
class Cameras:
    """Posed pinhole cameras of one scene, or of a batch of scenes.

    Raises:
        ValueError: wrong shapes, no view, non-finite poses, a rotation that is none, intrinsics that are in pixels or
            no pinhole camera's.
    """

    c2w: Tensor  # [..., V, 4, 4] float32, OpenCV camera-to-world, in scene units
    K: Tensor  # [..., V, 3, 3] float32, row 0 divided by picture width, row 1 by height
    size: tuple[int, int] | None = None  # (height, width) in pixels of the pictures, when they share one
    names: tuple[str, ...] = ()  # one per view, or empty
    unit: str = "relative"  # "metric" when scene units are metres, else "relative"

    def __post_init__(self) -> None:
        check_shape("c2w", self.c2w, (None, 4, 4))
        check_shape("K", self.K, (self.c2w.shape[-3], 3, 3))
        if self.c2w.shape[-3] == 0:
            raise ValueError("a camera path needs at least one camera, got zero frames")
        object.__setattr__(self, "c2w", self.c2w.detach().to(torch.float32))
        object.__setattr__(self, "K", self.K.detach().to(torch.float32))
        _check_poses("c2w", self.c2w)
        _check_intrinsics(self.K)
        if self.names and len(self.names) != len(self):
            raise ValueError(f"names must hold one entry per view ({len(self)}), got {len(self.names)}")
        if self.unit not in ("relative", "metric"):
            raise ValueError(f"unit must be 'relative' or 'metric', got {self.unit!r}")

    def __len__(self) -> int:
        return self.c2w.shape[-3]

    def __iter__(self) -> Iterator[Cameras]:
        return (self[[i]] for i in range(len(self)))

    def __getitem__(self, index: slice | list[int] | Tensor) -> Cameras:
        """Views `index` (a slice or a list; a single view is `[[i]]`) of every scene."""
        picked = torch.arange(len(self))[index].tolist()
        names = tuple(self.names[i] for i in picked) if self.names else ()
        return self.replace(c2w=self.c2w[..., picked, :, :], K=self.K[..., picked, :, :], names=names)

    @property
    def centers(self) -> Tensor:
        """Camera centres [..., V, 3] in scene units."""
        return self.c2w[..., :3, 3]

    @property
    def forward(self) -> Tensor:
        """Unit viewing directions [..., V, 3]."""
        return self.c2w[..., :3, 2]

    def replace(self, **changes: Any) -> Cameras:
        """A copy with some fields replaced (and checked again)."""
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device | str) -> Cameras:
        """The same cameras on another device."""
        return self.replace(c2w=self.c2w.to(device), K=self.K.to(device))

    def to_dict(self) -> dict[str, Any]:
        """The plain, versioned form used by the `SCENE_CAMERAS` socket."""
        return {
            "version": CAMERAS_VERSIONS.newest,
            "c2w": self.c2w.cpu(),
            "K": self.K.cpu(),
            "size": self.size,
            "names": list(self.names),
            "unit": self.unit,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cameras:
        """Read what `to_dict` wrote. Raises `ValueError` for something else or a newer version."""
        data = CAMERAS_VERSIONS.upgrade(data)
        _check_keys("cameras", data, ("c2w", "K"))
        size = data.get("size")
        return cls(
            c2w=torch.as_tensor(data["c2w"]),
            K=torch.as_tensor(data["K"]),
            size=(int(size[0]), int(size[1])) if size else None,
            names=tuple(data.get("names") or ()),
            unit=data.get("unit", "relative"),
        )


def _check_keys(what: str, data: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in data]
    if missing:
        raise ValueError(f"not a {what} value: {missing} missing, got keys {sorted(data)[:8]}")


@dataclass(frozen=True, eq=False)
class Views:
    """Pictures with their cameras, which know the size of the pictures: `cameras.size` is filled in when it is None.

    Raises:
        ValueError: no pictures, wrong shape, a different number of pictures and cameras, or cameras made for pictures
            of another size.
    """

    rgb: Tensor  # [..., V, 3, H, W] float32 in [0, 1]
    cameras: Cameras  # V cameras, K and size of exactly these pictures

    def __post_init__(self) -> None:
        check_shape("rgb", self.rgb, (None, 3, None, None))
        if self.rgb.shape[-4] == 0:
            raise ValueError("no views: at least one posed picture is needed")
        if self.rgb.shape[-4] != len(self.cameras):
            raise ValueError(
                f"{self.rgb.shape[-4]} pictures but {len(self.cameras)} cameras; every picture needs exactly one camera"
            )
        size = (self.rgb.shape[-2], self.rgb.shape[-1])
        if self.cameras.size is None:
            object.__setattr__(self, "cameras", self.cameras.replace(size=size))
        elif tuple(self.cameras.size) != size:
            raise ValueError(
                f"the pictures are {size[0]} x {size[1]} (height x width) but the cameras belong to pictures of "
                f"{self.cameras.size[0]} x {self.cameras.size[1]}; after a resize with equal proportions use "
                "cameras.replace(size=...), to resize and crop both together use camera.fit_views"
            )

    def __len__(self) -> int:
        return self.rgb.shape[-4]

    def __getitem__(self, index: slice | list[int] | Tensor) -> Views:
        """Views `index` (a slice or a list; a single view is `[[i]]`)."""
        picked = torch.arange(len(self))[index].tolist()
        return Views(self.rgb[..., picked, :, :, :], self.cameras[picked])

    def to(self, device: torch.device | str) -> Views:
        """The same views on another device."""
        return Views(self.rgb.to(device), self.cameras.to(device))


@dataclass(frozen=True, eq=False)
class SceneTokens:
    """A compressed scene: an unordered set of tokens and the frame in which cameras address it.

    A camera `c2w` of the input world reaches the network as `inv(reference_c2w) @ c2w` with its translation multiplied
    by `scene_scale` (see `camera.to_scene_frame`).

    Raises:
        ValueError: wrong shapes, values that are not finite, a reference pose that is none, a mask without tokens, or
            a scale that is not positive.
    """

    tokens: Tensor  # [N, D] float
    reference_c2w: Tensor  # [4, 4] float32, input world
    scene_scale: float  # network units per input unit
    cameras: Cameras  # the cameras that were encoded, input world
    preset: str  # name of the model configuration
    model_hash: str  # identifies the weights (see `checkpoints.model_hash`)
    family: str = "scenetok"
    mask: Tensor | None = None  # [N] bool, True = token is used; None = all
    meta: Mapping[str, Any] = field(default_factory=dict)  # JSON-able notes

    def __post_init__(self) -> None:
        check_shape("tokens", self.tokens, (None, None))
        if self.tokens.ndim != 2 or 0 in self.tokens.shape:
            raise ValueError(f"tokens must have shape [N, D] with N, D > 0, got {list(self.tokens.shape)}")
        if not bool(torch.isfinite(self.tokens).all()):
            raise ValueError("tokens hold NaN or infinite values; encode the views again")
        if tuple(self.reference_c2w.shape) != (4, 4):
            raise ValueError(f"reference_c2w must have shape [4, 4], got {list(self.reference_c2w.shape)}")
        object.__setattr__(self, "reference_c2w", self.reference_c2w.detach().to(torch.float32))
        _check_poses("reference_c2w", self.reference_c2w)
        if self.mask is not None:
            if tuple(self.mask.shape) != (len(self.tokens),):
                raise ValueError(f"mask must have shape [{len(self.tokens)}], got {list(self.mask.shape)}")
            if not bool(self.mask.any()):
                raise ValueError("mask removes every token; keep at least one")
        if not (self.scene_scale > 0 and self.scene_scale != float("inf")):
            raise ValueError(f"scene_scale must be a positive number, got {self.scene_scale}")

    @property
    def active(self) -> Tensor:
        """The tokens that are used, [M, D]."""
        return self.tokens if self.mask is None else self.tokens[self.mask]

    def replace(self, **changes: Any) -> SceneTokens:
        """A copy with some fields replaced (and checked again)."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The plain, versioned form used by the `SCENE_TOKENS` socket; tensors on the CPU."""
        return {
            "version": SCENE_TOKENS_VERSIONS.newest,
            "family": self.family,
            "preset": self.preset,
            "model_hash": self.model_hash,
            "tokens": self.tokens.cpu(),
            "mask": self.mask.cpu() if self.mask is not None else torch.ones(len(self.tokens), dtype=torch.bool),
            "reference_c2w": self.reference_c2w.cpu(),
            "scene_scale": self.scene_scale,
            "cameras": self.cameras.to_dict(),
            "meta": dict(self.meta),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SceneTokens:
        """Read what `to_dict` wrote. Raises `ValueError` for something else or a newer version."""
        data = SCENE_TOKENS_VERSIONS.upgrade(data)
        _check_keys("scene tokens", data, ("tokens", "reference_c2w", "scene_scale", "cameras"))
        mask = data.get("mask")
        return cls(
            tokens=data["tokens"],
            reference_c2w=data["reference_c2w"],
            scene_scale=float(data["scene_scale"]),
            cameras=Cameras.from_dict(data["cameras"]),
            preset=data.get("preset", ""),
            model_hash=data.get("model_hash", ""),
            family=data.get("family", "scenetok"),
            mask=None if mask is None or bool(mask.all()) else mask,
            meta=dict(data.get("meta") or {}),
        )


def check_scene_model(scene: SceneTokens, family: str, name: str, digest: str, token_dim: int) -> None:
    """Raise `ValueError` unless `scene` holds tokens of the model of this family, name and hash."""
    if scene.family != family:
        raise ValueError(
            f"these tokens are of family {scene.family!r} (model {scene.preset!r}), and {name!r} is a model of family "
            f"{family!r}; load {scene.preset!r}, or encode the views again with {name!r}"
        )
    if scene.model_hash != digest or scene.tokens.shape[-1] != token_dim:
        raise ValueError(
            f"these tokens were made by model {scene.preset!r} ({scene.model_hash}), not by {name!r} ({digest}); load "
            "that model, or encode the views again with this one"
        )
