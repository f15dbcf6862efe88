"""The SceneTok pipeline: posed pictures -> scene tokens -> pictures along any camera path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from .autoencoders import Autoencoder
from .camera import fit_cameras, fit_views, ray_features, scale_focal, scene_scale, to_scene_frame
from .configs import SceneTokConfig, TemporalTiles, at_quality
from .frames import FrameWriter
from .loaded import Loaded
from .memory import compressor_bytes
from .models.networks import Networks
from .passes import Pass, PathNoise, PathSampler
from .placement import Exhaustion, Place, Room, Stages, encode_frames, fits_whole, free_memory, stay
from .sampling import Progress, Schedule, check_solver
from .types import Cameras, SceneTokens, Views, check_scene_model
from .views.selection import middle_view, select_views, sharpness
from .weights.checkpoints import load_networks
from .weights.loading import default_dtype
from .weights.published import load_autoencoder


@dataclass
class SceneTok(Loaded):
    """A loaded model. `encode` and `render` leave the caller's tensors and the global random state alone.

    Before each stage `place` is told the network that will run and the bytes it needs beside its weights, so that no
    other network has to be on the device; `room` tells how much a network could have, `exhaustion` what happens when
    there was too little.
    """

    kind: ClassVar[type[SceneTokConfig]] = SceneTokConfig
    config: SceneTokConfig
    networks: Networks
    context_autoencoder: Autoencoder
    target_autoencoder: Autoencoder
    hash: str
    place: Place = stay
    room: Room = free_memory
    exhaustion: Exhaustion = field(default_factory=Exhaustion)

    @classmethod
    def assemble(
        cls,
        state: Mapping[str, Tensor],
        config: SceneTokConfig,
        metadata: Mapping[str, str],
        folders: Sequence[Path],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SceneTok:
        """As `Loaded.assemble`, with its autoencoders."""
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
            hash=metadata["model_hash"],
        )

    @property
    def modules(self) -> list[nn.Module]:
        """What is placed: compressor and decoder, then the autoencoders that have weights."""
        parts = (self.context_autoencoder.network, self.target_autoencoder.network)
        return [self.networks.compressor, self.networks.denoiser, *(part for part in parts if part is not None)]

    @property
    def steps(self) -> int | None:
        """Sampling steps of a picture."""
        return self.config.sampling.steps

    def picture_size(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """The (height, width) at which pictures of any `size` are seen and rendered: the model's square."""
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
        chosen = fit_views(views[keep], self.picture_size())
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

    def schedule(self, frames: int, *, steps: int | None = None) -> Schedule:
        """The noise schedule for a path of `frames` cameras; None takes the model's steps."""
        sampling, spec = at_quality(self.config.sampling, "normal", steps=steps), self.target_autoencoder.spec
        latents = spec.groups(frames) * spec.group_latents
        return Pass.of(sampling, spec, latents).schedule(sampling, latents)

    @torch.no_grad()
    def render(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        quality: str = "normal",
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        temporal_tiles: TemporalTiles = "auto",
        views_per_pass: int = 0,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Render a camera path of any length, given in the coordinates of the encoded cameras.

        Windows of frames are sampled, decoded and moved to main memory one after the other, so that what is needed
        beside the frames does not grow with the path. When the device's memory runs out, the rendering goes on once
        with half of a pass (see `exhaustion`).

        Args:
            scene: tokens made by this model.
            cameras: T cameras; their pictures are cropped to the model's square.
            quality: a key of `configs.QUALITIES`; "normal" is the model's own sampling.
            steps: sampling steps per window; 1 gives the posterior mean. None: as `quality` says.
            guidance: classifier-free guidance, 1 is off. None: the model's default.
            shift: timestep shift of the schedule. None: the model's default.
            solver: "euler" or "ab2" (`sampling.denoise_windows`). None: as `quality` says.
            temporal_tiles: "on" decodes a long video in pieces that overlap, as published, where the autoencoder does
                that (VideoDCAE: 32 frames); "off" in one piece, without seams, for memory in proportion to its length;
                "auto" is off where there is room and `views_per_pass` allows it.
            views_per_pass: frames that are sampled and decoded together, rounded down to whole groups of frames; 0 is
                the model's own window. More than a window: several windows at once where they know nothing of each
                other (no clean targets), with the same frames to rounding; else it changes nothing. Less than a
                window: shorter windows and tiles, whose frames are others, as each sees fewer of its neighbours.
            generator: CPU generator of the noise, so that results do not depend on the device; None is one with seed 0.
            progress: called after every step of a window with a preview of up to nine frames, finished ones and those
                in the works; may raise to cancel.

        Returns:
            Frames [T, 3, H, W] in [0, 1], float32 on the CPU, channels last in memory.

        Raises:
            ValueError: tokens of another model, or impossible sampling settings.
            torch.cuda.OutOfMemoryError: half of a pass does not fit, either.
        """
        self.check_scene(scene)
        wanted = {"steps": steps, "guidance": guidance, "shift": shift, "solver": solver}
        sampling = at_quality(self.config.sampling, quality, **wanted)
        check_solver(sampling.solver)
        if views_per_pass < 0:
            raise ValueError(f"views_per_pass must be 0 (the model's own window) or more frames, got {views_per_pass}")
        spec, place, cells = (
            self.target_autoencoder.spec,
            Stages(self.place),
            self.config.image_size // self.target_autoencoder.spec.spatial,
        )
        latents, shape = spec.groups(len(cameras)) * spec.group_latents, (spec.channels, cells, cells)
        writer = self._writer(len(cameras), (1, latents, *shape), place, temporal_tiles, views_per_pass)
        sampler = PathSampler(
            self.networks.denoiser,
            scene.active[None],
            self._path_rays(scene, cameras),
            PathNoise(latents, shape, or_seeded(generator)),
            sampling,
            latents,
            Pass.of(sampling, spec, latents, views_per_pass),
            place,
            self.exhaustion,
            report=progress and (lambda done, total, works: progress(done, total, lambda: writer.preview(*works()))),
        )
        for finished in sampler.run():
            writer.add(finished)
        return writer.frames

    def _path_rays(self, scene: SceneTokens, cameras: Cameras) -> Callable[[slice], Tensor]:
        """Packed ray maps [n, t, 6, R, R] of latents of a path, which ends with copies of its last camera."""
        spec, count = self.target_autoencoder.spec, len(cameras)
        surplus = spec.groups(count) * spec.group_frames - count
        padded = fit_cameras(cameras, self.picture_size())[[*range(count), *[count - 1] * surplus]]
        local = to_scene_frame(padded, scene.reference_c2w, scene.scene_scale)

        def rays(latents: slice) -> Tensor:
            path = local[spec.frames(latents.start) : spec.frames(latents.stop)]
            return spec.pack(self._rays(path, self.config.target_focal, self.config.decoder.ray_map))[0]

        return rays

    def _writer(
        self, frames: int, latents: tuple[int, ...], place: Place, tiles: TemporalTiles, most: int
    ) -> FrameWriter:
        """`latents` is their shape [1, L, C, h, w]; `most` bounds the frames that are decoded together, 0 does not."""
        tiled = self.target_autoencoder.bounded(most) if most else self.target_autoencoder
        free = tiles == "auto" and not 0 < most < frames
        whole = tiles == "off" or (free and fits_whole(tiled, latents, self.room))
        pictures = torch.empty(frames, 3, *self.picture_size(), memory_format=torch.channels_last)
        return FrameWriter(tiled, pictures, latents[1], place, self.exhaustion, whole=whole)

    def check_scene(self, scene: SceneTokens) -> None:
        """Raise `ValueError` unless `scene` holds tokens of this model."""
        check_scene_model(scene, self.config.family, self.config.name, self.hash, self.config.compressor.token_dim)


def or_seeded(generator: torch.Generator | None) -> torch.Generator:
    """The caller's generator, or a fresh one with seed 0."""
    return generator if generator is not None else torch.Generator().manual_seed(0)
