"""Checkpoints and scenes on disk: safetensors with their configuration as JSON in the metadata.

Nothing here executes what it reads: pickled files are refused, or read with `weights_only`.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from ..configs import (
    DepthConfig,
    Dit3dConfig,
    ModelConfig,
    RaeConfig,
    SceneGenConfig,
    SceneTokConfig,
    StoredConfig,
    from_dict,
    to_dict,
)
from ..files import replacing
from ..models.dit3d import Dit3dNetworks
from ..models.networks import Networks
from ..models.rae import RaeNetworks
from ..models.scenegen import GeneratorNetworks
from ..types import SceneTokens
from ..versions import NewerVersionError
from .loading import assign_weights, check_shapes
from .pickles import PICKLED
from .presets import choose_preset, model_tensors

CHECKPOINT_FORMAT = "scenetok-checkpoint-1"
SCENE_FORMAT = "scenetok-scene-1"
_SCENE_TENSORS = ("tokens", "reference_c2w", "cameras.c2w", "cameras.K")
_LARGEST_EXAMINED = 16 * 2**20  # bytes
_OURS = "scenetok-"  # how every format of this project begins
_CONVERT = "turn it into one with `python -m scenetok_core convert IN OUT.safetensors`, which runs nothing of it"
_CHOOSE = "choose a checkpoint that training/train.py or `convert` wrote"
_KINDS: dict[type[StoredConfig], str] = {
    SceneTokConfig: "a SceneTok model",
    SceneGenConfig: "a scene generator",
    DepthConfig: "a depth head",
    RaeConfig: "a 3DRAE model",
    Dit3dConfig: "a 3DDiT generator",
}
_CONFIGS = {config.family: config for config in _KINDS}
C = TypeVar("C", bound=StoredConfig)


def model_hash(state: Mapping[str, Tensor]) -> str:
    """16 hex digits that identify weights: SHA-256 over names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().contiguous().cpu()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with metadata; it appears whole or not at all.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    with replacing(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode  # safetensors writes files that only their owner can read
        try:
            save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, partial, dict(metadata))
        except SafetensorError as error:  # its name for a full disk
            raise OSError(f"cannot write {path}: {error}") from error
        _sort_metadata(partial)
        partial.chmod(mode)


