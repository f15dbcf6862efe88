"""Recompute recorded outputs of the official modules and compare.

    python tests/golden/check.py FILE.safetensors

Sizes and switches are read from the JSON file beside FILE, so files of the same form with other sizes work. Prints one
line `group max_abs_diff tolerance` per known group, lists the groups it does not know, and exits non-zero on a miss.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scenetok_core.autoencoders import LatentSpec, wan
from scenetok_core.autoencoders import vavae as va
from scenetok_core.autoencoders import videodc as dc
from scenetok_core.autoencoders.clips import ClipAutoencoder
from scenetok_core.camera import plucker_features, pose_distance, ray_features, ray_map, relative_poses
from scenetok_core.configs import CompressorConfig, DecoderConfig, GeneratorConfig
from scenetok_core.models.compressor import Compressor
from scenetok_core.models.decoder import Decoder
from scenetok_core.models.networks import sample_latents
from scenetok_core.models.scenegen import Conditioning, SceneGen, sample_tokens
from scenetok_core.sampling import Schedule, make_schedule

RELATIVE_TOLERANCE = 1e-4
Tensors = dict[str, Tensor]
Pairs = list[tuple[Tensor, Tensor]]  # (computed, recorded)
_COMPRESSOR_FIELDS = (
    "hidden depth heads tokens token_dim latent_channels patch ray_map ray_patch mlp_ratio qk_norm norm_eps"
)
_DECODER_FIELDS = (
    "hidden depth heads token_dim latent_channels patch ray_map ray_patch mlp_ratio qk_norm norm_eps ray_order"
)
_GENERATOR_FIELDS = "hidden depth heads tokens token_dim patch ray_map ray_patch mlp_ratio qk_norm norm_eps token_scale"


def golden_parameter(key: str, shape: tuple[int, ...]) -> Tensor:
    """The parameter that the recording drew from its own name (recipe of the golden README)."""
    draw = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) == 3 and shape[0] == 1:
        return torch.from_numpy(draw)
    if len(shape) >= 2:
        return torch.from_numpy(draw / np.sqrt(np.prod(shape[1:])).astype(np.float32))
    if key.endswith(("weight", "gamma")):
        return torch.from_numpy(1 + np.float32(0.1) * draw)
    return torch.from_numpy(np.float32(0.1) * draw)


def golden_weights(model: nn.Module, prefix: str) -> None:
    """Fill `model` with the recorded run's parameters, in place."""
    state = {k: golden_parameter(prefix + k, tuple(v.shape)) for k, v in model.state_dict().items()}
    model.load_state_dict(state, strict=True)
    model.eval()


def _pick(config: dict[str, Any], names: str) -> dict[str, Any]:
    return {name: config[name] for name in names.split()}


