"""Depth from scene tokens: a small head on a SceneTok model that renders inverse depth as pictures (SceneTok, sec. 4).

A picture of depth is grey and lives in the latent space of the model's target autoencoder, like any frame. What its
brightness means is data of the head (`DepthConfig`), so that rendered depth comes back in units of the input cameras.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from .configs import DepthConfig, SceneTokConfig, TemporalTiles
from .families import SceneModel
from .models.depth import DepthNetworks, SizeToken
from .models.networks import Networks
from .pipeline import SceneTok
from .sampling import Progress
from .types import Cameras, SceneTokens, check_shape
from .uncertainty import as_mask, heat_map, spread_of_samples
from .weights.checkpoints import load_checkpoint
from .weights.loading import check_shapes

_CERTAIN_SHARE = 0.2  # of the depth: where samples deviate by as much or more, confidence is 0
_FARTHEST, _NEAREST = 0.02, 0.98  # quantiles of inverse depth that relative pictures stretch to the whole range
_SHARE = (0.02, 0.98)  # quantiles of inverse depth between which colours are spread
_LEAST_DEPTH = 1e-12  # that is told from 0
_ONE_LEVEL = 1 / 255  # of brightness; pictures do not tell finer
# What grows evenly with brightness, from inverse depth, and back.
_CURVES: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "inverse": (torch.clone, torch.clone),
    "log": (torch.log, torch.exp),
}


def is_known(depth: Tensor) -> Tensor:
    """Where depth is known: positive, not NaN; infinity is known. Same shape, bool."""
    return depth > 0


def depth_pictures(
    depth: Tensor,  # [B, T, H, W] along the camera's z axis, in input units; 0 where unknown
    scale: Tensor,  # [B] network units per input unit
    config: DepthConfig,
) -> Tensor:
    """Depth as grey pictures [B, T, 3, H, W] in [0, 1], bright where it is near.

    Depth beyond `near` or `far` is shown as these, unknown depth as `far`. In relative units the inverse depths of a
    scene are stretched, from their 2nd to their 98th percentile, to the whole range.
    """
    check_shape("depth", depth, (len(scale), None, None, None))
    known, (low, high) = is_known(depth), _range(depth, config)
    inverse = torch.where(known, 1 / (depth * scale[:, None, None, None].to(depth)), low)
    if config.units == "relative":
        inverse = torch.stack(
            [_stretched(values, there, low, high) for values, there in zip(inverse, known, strict=True)]
        )
        inverse = torch.where(known, inverse, low)
    curve, _ = _CURVES[config.mapping]
    dark, bright = curve(low), curve(high)
    shown = (curve(inverse.clamp(low, high)) - dark) / (bright - dark)
    return shown[:, :, None].expand(-1, -1, 3, -1, -1)


def _stretched(inverse: Tensor, known: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Inverse depth of one scene, [...], by an affine map from its usual range to [low, high]."""
    values = inverse[known]
    if not len(values):
        return inverse
    order = values.sort().values
    farthest, nearest = (order[round(share * (len(order) - 1))] for share in (_FARTHEST, _NEAREST))
    return low + (inverse - farthest) / (nearest - farthest).clamp_min(1e-12) * (high - low)


def read_depth(
    pictures: Tensor,  # [T, 3, H, W] in [0, 1]
    scale: float,
    config: DepthConfig,
) -> Tensor:
    """Depth [T, 1, H, W] of pictures of it, the inverse of `depth_pictures`; `scale` as there.

    In input units, between `near / scale` and `far / scale`. With relative units the inverse of the result is right up
    to a factor and an offset.
    """
    shown = pictures.mean(1, keepdim=True).clamp(0, 1)
    curve, back = _CURVES[config.mapping]
    dark, bright = (curve(end) for end in _range(pictures, config))
    return 1 / (back(dark + shown * (bright - dark)) * scale)


def metre_of(cameras: Cameras, scale: float) -> float:
    """Network units per metre, 0 where the unit of the cameras is unknown; `scale` is network units per input unit."""
    return scale if cameras.unit == "metric" else 0.0


