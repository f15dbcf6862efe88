"""The SceneTok pipeline: posed pictures -> scene tokens -> pictures along any camera path."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .autoencoders import Autoencoder
from .camera import fit_cameras, fit_views, ray_features, scale_focal, scene_scale, to_scene_frame
from .checkpoints import load_checkpoint, load_networks
from .configs import SceneTokConfig, TemporalTiles
from .memory import compressor_bytes, decoder_bytes
from .models.networks import Networks, sample_latents
from .placement import Place, Room, decode_latents, encode_frames, free_memory, stay, without_seams
from .published import load_autoencoder
from .sampling import Preview, Progress, Schedule, make_schedule
from .selection import middle_view, select_views, sharpness
from .types import Cameras, SceneTokens, Views
from .weights import default_dtype

_PREVIEW_FRAMES = 9


@dataclass
class SceneTok:
    """A loaded model. `encode` and `render` leave the caller's tensors and the global random state alone.

    Before each stage `place` is told the network that will run and the bytes it needs beside its weights, so that no
    other network has to be on the device; `room` tells how much a network could have.
    """

    config: SceneTokConfig
    networks: Networks
    context_autoencoder: Autoencoder
    target_autoencoder: Autoencoder
    hash: str
    place: Place = stay
    room: Room = free_memory

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        folders: Sequence[Path] | None = None,
    ) -> SceneTok:
        """Load a checkpoint and its autoencoders.

        Args:
            path: a safetensors file with its configuration in the metadata, or with the tensors of a released model.
            device: where the networks run.
            dtype: dtype of the weights; None is what suits the device (`default_dtype`). Poses and rays stay float32.
            folders: where the weights of the autoencoders lie; None is the checkpoint's own folder.

        Raises:
            ValueError: the file is unreadable, was changed, does not fit its configuration, the sizes in that do not
                fit together, or an autoencoder's weights are not found.
        """
        state, config, metadata = load_checkpoint(path)
        folders = [Path(path).parent] if folders is None else folders
        return cls.assemble(state, config, metadata["model_hash"], folders, device, dtype)

    @classmethod
    def assemble(
        cls,
        state: Mapping[str, Tensor],
        config: SceneTokConfig,
        digest: str,
        folders: Sequence[Path],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SceneTok:
        """A model of weights that have been read, with its autoencoders; `digest` is their `model_hash`.

        Other arguments and errors as `load`.
        """
        dtype = dtype or default_dtype(device, state)
        context, target = (
            load_autoencoder(name, folders, device, dtype)
            for name in (config.context_autoencoder, config.target_autoencoder)
        )
        config.check_latents(context.spec, target.spec)
        return cls(
            config=config,
            networks=load_networks(state, config, dtype).to(device),
            context_autoencoder=context,
            target_autoencoder=target,
            hash=digest,
        )

    @property
    def modules(self) -> list[nn.Module]:
        """What is placed: compressor and decoder, then the autoencoders that have weights."""
        parts = (self.context_autoencoder.network, self.target_autoencoder.network)
        return [self.networks.compressor, self.networks.denoiser, *(part for part in parts if part is not None)]

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.parameters()).device

    @property
    def _itemsize(self) -> int:
        return next(self.networks.parameters()).dtype.itemsize

    @property
    def _picture(self) -> tuple[int, int]:
        return (self.config.image_size, self.config.image_size)

    @torch.no_grad()
    def encode(
        self,
        views: Views,
        *,
        reference: int | None = None,
        scale: str | float = "auto",
        sample: bool = False,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> SceneTokens:
        """Compress posed pictures into scene tokens.

        Args:
            views: any number of views, any size; resized and cropped to the model's square. Of more than
                `config.context_views`, a sharp and well spread subset is taken.
            reference: view whose camera becomes the scene's origin; None takes the most central one.
            scale: scene scale, "auto", "none" or network units per input unit (`camera.scene_scale`).
            sample: draw the latents of the views and then the tokens from their posteriors, as the original does,
                instead of taking the means; what has no posterior stays as it is.
            generator: CPU generator for `sample`; None is a fresh one with seed 0.
            progress: called once when the tokens are ready.

        Raises:
            ValueError: reference out of range, or a scale that is none.
        """
        if reference is not None and not 0 <= reference < len(views):
            raise ValueError(f"reference view must be between 0 and {len(views) - 1}, got {reference}")
        keep = self._choose(views, reference)
        chosen = fit_views(views[keep], self._picture)
        middle = middle_view(chosen.cameras) if reference is None else keep.index(reference)
        reference_c2w = chosen.cameras.c2w[middle]
        factor = scene_scale(chosen.cameras, scale, self.config.scene_extent)
        rays = self._rays(to_scene_frame(chosen.cameras, reference_c2w, factor), self.config.context_focal)
        draw = or_seeded(generator) if sample else None
        latents = encode_frames(self.context_autoencoder, chosen.rgb[None], self.place, draw)
        compressor = self.networks.compressor
        device = self.place(compressor, compressor_bytes(compressor.config, len(chosen), self._itemsize))
        posterior = compressor(latents.to(device), rays.to(device))
        tokens = posterior.mean if draw is None else posterior.sample(draw)
        if progress is not None:
            progress(1, 1, None)
        return SceneTokens(
            tokens=tokens[0].float().cpu(),
            reference_c2w=reference_c2w.cpu(),
            scene_scale=factor,
            cameras=views.cameras[keep].to("cpu"),
            preset=self.config.name,
            model_hash=self.hash,
            meta={"views_given": len(views), "views_used": keep},
        )

    def _choose(self, views: Views, reference: int | None) -> list[int]:
        if len(views) <= self.config.context_views:
            return list(range(len(views)))
        return select_views(views.cameras, self.config.context_views, sharpness(views.rgb), seed_view=reference)

    def _rays(self, cameras: Cameras, focal: tuple[float, float], side: int | None = None) -> Tensor:
        side = side or self.config.compressor.ray_map
        return ray_features(cameras.c2w[None], scale_focal(cameras.K, focal)[None], (side, side))

    def schedule(
        self, frames: int, *, steps: int | None = None, shift: float | None = None, window: int | None = None
    ) -> Schedule:
        """The noise schedule for a path of `frames` cameras; None takes the model's defaults."""
        defaults, spec = self.config.sampling, self.target_autoencoder.spec
        steps = defaults.steps if steps is None else steps
        return make_schedule(
            defaults.schedule,
            horizon=spec.groups(frames) * spec.group_latents,
            steps=steps,
            window=defaults.window if window is None else window,
            clean_targets=defaults.clean_targets,
            shift=defaults.shift if shift is None else shift,
            uncertainty=min(defaults.uncertainty, steps),
            group=spec.group_latents,
        )

    @torch.no_grad()
    def render(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        temporal_tiles: TemporalTiles = "auto",
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Render a camera path, given in the coordinates of the encoded cameras.

        Args:
            scene: tokens made by this model.
            cameras: T cameras; their pictures are cropped to the model's square.
            steps: sampling steps per window; 1 gives the posterior mean. None: the model's default.
            guidance: classifier-free guidance, 1 is off. None: the model's default.
            shift: timestep shift of the schedule. None: the model's default.
            solver: "euler" or "ab2" (`sampling.denoise`). None: the model's default.
            temporal_tiles: "on" decodes a long video in pieces that overlap, as published, where the autoencoder does
                that (VideoDCAE: 32 frames); "off" in one piece, without seams, for memory in proportion to its length;
                "auto" is off where there is room.
            generator: CPU generator of the noise, so that results do not depend on the device; None is one with seed 0.
            progress: called after every step with a preview of up to nine frames; may raise to cancel.

        Returns:
            Frames [T, 3, H, W] in [0, 1], float32 on the CPU.

        Raises:
            ValueError: tokens of another model, or impossible sampling settings.
        """
        self.check_scene(scene)
        frames, spec, decoder = len(cameras), self.target_autoencoder.spec, self.networks.denoiser
        guidance = self.config.sampling.guidance if guidance is None else guidance
        schedule = self.schedule(frames, steps=steps, shift=shift)
        surplus = spec.groups(frames) * spec.group_frames - frames
        padded = fit_cameras(cameras, self._picture)[[*range(frames), *[frames - 1] * surplus]]
        local = to_scene_frame(padded, scene.reference_c2w, scene.scene_scale)
        rays = spec.pack(self._rays(local, self.config.target_focal, self.config.decoder.ray_map))
        cells = self.config.image_size // spec.spatial
        shape = (1, schedule.sigma.shape[1], spec.channels, cells, cells)
        noise = torch.randn(shape, generator=or_seeded(generator))
        needed = decoder_bytes(
            decoder.config,
            len(scene.active),
            latents=shape[1],
            window=self.config.sampling.window,
            guided=guidance != 1.0,
            itemsize=self._itemsize,
        )
        device = self.place(decoder, needed)
        latents = sample_latents(
            decoder,
            scene.active[None].to(device),
            rays.to(device),
            noise.to(device),
            schedule,
            guidance=guidance,
            solver=solver or self.config.sampling.solver,
            progress=progress and self._with_frames(progress, needed),
        )
        autoencoder = self.target_autoencoder
        if temporal_tiles != "on":
            room: Room = self.room if temporal_tiles == "auto" else lambda network: sys.maxsize
            autoencoder = without_seams(autoencoder, latents, room)
        return decode_latents(autoencoder, latents, self.place)[0, :frames].float().cpu()

    def _with_frames(self, progress: Progress, needed: int) -> Progress:
        spec = self.target_autoencoder.spec

        def report(done: int, total: int, latents: Preview | None) -> None:
            def preview() -> Tensor:
                assert latents is not None, "denoise always offers its clean estimate"
                groups = latents()[0].unflatten(0, (-1, spec.group_latents))
                count = min(len(groups), max(1, _PREVIEW_FRAMES // spec.group_frames))
                spread = torch.linspace(0, len(groups) - 1, count).round().long()
                shown = decode_latents(self.target_autoencoder, groups[spread], self.place)
                self.place(self.networks.denoiser, needed)  # the next step needs it again
                return shown.flatten(0, 1).float().cpu()

            progress(done, total, preview)

        return report

    def check_scene(self, scene: SceneTokens) -> None:
        """Raise `ValueError` unless `scene` holds tokens of this model."""
        if scene.model_hash != self.hash or scene.tokens.shape[-1] != self.config.compressor.token_dim:
            raise ValueError(
                f"these tokens were made by model {scene.preset!r} ({scene.model_hash}), not by {self.config.name!r} "
                f"({self.hash}); load that model, or encode the views again with this one"
            )


def or_seeded(generator: torch.Generator | None) -> torch.Generator:
    """The caller's generator, or a fresh one with seed 0."""
    return generator if generator is not None else torch.Generator().manual_seed(0)
