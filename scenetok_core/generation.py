"""The SceneGen pipeline: one to three posed pictures and a camera path -> scene tokens for a SceneTok model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .autoencoders import Autoencoder
from .camera import fit_cameras, fit_views, plucker_features, scene_scale, to_scene_frame
from .checkpoints import load_checkpoint, load_networks
from .configs import SceneGenConfig
from .memory import generator_bytes
from .models.scenegen import GeneratorNetworks, sample_tokens
from .pipeline import SceneTok, default_dtype, or_seeded
from .placement import Place, encode_frames, stay
from .published import load_autoencoder
from .sampling import Progress, make_schedule
from .types import Cameras, SceneTokens, Views


@dataclass
class SceneGenerator:
    """A loaded scene generator. `generate` leaves the caller's tensors and the global random state alone.

    `place` as in `SceneTok`.
    """

    config: SceneGenConfig
    networks: GeneratorNetworks
    context_autoencoder: Autoencoder
    hash: str
    place: Place = stay

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        folders: Sequence[Path] | None = None,
    ) -> SceneGenerator:
        """Load a checkpoint; arguments and errors as `SceneTok.load`."""
        state, config, metadata = load_checkpoint(path, SceneGenConfig)
        folders = [Path(path).parent] if folders is None else folders
        return cls.assemble(state, config, metadata["model_hash"], folders, device, dtype)

    @classmethod
    def assemble(
        cls,
        state: Mapping[str, Tensor],
        config: SceneGenConfig,
        digest: str,
        folders: Sequence[Path],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SceneGenerator:
        """A generator of weights that have been read; arguments and errors as `SceneTok.assemble`."""
        dtype = dtype or default_dtype(device)
        autoencoder = load_autoencoder(config.context_autoencoder, folders, device, dtype)
        config.check_latents(autoencoder.spec)
        networks = load_networks(state, config, dtype).to(device)
        return cls(config, networks, autoencoder, digest)

    @property
    def modules(self) -> list[nn.Module]:
        """What is placed: the network, then the autoencoder if it has weights."""
        network, autoencoder = self.networks.scene_generator, self.context_autoencoder.network
        return [network] if autoencoder is None else [network, autoencoder]

    @torch.no_grad()
    def generate(
        self,
        views: Views,
        cameras: Cameras,
        model: SceneTok,
        *,
        scale: str | float = "auto",
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> SceneTokens:
        """Draw the tokens of a scene; another seed is another scene that shows the same views.

        Args:
            views: one to three pictures; the camera of the first one becomes the scene's origin.
            cameras: the path that will be rendered, in the coordinates of the views; anchors are spread evenly over it.
            model: the SceneTok model that will render the tokens.
            scale: scene scale, "auto" (from the extent of views and path), "none" or network units per input unit.
            steps: sampling steps. None: the generator's default.
            guidance: classifier-free guidance, 1 is off. None: the generator's default.
            shift: timestep shift. None: the generator's default.
            solver: "euler" or "ab2" (`sampling.denoise`). None: the generator's default.
            generator: CPU generator of the noise; None is a fresh one with seed 0.
            progress: called after every step with a preview of the tokens [1, N, D]; may raise to cancel.

        Raises:
            ValueError: too many views, a model whose tokens this is not trained to draw, or impossible settings.
        """
        config, network = self.config, self.config.generator
        self._check_model(model)
        if len(views) > network.cond_views:
            raise ValueError(f"the generator takes 1 to {network.cond_views} views, got {len(views)}; choose some")
        size = (config.image_size, config.image_size)
        seen = fit_views(views, size)
        path = fit_cameras(cameras, size).to(seen.cameras.c2w.device)
        spread = torch.linspace(0, len(path) - 1, network.anchors).round().long().tolist()
        anchors, reference = path[spread], seen.cameras.c2w[0]
        both = Cameras(torch.cat([seen.cameras.c2w, anchors.c2w]), torch.cat([seen.cameras.K, anchors.K]))
        factor = scene_scale(both, scale, config.scene_extent)
        sampling = config.sampling
        guidance = sampling.guidance if guidance is None else guidance
        schedule = make_schedule(
            "full_sequence",
            horizon=1,
            steps=sampling.steps if steps is None else steps,
            window=1,
            clean_targets=0,
            shift=sampling.shift if shift is None else shift,
        )
        noise = torch.randn((1, network.tokens, network.token_dim), generator=or_seeded(generator))
        latents = encode_frames(self.context_autoencoder, seen.rgb[None], self.place)
        scene_generator = self.networks.scene_generator
        itemsize = next(scene_generator.parameters()).dtype.itemsize
        needed = generator_bytes(network, len(views), guided=guidance != 1.0, itemsize=itemsize)
        device = self.place(scene_generator, needed)
        conditioning = scene_generator.condition(
            latents.to(device),
            self._rays(to_scene_frame(seen.cameras, reference, factor)).to(device),
            self._rays(to_scene_frame(anchors, reference, factor)).to(device),
        )
        tokens = sample_tokens(
            scene_generator,
            conditioning,
            noise.to(device),
            schedule,
            guidance=guidance,
            solver=solver or sampling.solver,
            progress=progress,
        )
        return SceneTokens(
            tokens=tokens[0].float().cpu(),
            reference_c2w=reference.cpu(),
            scene_scale=factor,
            cameras=views.cameras.to("cpu"),
            preset=model.config.name,
            model_hash=model.hash,
            meta={"generator": config.name, "generator_hash": self.hash},
        )

    def _rays(self, cameras: Cameras) -> Tensor:
        side = self.config.generator.ray_map
        return plucker_features(cameras.c2w[None], cameras.K[None], (side, side))

    def _check_model(self, model: SceneTok) -> None:
        wanted, dim = self.config.scene_model, self.config.generator.token_dim
        if model.config.name != wanted or model.config.compressor.token_dim != dim:
            raise ValueError(
                f"{self.config.name!r} draws tokens of model {wanted!r} ({dim} numbers each), not of "
                f"{model.config.name!r} ({model.config.compressor.token_dim}); load {wanted!r}"
            )
