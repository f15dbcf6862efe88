"""Frozen configurations of the models, and their strict JSON form.

A configuration is stored as JSON in the metadata of every checkpoint, so a file describes itself.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

RayOrder = Literal["t ph pw c", "ph pw t c"]
Prediction = Literal["v", "x"]
ScheduleName = Literal["full_sequence", "autoregressive", "pyramid"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class CompressorConfig:
    """The perceiver that turns view latents and rays into scene tokens (SceneTok, section 3.1)."""

    hidden: int = 768
    depth: int = 12
    heads: int = 12
    tokens: int = 512  # scene tokens N
    token_dim: int = 64
    latent_channels: int = 32
    patch: int = 2  # latent cells per token side
    ray_map: int = 128  # side of the ray map in rays
    ray_patch: int = 16  # rays per token side
    mlp_ratio: float = 4.0
    qk_norm: bool = False
    norm_eps: float | None = None  # None: torch's default for the dtype, as the released models
    posterior: Literal["gaussian", "normalised"] = "gaussian"  # normalised: unit-variance points, no sampling

    def __post_init__(self) -> None:
        _require(self.hidden % self.heads == 0, f"compressor.hidden {self.hidden} must divide by heads {self.heads}")
        _require(self.ray_map % self.ray_patch == 0, "compressor.ray_map must be a multiple of ray_patch")


@dataclass(frozen=True)
class DecoderConfig:
    """The rectified-flow transformer that renders target latents from scene tokens (SceneTok, section 3.2)."""

    hidden: int = 1024
    depth: int = 24
    heads: int = 16
    token_dim: int = 64
    latent_channels: int = 128
    patch: int = 1
    ray_map: int = 128
    ray_patch: int = 16
    frames_per_latent: int = 4  # ray maps packed into one latent
    ray_order: RayOrder = "t ph pw c"  # feature order of a packed ray patch
    rope_group: int | None = None  # temporal positions restart every so many latents; None: never
    mlp_ratio: float = 4.0
    qk_norm: bool = True
    norm_eps: float | None = 1e-6
    prediction: Prediction = "v"  # what the network predicts: velocity or clean latent
    ray_input: bool = False  # add the ray embedding to the input tokens too, not only to adaLN
    null_tokens: bool = True  # learnt unconditional token, needed for guidance

    def __post_init__(self) -> None:
        _require(self.hidden % self.heads == 0, f"decoder.hidden {self.hidden} must divide by heads {self.heads}")
        _require(self.ray_map % self.ray_patch == 0, "decoder.ray_map must be a multiple of ray_patch")


@dataclass(frozen=True)
class SamplingConfig:
    """How target latents are sampled when the caller does not say otherwise."""

    steps: int = 25
    shift: float = 1.0  # timestep shift s: t -> s t / (1 + (s - 1) t)
    guidance: float = 1.0  # classifier-free guidance; 1 is off
    window: int = 8  # latents in one pass
    clean_targets: int = 4  # finished latents kept as context when the window slides
    schedule: ScheduleName = "full_sequence"


@dataclass(frozen=True)
class SceneTokConfig:
    """A whole SceneTok model: autoencoders, networks, sampling defaults and the quirks of its training."""

    name: str
    image_size: int = 256  # side of the square pictures, in pixels
    context_views: int = 12  # most input views
    scene_extent: float = 1.4  # camera extent (network units) that scene scale "auto" aims at
    context_autoencoder: str = "va-vae"
    target_autoencoder: str = "videodcae"
    compressor: CompressorConfig = field(default_factory=CompressorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    context_focal: tuple[float, float] = (1.0, 1.0)  # factors on fx, fy of the context ray maps, as trained
    target_focal: tuple[float, float] = (1.0, 1.0)  # factors on fx, fy of the target ray maps, as trained

    def __post_init__(self) -> None:
        _require(
            self.compressor.token_dim == self.decoder.token_dim,
            f"compressor.token_dim {self.compressor.token_dim} and decoder.token_dim {self.decoder.token_dim} differ",
        )
        _require(self.scene_extent > 0, f"scene_extent must be positive, got {self.scene_extent}")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass configuration as plain JSON-able data."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Build a (nested) configuration dataclass from plain data.

    Raises:
        ValueError: an unknown or missing key, or a value of the wrong type; the message gives the key's full path and
            what is known there.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where or cls.__name__} must be a table of settings, got {data!r}")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ValueError(f"unknown setting {where}{unknown[0]}; known here: {', '.join(fields)}")
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and name not in data
    ]
    if required:
        raise ValueError(f"setting {where}{required[0]} is missing ({cls.__name__} has no default for it)")
    return cls(**{name: _convert(hints[name], value, f"{where}{name}") for name, value in data.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where + ".")  # type: ignore[arg-type]
    if origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"setting {where} must be one of {list(get_args(hint))}, got {value!r}")
        return value
    if origin is tuple:
        return _convert_tuple(get_args(hint), value, where)
    return _convert_scalar(hint, value, where)


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    options = [option for option in get_args(hint) if option is not type(None)]
    if value is None and len(options) < len(get_args(hint)):
        return None
    for option in options[:-1]:
        try:
            return _convert(option, value, where)
        except ValueError:
            continue
    return _convert(options[-1], value, where)


def _convert_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"setting {where} must be a list, got {value!r}")
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise ValueError(f"setting {where} must have {len(items)} entries, got {len(value)}: {value!r}")
    return tuple(
        _convert(item, entry, f"{where}[{i}]") for i, (item, entry) in enumerate(zip(items, value, strict=True))
    )


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"setting {where} must be {hint.__name__}, got {value!r}")
    return value