def _build_decoder(config: dict[str, Any]) -> tuple[Decoder, LatentSpec]:
    group_latents = config.get("latents_per_group", 1)
    group_frames = config.get("frames_per_group", config.get("frames_per_latent", 4))
    frames = config.get("frames_per_latent") or -(-(group_frames - 1) // max(group_latents - 1, 1))
    rope_group = group_latents if "per group" in config.get("rope", "") else None
    decoder = Decoder(DecoderConfig(**_pick(config, _DECODER_FIELDS), frames_per_latent=frames, rope_group=rope_group))
    golden_weights(decoder, "denoiser.")
    spec = LatentSpec(config["latent_channels"], 1, frames, group_frames, group_latents)
    return decoder, spec


def _packed_rays(config: dict[str, Any], spec: LatentSpec, values: Tensors, group: str) -> Tensor:
    side = config["ray_map"]
    rays = ray_features(values[f"{group}.extrinsics"], values[f"{group}.intrinsics"], (side, side))
    return spec.pack(rays)


def check_compressor(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    config = settings[group]
    model = Compressor(CompressorConfig(**_pick(config, _COMPRESSOR_FIELDS)))
    golden_weights(model, "compressor.")
    side = config["ray_map"]
    rays = ray_features(values[f"{group}.extrinsics"], values[f"{group}.intrinsics"], (side, side))
    posterior = model(values[f"{group}.latents"], rays)
    assert posterior.logvar is not None, "a released compressor has a Gaussian posterior"
    return [(posterior.mean, values[f"{group}.mean"]), (posterior.logvar, values[f"{group}.logvar"])]


def check_decoder(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    decoder, spec = _build_decoder(settings[group])
    rays = decoder.embed_rays(_packed_rays(settings[group], spec, values, group))
    noisy, t = values[f"{group}.noisy"], values[f"{group}.sigma"]
    velocity = decoder(noisy, t, rays, decoder.condition(values[f"{group}.tokens"]))
    null = decoder(noisy, t, rays, decoder.null_condition(len(noisy)))
    return [(velocity, values[f"{group}.velocity"]), (null, values[f"{group}.velocity_null"])]


def _schedule(name: str, settings: dict[str, Any]) -> Schedule:
    config = settings["schedules"]
    return make_schedule(
        name,
        horizon=config["horizon"],
        steps=config["steps"],
        window=config["window"],
        clean_targets=config["clean_targets"],
        shift=config["shift"],
        uncertainty=config["pyramid_uncertainty"],
    )


def check_schedule(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    schedule = _schedule(group.removeprefix("schedule_"), settings)
    return [(schedule.sigma, values[f"{group}.sigma"]), (schedule.active, values[f"{group}.mask"].bool())]


def check_render_loop(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    config = settings[group]
    decoder, spec = _build_decoder(settings[config["decoder"]])
    rays = _packed_rays(settings[config["decoder"]], spec, values, group)
    latents = sample_latents(
        decoder,
        values[f"{group}.tokens"],
        rays,
        values[f"{group}.noise"],
        _schedule(config["schedule"], settings),
        guidance=config["guidance"],
    )
    return [(latents, values[f"{group}.latents"])]


def _build_generator(config: dict[str, Any], cond_views: int) -> SceneGen:
    sizes = _pick(config, _GENERATOR_FIELDS)
    model = SceneGen(GeneratorConfig(**sizes, latent_channels=config["cond_channels"], cond_views=cond_views))
    golden_weights(model, "scene_generator.")
    for name, positions in model.named_buffers():  # the recording drew the whole table, of which the centre is used
        table, side = config["ray_map"], config["ray_map"] // config["ray_patch"]
        whole = golden_parameter("scene_generator." + name, (1, table * table, config["hidden"]))
        first = (table - side) // 2
        middle = slice(first, first + side)
        positions.copy_(whole.unflatten(1, (table, table))[:, middle, middle].flatten(1, 2))
    return model


def _conditioning(model: SceneGen, values: Tensors, group: str, seen: Tensor) -> Conditioning:
    side = (model.config.ray_map, model.config.ray_map)
    rays, anchors = (
        plucker_features(values[f"{group}.{kind}_extrinsics"], values[f"{group}.{kind}_intrinsics"], side)
        for kind in ("cond", "anchor")
    )
    return model.condition(values[f"{group}.cond_latents"], rays, anchors, seen)


def check_scenegen(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    seen = values[f"{group}.cond_mask"].bool()
    model = _build_generator(settings[group], seen.shape[1])
    conditioning = _conditioning(model, values, group, seen)
    noisy, t = values[f"{group}.noisy"], values[f"{group}.sigma"][:, 0]
    velocity = model(noisy, t, conditioning)
    unconditional = model(noisy, t, conditioning.unconditional())
    return [(velocity, values[f"{group}.velocity"]), (unconditional, values[f"{group}.velocity_uncond"])]


def check_scene_loop(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    config, views = settings[group], values[f"{group}.cond_latents"].shape[1]
    model = _build_generator({**settings["scenegen"], "token_scale": config["token_scale"]}, views)
    seen = torch.arange(views)[None].expand(len(values[f"{group}.noise"]), -1) == 0
    schedule = make_schedule(
        "full_sequence", horizon=1, steps=config["steps"], window=1, clean_targets=0, shift=config["shift"]
    )
    conditioning = _conditioning(model, values, group, seen)
    noise, guidance = values[f"{group}.noise"], config["guidance"]
    return [(sample_tokens(model, conditioning, noise, schedule, guidance=guidance), values[f"{group}.tokens"])]


def check_rays(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    rows, columns = settings["rays"]["size"]
    origins, directions = ray_map(values["rays.extrinsics"], values["rays.intrinsics"], (rows, columns))
    return [(origins, values["rays.origins"]), (directions, values["rays.directions"])]


def check_relative(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    c2w = values["rays.extrinsics"]
    relative = relative_poses(c2w, c2w[:, settings["rays"]["reference_view"]])
    return [(relative, values["relative.extrinsics"])]


def check_pose_distance(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    return [(pose_distance(values["rays.extrinsics"][0]), values["pose_distance"])]


def _published(shapes: dict[str, Any], prefix: str) -> Tensors:
    return {name: golden_parameter(prefix + name, tuple(shape)) for name, shape in shapes.items()}


def _encoded(autoencoder: ClipAutoencoder, video: Tensor) -> Tensor:
    """Raw latents [B, C, L, h, w] of a video [B, 3, T, H, W] in [-1, 1]."""
    latents = autoencoder.encode((video.transpose(1, 2) + 1) / 2)
    return autoencoder.spec.denormalise(latents).transpose(1, 2)


def _decoded(autoencoder: ClipAutoencoder, latents: Tensor) -> Tensor:
    """Video [B, 3, T, H, W] in about [-1, 1] of raw latents [B, C, L, h, w]."""
    frames = autoencoder.decode_unclamped(autoencoder.spec.normalise(latents.transpose(1, 2)))
    return frames.transpose(1, 2) * 2 - 1


def check_vavae(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    names = "channels multipliers res_blocks latent_channels"
    config = va.VaVaeConfig(**_pick(settings[group], names))
    autoencoder = va.VaVae(_published(va.published_shapes(config), "vavae."), config)
    image, latent = (values[f"{group}.{name}"][:, :, None] for name in ("image", "latent"))
    logvar = autoencoder.network.encode(values[f"{group}.image"]).latent_dist.logvar  # type: ignore[union-attr]
    return [
        (_encoded(autoencoder, image)[:, :, 0], values[f"{group}.mean"]),
        (logvar, values[f"{group}.logvar"]),
        (_decoded(autoencoder, latent)[:, :, 0], values[f"{group}.decoded"]),
    ]


def check_wan(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    names = "base_dim decoder_base_dim z_dim dim_mult res_blocks patch"
    video = values[f"{group}.video"]
    config = wan.WanConfig(
        **_pick(settings[group], names),
        temporal_downsample=settings[group]["temporal_downsample"],
        group_frames=video.shape[2],
        mean=(settings[group]["latent_mean"],),
        std=(settings[group]["latent_std"],),
    )
    autoencoder = wan.WanVae(_published(settings[group]["parameters"], "wan."), config)
    latent = values[f"{group}.latent"]
    return [(_encoded(autoencoder, video), latent), (_decoded(autoencoder, latent), values[f"{group}.recon"])]


def check_videodcae(group: str, values: Tensors, settings: dict[str, Any]) -> Pairs:
    names = "widths encoder_depths decoder_depths blocks temporal_down latent_channels"
    settings = settings[group]
    tiling = dc.Tiling(settings["tile_frames"], settings["tile_pixels"], settings["tile_overlap"])
    weights = _published(settings["parameters"], "videodcae.")
    autoencoder = dc.VideoDcAutoencoder(weights, dc.VideoDcConfig(**_pick(settings, names)), tiling=tiling)
    latent = values[f"{group}.latent"]
    rows = [
        (_encoded(autoencoder, values[f"{group}.video"]), latent),
        (_decoded(autoencoder, latent), values[f"{group}.recon"]),
    ]
    if f"{group}.long_latent" in values:  # larger than the other groups together, and left out of small files
        rows.append((_decoded(autoencoder, values[f"{group}.long_latent"]), values[f"{group}.long_video"]))
    return rows


Check = Callable[[str, Tensors, dict[str, Any]], Pairs]
KNOWN: dict[str, Check] = {
    "compressor": check_compressor,
    "decoder_vdc": check_decoder,
    "decoder_wan": check_decoder,
    "decoder_wan_known_bug": check_decoder,
    "schedule_full_sequence": check_schedule,
    "schedule_autoregressive": check_schedule,
    "schedule_pyramid": check_schedule,
    "render_loop": check_render_loop,
    "vavae": check_vavae,
    "wan": check_wan,
    "videodcae": check_videodcae,
    "scenegen": check_scenegen,
    "scene_loop": check_scene_loop,
    "rays": check_rays,
    "relative": check_relative,
    "pose_distance": check_pose_distance,
}


def compare(computed: Tensor, recorded: Tensor) -> tuple[float, float]:
    """Largest difference and its tolerance; masks must be exact, shapes equal."""
    if computed.shape != recorded.shape:
        return float("inf"), 0.0
    if recorded.dtype == torch.bool:
        return float((computed != recorded).sum()), 0.0
    tolerance = RELATIVE_TOLERANCE * max(1.0, float(recorded.abs().max()))
    return float((computed.double() - recorded.double()).abs().max()), tolerance


@torch.no_grad()
def check_file(path: Path) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Worst (difference, tolerance) of every known group in the file, and the names of the groups not known."""
    values = load_file(path)
    settings = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    groups = sorted({key.split(".")[0] for key in values})
    results = {}
    for group in (g for g in groups if g in KNOWN):
        rows = [compare(computed, recorded) for computed, recorded in KNOWN[group](group, values, settings)]
        results[group] = max(rows, key=lambda row: row[0] / row[1] if row[1] else row[0] * np.inf if row[0] else 0.0)
    return results, [g for g in groups if g not in KNOWN]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    results, unknown = check_file(Path(arguments[0]))
    failed = False
    for group, (difference, tolerance) in results.items():
        missed = not difference <= tolerance
        failed |= missed
        print(f"{group} {difference:.3e} {tolerance:.3e}{'  MISS' if missed else ''}")
    if unknown:
        print(f"not known: {', '.join(unknown)}")
    if not results:
        print("no known group in this file")
    return int(failed or not results)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