def _sort_metadata(path: Path) -> None:
    """Bring the metadata of a safetensors file into order, in place: the library writes it in any."""
    with path.open("r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(ordered) <= length:  # spaces fill the rest, as the format allows
            file.seek(8)
            file.write(ordered.ljust(length))


def save_checkpoint(
    path: str | Path,
    state: Mapping[str, Tensor],
    config: StoredConfig,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write model weights with their configuration; the file appears whole or not at all."""
    header = {
        **(metadata or {}),
        "format": CHECKPOINT_FORMAT,
        "family": config.family,
        "config": json.dumps(to_dict(config)),
        "model_hash": model_hash(state),
    }
    write_tensors(Path(path), state, header)


def read_tensors(path: str | Path, *, mapped: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Args:
        path: the file.
        mapped: tensors stay where they are in the file until they are used, which suits large files that nobody
            writes. While they live, the file must not change, and Windows neither replaces nor deletes it.

    Raises:
        ValueError: missing, truncated or not a safetensors file; or a pickled file, which is not loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    if path.suffix.lower() in PICKLED:
        _refuse_pickle(path)
    try:
        tensors = load_file(path) if mapped else load(path.read_bytes())
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    except (SafetensorError, struct.error, ValueError, OSError) as error:
        raise ValueError(
            f"{path.name} is damaged or no safetensors file ({error}); download or copy it again"
        ) from error
    return tensors, header.get("__metadata__", {})


def checkpoint_family(path: str | Path) -> str | None:
    """Which family of models a checkpoint says it is, without reading its weights; None where it says nothing.

    Files without metadata, such as converted ones of others, and files that cannot be read say nothing.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return metadata.get("family") if metadata.get("format") == CHECKPOINT_FORMAT else None


def _refuse_pickle(path: Path) -> None:
    """Raise `ValueError`; small files are examined, without running their code, to say what is wrong with them."""
    if path.stat().st_size > _LARGEST_EXAMINED:
        raise ValueError(
            f"{path.name} is a pickled file; it was not loaded, because that could run code from the file. Use a "
            f".safetensors file: {_CONVERT}"
        )
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(
            f"{path.name} holds Python objects besides tensors, or is damaged; it was not loaded, because that could "
            f"run code from the file. Use a .safetensors file: {_CONVERT} ({reason})"
        ) from error
    raise ValueError(
        f"{path.name} is a pickled file without a model configuration; use a .safetensors checkpoint, such as "
        f"training/train.py writes, or {_CONVERT}"
    )


def load_checkpoint(
    path: str | Path,
    kind: type[C] = SceneTokConfig,
) -> tuple[dict[str, Tensor], C, dict[str, str]]:
    """Weights, configuration and metadata of a checkpoint; `model_hash` in the metadata is that of these weights.

    A file without metadata whose tensors have the released names is recognised (`presets.choose_preset`).

    Args:
        path: a safetensors file.
        kind: the configuration class of what is wanted: a model or generator of either family, or a depth head.

    Raises:
        ValueError: unreadable file, one that is not a checkpoint of this project, one of another kind, or one whose
            weights are not those that it was written with.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    tensors, (config, *_) = identify(path, tensors, metadata)
    if not isinstance(config, kind):
        raise ValueError(f"{path.name} is {_KINDS[type(config)]}, not {_KINDS[kind]}; choose another file")
    actual = model_hash(tensors)
    stored = metadata.get("model_hash", actual)
    if stored != actual:
        raise ValueError(
            f"{path.name} was changed after it was written: its weights have the hash {actual}, its metadata "
            f"says {stored}; copy or download it again, or write changed weights with save_checkpoint"
        )
    return tensors, config, {**metadata, "model_hash": actual}


def identify(
    path: Path, tensors: dict[str, Tensor], metadata: Mapping[str, str], preset: str | None = None
) -> tuple[dict[str, Tensor], list[StoredConfig]]:
    """The networks' tensors of a file and its configuration: the stored one, else as the tensors tell.

    Args:
        path: names the file, in errors and to `presets.choose_preset`.
        tensors: all that the file holds.
        metadata: of a safetensors file, else empty.
        preset: the name of a released model that the file is; overrides the stored configuration.

    Returns:
        The tensors to load, and the configuration followed by others that fit them as well.

    Raises:
        ValueError: no SceneTok model, an unreadable configuration or an unknown preset.
    """
    if preset is None and metadata.get("format", "").startswith(_OURS):
        return tensors, [_stored_config(path, metadata)]
    try:
        kept = model_tensors(tensors)
    except ValueError as error:
        raise ValueError(f"{path.name} is no SceneTok checkpoint ({error}); {_CHOOSE}") from error
    return kept, [*choose_preset({k: v.shape for k, v in tensors.items()}, path.stem, preset)]


def _stored_config(path: Path, metadata: Mapping[str, str]) -> StoredConfig:
    _check_newer(path, metadata["format"], CHECKPOINT_FORMAT)
    if metadata["format"] != CHECKPOINT_FORMAT:
        what = "a saved scene, not a model" if metadata["format"] == SCENE_FORMAT else "no SceneTok checkpoint"
        raise ValueError(
            f"{path.name} is {what} (format {metadata['format']!r}, expected {CHECKPOINT_FORMAT!r}); {_CHOOSE}"
        )
    family = metadata.get("family", SceneTokConfig.family)
    try:
        if family not in _CONFIGS:
            raise ValueError(f"unknown family {family!r}; this version knows {', '.join(_CONFIGS)}")
        return from_dict(_CONFIGS[family], json.loads(metadata.get("config", "")))
    except ValueError as error:
        raise ValueError(f"{path.name} has an unreadable configuration: {error}") from error


def _check_newer(path: Path, found: str, ours: str) -> None:
    """Raise `ValueError` for a format that is `ours` with a higher number at its end."""
    kind, _, number = found.rpartition("-")
    known_kind, _, known = ours.rpartition("-")
    if kind == known_kind and number.isdecimal() and int(number) > int(known):
        raise ValueError(
            f"{path.name} was written by a newer version of this pack (format {found!r}, this one reads up to "
            f"{ours!r}); update the pack"
        )


AnyNetworks = Networks | GeneratorNetworks | RaeNetworks | Dit3dNetworks
_NETWORKS: dict[type[ModelConfig], Callable[[Any], AnyNetworks]] = {
    SceneTokConfig: Networks,
    SceneGenConfig: GeneratorNetworks,
    RaeConfig: RaeNetworks,
    Dit3dConfig: Dit3dNetworks,
}


def build_networks(config: ModelConfig) -> AnyNetworks:
    """The networks of a configuration, freshly initialised on the default device."""
    return _NETWORKS[type(config)](config)


@overload
def load_networks(
    state: Mapping[str, Tensor], config: SceneTokConfig, dtype: torch.dtype | None = None
) -> Networks: ...
@overload
def load_networks(
    state: Mapping[str, Tensor], config: SceneGenConfig, dtype: torch.dtype | None = None
) -> GeneratorNetworks: ...
@overload
def load_networks(state: Mapping[str, Tensor], config: RaeConfig, dtype: torch.dtype | None = None) -> RaeNetworks: ...
@overload
def load_networks(
    state: Mapping[str, Tensor], config: Dit3dConfig, dtype: torch.dtype | None = None
) -> Dit3dNetworks: ...
def load_networks(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    dtype: torch.dtype | None = None,
) -> AnyNetworks:
    """Build the networks of `config` around `state`, without initialising them first.

    Raises:
        ValueError: missing, unexpected or mis-shaped tensors; at most five of each are named, with the
            configuration tried.
    """
    networks, expected = _empty_networks(config)
    check_shapes(state, expected, _misfit(config))
    assign_weights(networks, state, dtype)
    return networks


def check_tensors(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Raise the errors of `load_networks` without loading."""
    check_shapes(state, _empty_networks(config)[1], _misfit(config))


def _empty_networks(config: ModelConfig) -> tuple[AnyNetworks, dict[str, torch.Size]]:
    with torch.device("meta"):
        networks = build_networks(config)
    return networks, {name: tensor.shape for name, tensor in networks.state_dict().items()}


def _misfit(config: ModelConfig) -> str:
    return f"checkpoint does not fit the configuration {config.name!r}"


def save_scene(path: str | Path, scene: SceneTokens, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a scene: tokens in `dtype` (512 x 64 tokens take 64 KiB in bf16), poses in float32, notes as JSON."""
    tensors = {
        "tokens": scene.tokens.to(dtype),
        "reference_c2w": scene.reference_c2w.clone(),  # safetensors refuses views of one storage
        "cameras.c2w": scene.cameras.c2w,
        "cameras.K": scene.cameras.K,
    }
    if scene.mask is not None:
        tensors["mask"] = scene.mask
    data = scene.to_dict()
    plain = {k: v for k, v in data.items() if k not in ("tokens", "mask", "reference_c2w", "cameras")}
    plain["cameras"] = {k: v for k, v in data["cameras"].items() if k not in ("c2w", "K")}
    write_tensors(Path(path), tensors, {"format": SCENE_FORMAT, "scene": json.dumps(plain)})


def load_scene(path: str | Path) -> SceneTokens:
    """Read a scene that `save_scene` wrote; tokens as float32.

    Raises:
        ValueError: unreadable file, one that is not a scene or of a newer version, or a scene with missing or
            impossible parts.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, mapped=False)
    _check_newer(path, metadata.get("format", ""), SCENE_FORMAT)
    if metadata.get("format") != SCENE_FORMAT:
        what = "a model checkpoint, not a scene" if metadata.get("format") == CHECKPOINT_FORMAT else "no saved scene"
        raise ValueError(f"{path.name} is {what} (expected format {SCENE_FORMAT!r}); choose a file of saved tokens")
    try:
        return _scene(tensors, metadata)
    except NewerVersionError as error:
        raise ValueError(f"{path.name}: {error}") from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
    ) as error:  # values of other types, in a file that others wrote
        raise ValueError(f"{path.name} is no complete scene: {error}; encode the views again") from error


def _scene(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SceneTokens:
    plain: dict[str, Any] = json.loads(metadata.get("scene", "{}"))
    missing = [f"tensor {name!r}" for name in _SCENE_TENSORS if name not in tensors]
    missing += [f"metadata 'scene' {name!r}" for name in ("scene_scale", "cameras") if name not in plain]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    cameras = {**plain["cameras"], "c2w": tensors["cameras.c2w"], "K": tensors["cameras.K"]}
    values = {"tokens": tensors["tokens"].float(), "reference_c2w": tensors["reference_c2w"]}
    return SceneTokens.from_dict({**plain, **values, "cameras": cameras, "mask": tensors.get("mask")})
