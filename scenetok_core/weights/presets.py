"""The released models as data, and the recognition of a configuration from the tensors of a checkpoint.

Sizes and quirks are those of the models that the authors of SceneTok published (arXiv 2602.18882).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from ..configs import (
    CompressorConfig,
    DecoderConfig,
    GeneratorConfig,
    NetworkConfig,
    ReleasedConfig,
    SamplingConfig,
    SceneGenConfig,
    SceneTokConfig,
)

T = TypeVar("T")
C = TypeVar("C", bound=ReleasedConfig)
Shapes = Mapping[str, Sequence[int]]

_DL3DV_FOCAL = (15.0, 8.4375)  # 3840 / 256 and 2160 / 256, as trained, whatever the size of the pictures
_FAMILIES = {SceneGenConfig.family: ("scene_generator.",), SceneTokConfig.family: ("compressor.", "denoiser.")}
_POSITIONS = re.compile(r"freqs|\.model\.model\.pos_embed$")
_HEAD_DIM = 64
_LIKE = "like "


def _scenegen(shift: int) -> SceneGenConfig:
    sampling = SamplingConfig(steps=150, shift=float(shift), guidance=3.0, window=1, clean_targets=0)
    return SceneGenConfig(f"scenegen_shift{shift}_re10k", sampling=sampling)


PRESETS: Mapping[str, ReleasedConfig] = MappingProxyType(
    {
        config.name: config
        for config in (
            SceneTokConfig("va-videodc_re10k"),
            SceneTokConfig("va-videodc_re10k_scene", decoder=DecoderConfig(null_tokens=False)),
            SceneTokConfig(
                "va-videodc_dl3dv",
                context_views=16,
                compressor=CompressorConfig(tokens=1024),
                decoder=DecoderConfig(null_tokens=False),
                sampling=SamplingConfig(shift=8.0),
                context_focal=_DL3DV_FOCAL,
                target_focal=_DL3DV_FOCAL,
            ),
            SceneTokConfig(
                "va-wan_dl3dv",
                context_views=16,
                target_autoencoder="wan2.2",
                compressor=CompressorConfig(tokens=1024),
                decoder=DecoderConfig(
                    latent_channels=48, ray_patch=8, ray_order="ph pw t c", rope_group=5, null_tokens=False
                ),
                sampling=SamplingConfig(shift=4.0, window=10, clean_targets=5),
                context_focal=_DL3DV_FOCAL,
            ),
            _scenegen(1),
            _scenegen(4),
            _scenegen(12),
        )
    }
)


def model_tensors(state: Mapping[str, T]) -> dict[str, T]:
    """The entries that belong to the networks of one model.

    Left out: frozen parts (autoencoders, and the compressor beside a scene generator), whatever else a training tool
    stored, and position tables, which follow from the sizes.

    Raises:
        ValueError: there are none.
    """
    for prefixes in _FAMILIES.values():
        if any(name.startswith(prefixes) for name in state):
            return {k: v for k, v in state.items() if k.startswith(prefixes) and not _POSITIONS.search(k)}
    known = ", ".join(prefix for prefixes in _FAMILIES.values() for prefix in prefixes)
    raise ValueError(f"no SceneTok model: none of its {len(state)} tensors has a name that begins with one of {known}")


def recognise(shapes: Shapes) -> list[ReleasedConfig]:
    """The released models that a checkpoint fits equally well, best first; sizes that differ are taken from `shapes`.

    What shapes do not tell (ray order, focal factors, sampling) comes from the released model with the fewest
    differing sizes; its name is kept where no size differs, else it is "like NAME". Missing and mis-shaped tensors
    are not judged here.

    Args:
        shapes: shapes by official name, of a whole checkpoint; position tables tell the side of the ray map.

    Raises:
        ValueError: none of the names is one of a SceneTok model.
    """
    names = model_tensors(shapes)
    family = next(f for f, prefixes in _FAMILIES.items() if next(iter(names)).startswith(prefixes))
    ranked = []
    for preset in PRESETS.values():
        if preset.family == family:
            fitted = fit_preset(preset, shapes)
            ranked.append((_differences(preset, fitted), fitted))
    least = min(sizes for (sizes, _), _ in ranked)
    alike = sorted((row for row in ranked if row[0][0] == least), key=lambda row: row[0])
    return [fitted for _, fitted in alike]


def choose_preset(shapes: Shapes, file: str = "", preset: str | None = None) -> list[ReleasedConfig]:
    """The configuration of a checkpoint, and after it others that its shapes fit as well.

    Args:
        shapes: as for `recognise`.
        file: the file's name without its ending; it decides between released models of equal shapes.
        preset: the name of a released model; then nothing is guessed.

    Raises:
        ValueError: no SceneTok model, or an unknown preset.
    """
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
        return [with_null_tokens(PRESETS[preset], shapes)]
    return sorted(recognise(shapes), key=lambda config: config.name.removeprefix(_LIKE) != file)


def with_null_tokens(config: C, shapes: Shapes) -> C:
    """`config` with null tokens if the tensors have them; released files differ in that."""
    if isinstance(config, SceneGenConfig):
        return config
    decoder = dataclasses.replace(config.decoder, null_tokens="denoiser.null_tokens" in shapes)
    return dataclasses.replace(config, decoder=decoder)


def fit_preset(preset: ReleasedConfig, shapes: Shapes) -> ReleasedConfig:
    """`preset` with the sizes that the tensors have, among them whether there are null tokens."""
    if isinstance(preset, SceneGenConfig):
        generator = _generator(preset.generator, shapes)
        scale = _grid(generator) / _grid(preset.generator)
        fitted = dataclasses.replace(preset, generator=generator, image_size=round(preset.image_size * scale))
    else:
        compressor = _compressor(preset.compressor, shapes)
        decoder = _decoder(preset.decoder, shapes, compressor)
        scale = _grid(compressor) / _grid(preset.compressor)
        fitted = dataclasses.replace(
            preset, compressor=compressor, decoder=decoder, image_size=round(preset.image_size * scale)
        )
    sizes, _ = _differences(preset, fitted)
    return dataclasses.replace(fitted, name=_LIKE + preset.name) if sizes else fitted


def _grid(network: NetworkConfig) -> int:
    return network.ray_map // network.ray_patch


def _differences(preset: ReleasedConfig, fitted: ReleasedConfig) -> tuple[int, int]:
    """How many sizes of the networks differ, and whether the presence of null tokens does."""
    before, after = (_settings(config) for config in (preset, fitted))
    differing = [key for key in before if before[key] != after[key]]
    null = sum(key[1] == "null_tokens" for key in differing)
    return len(differing) - null, null


def _settings(config: ReleasedConfig) -> dict[tuple[str, str], Any]:
    parts = ("generator",) if isinstance(config, SceneGenConfig) else ("compressor", "decoder")
    return {(part, name): value for part in parts for name, value in dataclasses.asdict(getattr(config, part)).items()}


def _size(shapes: Shapes, default: int, *places: tuple[str, int]) -> int:
    """The size that most of `places` (tensor, axis) have, so that one mis-shaped tensor does not decide."""
    sizes = [shapes[name][axis] for name, axis in places if name in shapes and len(shapes[name]) > axis]
    return Counter(size for size in sizes if size > 0).most_common(1)[0][0] if any(sizes) else default


def _side(area: int, default: int) -> int:
    side = math.isqrt(max(area, 0))
    return side if side > 0 and side * side == area else default


def _depth(shapes: Shapes, prefix: str, default: int) -> int:
    numbers = {name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)}
    return len(numbers) or default


def _qk_norm(shapes: Shapes, attention: str, default: bool) -> bool:
    return attention + "q_norm.weight" in shapes if attention + "qkv.weight" in shapes else default


def _width(shapes: Shapes, default: NetworkConfig, head: tuple[str, int], *places: tuple[str, int]) -> dict[str, int]:
    """Hidden size and heads; `head` is where the size of a head shows, else it is that of the released models."""
    hidden, head_dim = _size(shapes, default.hidden, *places), _size(shapes, _HEAD_DIM, head)
    if hidden % head_dim:
        return {"hidden": default.hidden, "heads": default.heads}
    return {"hidden": hidden, "heads": hidden // head_dim}


def _compressor(like: CompressorConfig, shapes: Shapes) -> CompressorConfig:
    at = "compressor."
    table = at + "feat_rope.freqs_cos"  # [cells of a view, size of a head]
    features = _size(shapes, 6 * like.ray_patch**2, (at + "pose_embed.model.model.1.weight", 1))
    ray_patch = _side(features // 6, like.ray_patch)
    token_dim = _size(shapes, like.token_dim, ("denoiser.cnd_proj.weight", 1))
    statistics = _size(shapes, 2 * token_dim, (at + "out_proj.0.weight", 0), (at + "out_proj.0.bias", 0))
    embed = at + "y_embed.proj.weight"
    return dataclasses.replace(
        like,
        **_width(shapes, like, (table, 1), (at + "scene_tokens", 2), (embed, 0), (at + "out_proj.0.weight", 1)),
        depth=_depth(shapes, at + "aggregate.", like.depth),
        tokens=_size(shapes, like.tokens, (at + "scene_tokens", 1)),
        token_dim=token_dim,
        latent_channels=_size(shapes, like.latent_channels, (embed, 1)),
        patch=_size(shapes, like.patch, (embed, 2)),
        ray_map=_side(_size(shapes, _grid(like) ** 2, (table, 0)), _grid(like)) * ray_patch,
        ray_patch=ray_patch,
        qk_norm=_qk_norm(shapes, at + "aggregate.0.attn1.", like.qk_norm),
        posterior="normalised" if statistics == token_dim else "gaussian",
    )


def _decoder(like: DecoderConfig, shapes: Shapes, compressor: CompressorConfig) -> DecoderConfig:
    at, trunk = "denoiser.", "denoiser.model."
    per_ray = 6 * like.frames_per_latent
    features = _size(shapes, per_ray * like.ray_patch**2, (at + "pose_embed.model.model.1.weight", 1))
    ray_patch = _side(features // per_ray, like.ray_patch)
    embed, attention = trunk + "x_embedder.proj.weight", trunk + "blocks.0.attn."
    head = (attention + "q_norm.weight", 0)
    return dataclasses.replace(
        like,
        **_width(shapes, like, head, (embed, 0), (at + "cnd_proj.weight", 0), (at + "cnd_proj.bias", 0)),
        depth=_depth(shapes, trunk + "blocks.", like.depth),
        token_dim=compressor.token_dim,
        latent_channels=_size(shapes, like.latent_channels, (embed, 1)),
        patch=_size(shapes, like.patch, (embed, 2)),
        ray_map=compressor.ray_map if compressor.ray_map % ray_patch == 0 else like.ray_map,
        ray_patch=ray_patch,
        qk_norm=_qk_norm(shapes, attention, like.qk_norm),
        null_tokens=at + "null_tokens" in shapes,
    )


def _generator(like: GeneratorConfig, shapes: Shapes) -> GeneratorConfig:
    at, trunk = "scene_generator.", "scene_generator.model."
    embed, cond, attention = trunk + "x_embedder.weight", trunk + "c_embedder.proj.weight", trunk + "blocks.0.attn."
    head, rays = (attention + "q_norm.weight", 0), at + "pose_embed.model.model."
    ray_patch = _size(shapes, like.ray_patch, (rays + "proj.weight", 2))
    ray_map = _side(_size(shapes, like.ray_map**2, (rays + "pos_embed", 1)), like.ray_map)
    return dataclasses.replace(
        like,
        **_width(shapes, like, head, (embed, 0), (trunk + "pos_embed", 2), (trunk + "null_tokens", 2)),
        depth=_depth(shapes, trunk + "blocks.", like.depth),
        tokens=_size(shapes, like.tokens, (trunk + "pos_embed", 1)),
        token_dim=_size(shapes, like.token_dim, (embed, 1)),
        latent_channels=_size(shapes, like.latent_channels, (cond, 1)),
        patch=_size(shapes, like.patch, (cond, 2)),
        ray_map=ray_map if ray_map % ray_patch == 0 else like.ray_map,
        ray_patch=ray_patch,
        qk_norm=_qk_norm(shapes, attention, like.qk_norm),
    )