def depth_limits(scale: float, config: DepthConfig) -> tuple[float, float]:
    """The nearest and the farthest depth that a head tells from what lies before or behind; arguments as `read_depth`.

    One level of brightness (1/255) inside of `near / scale` and `far / scale`.
    """
    ends = torch.tensor([1 - _ONE_LEVEL, _ONE_LEVEL], dtype=torch.float64)
    near, far = read_depth(ends.view(2, 1, 1, 1).expand(-1, 3, -1, -1), scale, config).flatten().tolist()
    return near, far


def _range(like: Tensor, config: DepthConfig) -> tuple[Tensor, Tensor]:
    return like.new_tensor(1 / config.far), like.new_tensor(1 / config.near)


def grey_depth(
    depth: Tensor,  # [T, 1, H, W]
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Depth as brightness [T, H, W] in [0, 1] that grows evenly with inverse depth: near is white, unknown black.

    `bounds` are the nearest and farthest depth that are told apart; None takes those of all frames, without the
    outermost 2 %.
    """
    known = is_known(depth[:, 0])
    if not bool(known.any()):
        return torch.zeros_like(depth[:, 0])
    inverse = torch.where(known, 1 / depth[:, 0].clamp_min(_LEAST_DEPTH), 0)
    if bounds is None:
        order = inverse[known].sort().values
        low, high = (float(order[round(share * (len(order) - 1))]) for share in _SHARE)
    else:
        low, high = 1 / bounds[1], 1 / bounds[0]
    return ((inverse - low) / max(high - low, 1e-12)).clamp(0, 1)


def colour_depth(
    depth: Tensor,  # [T, 1, H, W]
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Depth as colours [T, 3, H, W] in [0, 1], from dark blue (far) over red to pale yellow (near).

    `bounds` as for `grey_depth`.
    """
    return heat_map(grey_depth(depth, bounds))


@dataclass(frozen=True, eq=False)
class MeasuredDepth:
    """Depth along a camera path, and how sure it is."""

    depth: Tensor  # [T, H, W] along the camera's z axis, in units of the cameras
    confidence: Tensor  # [T, H, W] in [0, 1]
    known: Tensor  # [T, H, W] bool


@dataclass
class DepthHead:
    """A loaded head; `render` leaves the caller's tensors, the scene model and the global random state alone."""

    config: DepthConfig
    model: SceneTok  # the scene model with the head's decoder instead of its own: renders pictures of depth
    hash: str
    size_token: SizeToken | None = None  # tells the decoder how large things are in the scene's frame

    @classmethod
    def load(cls, path: str | Path, model: SceneModel) -> DepthHead:
        """Load a head for a model that is loaded already; it runs on that model's device, in its dtype.

        Raises:
            ValueError: the file is unreadable, no head, or was changed; or it belongs to another scene model.
        """
        if model.config.family != SceneTokConfig.family:
            raise ValueError(
                f"depth heads are for SceneTok models, not for {model.config.name!r} ({model.config.family}); take "
                "that model's own point maps"
            )
        state, config, metadata = load_checkpoint(path, DepthConfig)
        wanted = metadata.get("scene_model_hash", "unknown weights")
        if wanted != model.hash or config.scene_model != model.config.name:
            raise ValueError(
                f"{Path(path).name} is a depth head for model {config.scene_model!r} ({wanted}), not for "
                f"{model.config.name!r} ({model.hash}); load that model, or a head that was trained on this one"
            )
        return cls.assemble(state, config, metadata["model_hash"], cast(SceneTok, model))

    @classmethod
    def assemble(cls, state: Mapping[str, Tensor], config: DepthConfig, digest: str, model: SceneTok) -> DepthHead:
        """A head of weights that have been read; `digest` is their `model_hash`.

        Raises:
            ValueError: weights or sizes that do not fit the model's decoder.
        """
        decoder = model.networks.denoiser
        networks = DepthNetworks(config, decoder)
        check_shapes(
            state,
            {name: tensor.shape for name, tensor in networks.state_dict().items()},
            f"depth head {config.name!r} does not fit the decoder of {model.config.name!r}",
        )
        like = next(decoder.parameters())
        networks.load_state_dict({k: v.to(like) for k, v in state.items()}, assign=True)
        networks.eval().requires_grad_(False)
        return cls.around(networks, digest, model)

    @classmethod
    def around(cls, networks: DepthNetworks, digest: str, model: SceneTok) -> DepthHead:
        """The head of networks in evaluation mode, which it shares."""
        with torch.device("meta"):
            both = Networks(model.config)
        both.compressor, both.denoiser = model.networks.compressor, networks.denoiser
        return cls(networks.config, dataclasses.replace(model, networks=both), digest, networks.size_token)

    def render(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        steps: int | None = None,
        shift: float | None = None,
        solver: str | None = None,
        temporal_tiles: TemporalTiles = "auto",
        views_per_pass: int = 0,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Depth along a camera path, given in the coordinates of the encoded cameras.

        A head with a size token uses that the encoded cameras are in metres, where their `unit` says so.

        Args:
            scene: tokens made by the scene model.
            cameras: T cameras; their pictures are cropped to the model's square.
            steps: sampling steps per window; 1 gives the posterior mean. None: the head's default.
            shift: timestep shift of the schedule. None: the model's default.
            solver: as for `SceneTok.render`.
            temporal_tiles: as for `SceneTok.render`.
            views_per_pass: as for `SceneTok.render`.
            generator: CPU generator of the noise; None is one with seed 0.
            progress: called after every step with a preview of the pictures of depth; may raise to cancel.

        Returns:
            Depth [T, 1, H, W] along the camera's z axis in units of the cameras (see `read_depth`), float32 on the CPU.

        Raises:
            ValueError: tokens of another model, or impossible sampling settings.
        """
        pictures = self.model.render(
            self._sized(scene),
            cameras,
            steps=self.config.steps if steps is None else steps,
            guidance=1.0,  # heads are trained with tokens only
            shift=shift,
            solver=solver,
            temporal_tiles=temporal_tiles,
            views_per_pass=views_per_pass,
            generator=generator,
            progress=progress,
        )
        return read_depth(pictures, scene.scene_scale, self.config)

    @torch.no_grad()
    def _sized(self, scene: SceneTokens) -> SceneTokens:
        """With the token that says how large a metre is in the scene's frame, where the cameras' unit is the metre."""
        if self.size_token is None:
            return scene
        device = self.size_token.slope.device
        metre = torch.tensor([metre_of(scene.cameras, scene.scene_scale)], device=device)
        token = self.size_token(metre)[0].to(scene.tokens)
        return scene.replace(tokens=torch.cat([scene.active, token]), mask=None)

    def render_uncertainty(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        samples: int = 4,
        *,
        steps: int | None = None,
        views_per_pass: int = 0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of several samples of depth that differ in their noise alone.

        Args:
            scene: tokens made by the scene model.
            cameras: T cameras, as for `render`.
            samples: renderings, at least 2.
            steps: sampling steps of each; None: the scene model's default. With 1 all are near the posterior mean.
            views_per_pass: as for `SceneTok.render`.
            seed: of the first rendering; the others count up from it.
            progress: called after every step of every rendering; may raise to cancel.

        Returns:
            Mean and deviation, [T, 1, H, W] each, in units of the cameras; float32 on the CPU.

        Raises:
            ValueError: fewer than 2 samples, or what `render` refuses.
        """
        steps = self.model.config.sampling.steps if steps is None else steps

        def render(generator: torch.Generator, report: Progress | None) -> Tensor:
            return self.render(
                scene, cameras, steps=steps, views_per_pass=views_per_pass, generator=generator, progress=report
            )

        mean, variance = spread_of_samples(render, samples, seed, progress)
        return mean, variance.sqrt()

    def measure(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        samples: int = 1,
        steps: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> MeasuredDepth:
        """Depth with the confidence that several samples give; arguments and errors as `geometry.measure_depth`.

        Unknown where the head cannot tell it from what lies nearer than the nearest or beyond the farthest depth that
        it shows (`depth_limits`).
        """
        if samples == 1:
            generator = torch.Generator().manual_seed(seed)
            depth = self.render(scene, cameras, steps=steps, generator=generator, progress=progress)
            confidence = torch.ones_like(depth)
        else:
            depth, deviation = self.render_uncertainty(
                scene, cameras, samples, steps=steps, seed=seed, progress=progress
            )
            confidence = 1 - as_mask(deviation / depth, _CERTAIN_SHARE)
        near, far = depth_limits(scene.scene_scale, self.config)
        return MeasuredDepth(depth[:, 0], confidence[:, 0], ((depth > near) & (depth < far))[:, 0])
