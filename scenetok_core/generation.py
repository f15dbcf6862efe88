"""The SceneGen pipeline: one to three posed pictures and a camera path -> scene tokens for a SceneTok model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from .autoencoders import Autoencoder
from .camera import fit_cameras, fit_views, plucker_features, scene_scales, to_scene_frame
from .configs import SceneGenConfig, SceneTokConfig
from .memory import generator_bytes
from .models.scenegen import Conditioning, GeneratorNetworks, sample_tokens
from .pipeline import SceneTok, or_seeded
from .placement import Place, encode_frames, stay
from .sampling import Progress
from .token_generator import TokenGenerator, check_scene_model_of, whole_schedule
from .types import Cameras, SceneTokens, Views
from .weights.checkpoints import load_networks
from .weights.loading import default_dtype
from .weights.published import load_autoencoder


@dataclass(frozen=True, eq=False)
class ConditioningRays:
    """Cameras of conditioning views and of the wanted path as the network sees them, and the frame they are in."""

    views: Tensor  # [..., V, 6, R, R] Pluecker rays
    anchors: Tensor  # [..., A, 6, R, R]
    reference_c2w: Tensor  # [..., 4, 4] of the first view
    scale: Tensor  # [...] network units per input unit, float64


def conditioning_rays(
    views: Cameras,  # [..., V]
    path: Cameras,  # [..., T]
    config: SceneGenConfig,
    scale: str | float = "auto",
    *,
    given: Tensor | None = None,  # [..., V] bool, False: this view is not there; the first one is. None: all are
    factor: Tensor | float = 1.0,  # [...] on the scene scale, to vary it in training
) -> ConditioningRays:
    """Rays of the views and of anchors spread evenly over the path, for one scene or a batch of them.

    The first view is the origin; the scale follows from the extent of the views that are given and of the anchors (see
    `camera.scene_scale`). Cameras belong to pictures of the model's size.
    """
    spread = torch.linspace(0, len(path) - 1, config.generator.anchors).round().long().tolist()
    anchors, reference, centers = path[spread], views.c2w[..., 0, :, :], views.centers
    if given is not None:
        centers = torch.where(given[..., None], centers, centers[..., :1, :])
    scales = scene_scales(torch.cat([centers, anchors.centers], dim=-2), scale, config.scene_extent) * factor
    side = config.generator.ray_map

    def rays(cameras: Cameras) -> Tensor:
        local = to_scene_frame(cameras, reference, scales)
        return plucker_features(local.c2w, local.K, (side, side))

    return ConditioningRays(rays(views), rays(anchors), reference, scales)


@dataclass(frozen=True, eq=False)
class PreparedScene:
    """What scenes are drawn from: views and path as the network of a `SceneGenerator` sees them, on its device."""

    conditioning: Conditioning
    reference_c2w: Tensor  # [4, 4]
    scale: float
    cameras: Cameras  # of the views
    preset: str  # name and hash of the model that will render the tokens
    model_hash: str


@dataclass
class SceneGenerator(TokenGenerator):
    """A loaded scene generator. `generate` leaves the caller's tensors and the global random state alone.

    `place` as in `SceneTok`.
    """

    kind: ClassVar[type[SceneGenConfig]] = SceneGenConfig
    config: SceneGenConfig
    networks: GeneratorNetworks
    context_autoencoder: Autoencoder
    hash: str
    place: Place = stay
    scene_model_hash: str | None = None  # of the model whose tokens are drawn; None: nobody noted it

    @classmethod
    def assemble(
        cls,
        state: Mapping[str, Tensor],
        config: SceneGenConfig,
        metadata: Mapping[str, str],
        folders: Sequence[Path],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SceneGenerator:
        """As `Loaded.assemble`."""
        dtype = dtype or default_dtype(device, state)
        autoencoder = load_autoencoder(config.context_autoencoder, folders, device, dtype)
        config.check_latents(autoencoder.spec)
        networks = load_networks(state, config, dtype).to(device)
        return cls(
            config,
            networks,
            autoencoder,
            metadata["model_hash"],
            scene_model_hash=metadata.get("scene_model_hash"),
        )

    @property
    def modules(self) -> list[nn.Module]:
        """What is placed: the network, then the autoencoder if it has weights."""
        network, autoencoder = self.networks.scene_generator, self.context_autoencoder.network
        return [network] if autoencoder is None else [network, autoencoder]

    @torch.no_grad()
    def prepare(
        self, views: Views | None, cameras: Cameras, model: SceneTok, *, scale: str | float = "auto"
    ) -> PreparedScene:
        """As `TokenGenerator.prepare`, of one to three views; anchors are spread evenly over the path."""
        config, network = self.config, self.config.generator
        self.check_model(model)
        if views is None:
            raise ValueError(
                f"{config.name!r} ({config.family}) draws scenes around 1 to {network.cond_views} views and got none; "
                "connect pictures with their cameras, or load a generator that draws from the path alone, such as a "
                "3DDiT"
            )
        if len(views) > network.cond_views:
            raise ValueError(f"the generator takes 1 to {network.cond_views} views, got {len(views)}; choose some")
        size = (config.image_size, config.image_size)
        seen = fit_views(views, size)
        path = fit_cameras(cameras, size).to(seen.cameras.c2w.device)
        given = conditioning_rays(seen.cameras, path, config, scale)
        latents = encode_frames(self.context_autoencoder, seen.rgb[None], self.place)
        device = self._place_network(len(views))
        conditioning = self.networks.scene_generator.condition(
            latents.to(device), given.views[None].to(device), given.anchors[None].to(device)
        )
        return PreparedScene(
            conditioning, given.reference_c2w, float(given.scale), views.cameras, model.config.name, model.hash
        )

    @torch.no_grad()
    def draw(
        self,
        prepared: PreparedScene,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> SceneTokens:
        """As `TokenGenerator.draw`."""
        sampling, network = self.config.sampling, self.config.generator
        schedule = whole_schedule(sampling, steps, shift)
        noise = torch.randn((1, network.tokens, network.token_dim), generator=or_seeded(generator))
        device = self._place_network(len(prepared.cameras))
        tokens = sample_tokens(
            self.networks.scene_generator,
            prepared.conditioning,
            noise.to(device),
            schedule,
            guidance=sampling.guidance if guidance is None else guidance,
            solver=solver or sampling.solver,
            progress=progress,
        )
        return SceneTokens(
            tokens=tokens[0].float().cpu(),
            reference_c2w=prepared.reference_c2w.cpu(),
            scene_scale=prepared.scale,
            cameras=prepared.cameras.to("cpu"),
            preset=prepared.preset,
            model_hash=prepared.model_hash,
            meta={"generator": self.config.name, "generator_hash": self.hash},
        )

    def _place_network(self, views: int) -> torch.device:
        network = self.networks.scene_generator
        sizes = self.config.generator
        return self.place(network, generator_bytes(sizes, views, guided=True, itemsize=self._itemsize))

    def check_model(self, model: SceneTok) -> None:
        """Raise `ValueError` unless this was trained to draw the tokens of `model`."""
        dim = self.config.generator.token_dim
        check_scene_model_of(
            self.config.name, SceneTokConfig.family, self.config.scene_model, self.scene_model_hash, model
        )
        if model.config.compressor.token_dim != dim:
            raise ValueError(
                f"{self.config.name!r} draws tokens of {dim} numbers, {model.config.name!r} has tokens of "
                f"{model.config.compressor.token_dim}; load the {self.config.scene_model!r} it was trained on"
            )


def parse_values(text: str, name: str, largest: float) -> list[float]:
    """Values of a setting from text such as `1, 2.5, 4`.

    Raises:
        ValueError: something else, no value, or one that is not above 0 and at most `largest`.
    """
    values = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            value = float(part)
        except ValueError:
            raise ValueError(f"values of {name} are given like 1, 2.5, 4; got {part!r}") from None
        if not 0 < value <= largest:
            raise ValueError(f"values of {name} must be above 0 and at most {largest:g}, got {part!r}")
        values.append(value)
    if not values:
        raise ValueError(f"give at least one value of {name}, such as 1, 2.5, 4")
    return values
