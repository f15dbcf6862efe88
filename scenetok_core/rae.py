"""The 3DRAE pipeline: any number of posed pictures -> latent tokens -> pictures and points from any camera.

arXiv 2604.11331, section 3.2. The frame of a scene is that of its first camera, scaled so that the farthest camera is
at distance 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from .camera import fit_cameras, fit_views, plucker_features, reference_scale, to_scene_frame
from .configs import RaeConfig
from .encoders import ImageEncoder, load_encoder
from .loaded import Loaded
from .memory import neck_bytes, queries_bytes
from .models.rae import PictureDecoder, PointDecoder, RaeNetworks
from .placement import Exhaustion, Place, Stages, no_memory, stay
from .sampling import Progress
from .types import Cameras, SceneTokens, Views, check_scene_model
from .views.picture_size import fitting_size
from .views.selection import select_views, sharpness
from .weights.checkpoints import load_networks
from .weights.loading import default_dtype

_VIEWS_PER_PASS = 16
_PREVIEW_FRAMES = 9


@dataclass(frozen=True, eq=False)
class PointMaps:
    """Where every pixel of a path lies in the world."""

    points: Tensor  # [T, 3, H, W] in coordinates and units of the input cameras
    confidence: Tensor  # [T, H, W] > 1, as learnt: falls as 1 / the error to expect
    cameras: Cameras  # T, of these pictures

    @property
    def depth(self) -> Tensor:
        """Depth [T, H, W] along the z axis of each camera, in input units."""
        c2w = self.cameras.c2w
        offset = self.points - c2w[:, :3, 3, None, None]
        return (offset * c2w[:, :3, 2, None, None]).sum(1)


@dataclass
class Rae(Loaded):
    """A loaded 3DRAE, with the methods of `SceneTok`.

    `encode` and `render` leave the caller's tensors and the global random state alone. `place` and `exhaustion` as in
    `SceneTok`.
    """

    kind: ClassVar[type[RaeConfig]] = RaeConfig
    config: RaeConfig
    networks: RaeNetworks
    encoder: ImageEncoder | None
    hash: str
    place: Place = stay
    exhaustion: Exhaustion = field(default_factory=Exhaustion)

    @classmethod
    def assemble(
        cls,
        state: Mapping[str, Tensor],
        config: RaeConfig,
        metadata: Mapping[str, str],
        folders: Sequence[Path],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Rae:
        """As `Loaded.assemble`, with its 2-D encoder if it has one; errors also as `load_encoder`."""
        dtype = dtype or default_dtype(device, state)
        encoder = None
        if config.encoder is not None:
            wanted = {"patch": config.patch, "width": config.hidden}
            encoder = load_encoder(config.encoder, folders, device, dtype, **wanted)
        return cls(config, load_networks(state, config, dtype).to(device), encoder, metadata["model_hash"])

    @property
    def modules(self) -> list[nn.Module]:
        """What is placed: the parts of the network, then the 2-D encoder if there is one."""
        parts = list(self.networks.children())
        return parts if self.encoder is None else [*parts, self.encoder.network]

    @property
    def steps(self) -> int | None:
        """None: a picture is no sample and takes no steps."""
        return None

    def picture_size(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """The (height, width) at which pictures of `size` are seen and rendered; None is the largest square."""
        side = self.config.image_size
        return fitting_size(size or (side, side), self.config.patch, self.config.pixels)

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
        """Fuse posed pictures into latent tokens.

        Args:
            views: any number of views, of any size; resized and cropped to the nearest size that the model takes. Of
                more than `config.context_views`, a sharp and well spread subset is taken.
            reference: view whose camera becomes the scene's origin; None takes the first one.
            scale: "auto" brings the farthest camera to distance 1, "none" or network units per input unit.
            sample: for `SceneTok`; there is nothing to draw here.
            generator: the same.
            progress: called once when the tokens are ready.

        Raises:
            ValueError: reference out of range, or a scale that is none.
        """
        first = 0 if reference is None else reference
        if not 0 <= first < len(views):
            raise ValueError(f"reference view must be between 0 and {len(views) - 1}, got {reference}")
        keep = list(range(len(views)))
        if len(views) > self.config.context_views:
            keep = select_views(views.cameras, self.config.context_views, sharpness(views.rgb), seed_view=first)
        reference_c2w = views.cameras.c2w[first]
        factor = reference_scale(views.cameras.centers, reference_c2w[:3, 3], scale)
        chosen = fit_views(views[keep], self.picture_size(views.cameras.size))
        tokens = self.tokens_of(chosen, chosen.cameras, reference_c2w, factor)
        if progress is not None:
            progress(1, 1, None)
        return SceneTokens(
            tokens=tokens[0].float().cpu(),
            family=self.config.family,
            reference_c2w=reference_c2w.cpu(),
            scene_scale=factor,
            cameras=views.cameras[keep].to("cpu"),
            preset=self.config.name,
            model_hash=self.hash,
            meta={"views_given": len(views), "views_used": keep, "seen_at": list(chosen.cameras.size or ())},
        )

    @torch.no_grad()
    def tokens_of(
        self,
        views: Views | None,
        cameras: Cameras,
        reference_c2w: Tensor,  # [4, 4]
        scale: float,
    ) -> Tensor:
        """Latent tokens [1, N, D] of cameras, the first ones of which are those of `views`; the others see nothing.

        Pictures and cameras are of one size that the model takes.
        """
        size, count = self.picture_size(cameras.size), 0 if views is None else len(views)
        patches = size[0] * size[1] // self.config.patch**2
        rays = self._rays(cameras, reference_c2w, scale, size)
        visible = torch.arange(len(cameras)) < count
        features = torch.zeros(1, len(cameras), patches, self.config.hidden)
        given = None
        if views is not None and self.encoder is not None:
            device = self.place(self.encoder.network, self.encoder.encode_bytes(count, patches))
            given = self.encoder.encode(views.rgb.to(device))[None]
        neck = self.networks.neck
        device = self.place(neck, neck_bytes(self.config, len(cameras), patches, self._itemsize))
        if views is not None and given is None:
            given = neck.embed_pictures(views.rgb[None].to(device))
        features = features.to(device, neck.latents.dtype)
        if given is not None:
            features[:, :count] = given.to(features)
        return neck(features, rays.to(device), visible[None].to(device))

    def render(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        views_per_pass: int = 0,
        progress: Progress | None = None,
        **sampling: object,
    ) -> Tensor:
        """Render a camera path of any length, given in the coordinates of the encoded cameras, in one pass per view.

        Args:
            scene: tokens made by this model.
            cameras: T cameras; pictures have the proportions of `cameras.size`, as `picture_size` says.
            views_per_pass: frames that are decoded together; 0 is 16. Changes only time and memory, unless the model's
                target views see each other (`view_attention` "global").
            progress: called after every pass with a preview of up to nine frames; may raise to cancel.
            sampling: settings of `SceneTok.render` for its sampling; a picture here is no sample and needs none.

        Returns:
            Frames [T, 3, H, W] in [0, 1], float32 on the CPU, channels last in memory.

        Raises:
            ValueError: tokens of another model, or some tokens of a scene.
            torch.cuda.OutOfMemoryError: half of a pass does not fit, either.
        """
        size = self.picture_size(cameras.size)
        frames = torch.empty(len(cameras), 3, *size, memory_format=torch.channels_last)
        for views, (pictures, *_) in self._decoded(self.networks.decoder, scene, cameras, views_per_pass):
            frames[views] = pictures.clamp(0, 1)
            if progress is not None:
                done = frames[: views.stop]
                progress(views.stop, len(cameras), lambda done=done: _spread(done))
        return frames

    def point_maps(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        views_per_pass: int = 0,
        progress: Progress | None = None,
    ) -> PointMaps:
        """Where every pixel along a path lies; arguments as `render`.

        Raises:
            ValueError: what `render` refuses, or a model without points.
        """
        self.check_points()
        size = self.picture_size(cameras.size)
        local, confidence = torch.empty(len(cameras), 3, *size), torch.empty(len(cameras), *size)
        for views, (points, sure) in self._decoded(self.networks.points, scene, cameras, views_per_pass):
            local[views], confidence[views] = points, sure
            if progress is not None:
                progress(views.stop, len(cameras), None)
        rotation, origin = scene.reference_c2w[:3, :3], scene.reference_c2w[:3, 3]
        points = torch.einsum("ij,tjhw->tihw", rotation, local / scene.scene_scale) + origin[:, None, None]
        return PointMaps(points, confidence, fit_cameras(cameras, size))

    @torch.no_grad()
    def _decoded(
        self,
        decoder: PictureDecoder | PointDecoder,
        scene: SceneTokens,
        cameras: Cameras,
        views_per_pass: int,
    ) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
        """What a decoder says of each pass of views, float32 on the CPU; with half a pass when memory runs out."""
        self.check_scene(scene)
        if views_per_pass < 0:
            raise ValueError(f"views_per_pass must be 0 (the model's own number) or more frames, got {views_per_pass}")
        size, raw = self.picture_size(cameras.size), self.networks.neck.restore(scene.tokens.cpu())
        fitted = fit_cameras(cameras, size)
        patches, place, memory = size[0] * size[1] // self.config.patch**2, Stages(self.place), None
        most, first, halved = min(views_per_pass or _VIEWS_PER_PASS, len(cameras)), 0, False
        points = isinstance(decoder, PointDecoder)
        while first < len(cameras):
            views, failure = slice(first, min(first + most, len(cameras))), None
            try:
                needed = queries_bytes(self.config, most, patches, self._itemsize, points=points)
                device = place(decoder, needed)
                memory = decoder.memory(raw[None].to(device)) if memory is None else memory
                rays = self._rays(fitted[views], scene.reference_c2w, scene.scene_scale, size)
                out = tuple(part[0].float().cpu() for part in decoder(rays.to(device), memory))
            except self.exhaustion.errors as error:
                if halved or most == 1:
                    raise no_memory("decoding", error) from error
                failure = error
            if failure is None:
                first = views.stop
                yield views, out
            else:
                told = f"out of memory while decoding {most} views at once; going on with {most // 2}"
                most, halved, memory, failure = most // 2, True, None, None
                self.exhaustion.relieve(told)

    def _rays(self, cameras: Cameras, reference_c2w: Tensor, scale: float, size: tuple[int, int]) -> Tensor:
        """[1, V, 6, H, W] in the scene's frame."""
        local = to_scene_frame(cameras, reference_c2w, scale)
        return plucker_features(local.c2w, local.K, size)[None]

    def check_points(self) -> None:
        """Raise `ValueError` unless the model has point maps."""
        if self.config.points is None:
            raise ValueError(
                f"{self.config.name!r} was trained without point maps (points = none), so it has no depth; load a "
                "3DRAE with points"
            )

    def check_scene(self, scene: SceneTokens) -> None:
        """Raise `ValueError` unless `scene` holds all tokens that this model made of a scene."""
        check_scene_model(scene, self.config.family, self.config.name, self.hash, self.config.token_dim)
        count, used = self.config.tokens, len(scene.active)
        if used != count:
            raise ValueError(
                f"this scene has {used} of {count} tokens; those of a 3DRAE are learnt and ordered, so that none can "
                "be left out: take the whole scene"
            )


def _spread(frames: Tensor) -> Tensor:
    count = min(_PREVIEW_FRAMES, len(frames))
    return frames[torch.linspace(0, len(frames) - 1, count).round().long()]
