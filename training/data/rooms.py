"""Endless procedural rooms: pictures, exact depth and camera walks from a seed, on any device.

World axes: y up, floor at y = 0, metres. Cameras are OpenCV camera-to-world, so their y axis points to the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from scenetok_core.configs import require
from scenetok_core.types import Cameras
from training.data import raycast, shading
from training.data.dice import Dice
from training.data.scenes import Scenes, sample_scenes
from training.data.textures import make_atlas
from training.data.walks import WalkStyle, sample_strays, sample_walks

_TILES = (16, 8, 4)
_RAYS_AT_ONCE = 2**22  # bounds the memory, about 100 bytes a ray


@dataclass(frozen=True)
class RoomsConfig:
    """What the rooms and the walks through them look like."""

    image_size: int = 64  # pixels along an edge, a multiple of 4
    views: int = 12  # frames of a walk
    strays: int = 0  # cameras off the walk, behind its frames in a batch
    supersample: int = 1  # rays along an edge of a pixel
    walk: WalkStyle = field(default_factory=WalkStyle)
    exposure_jitter: float = 0.0  # in stops: one gain a scene, a quarter of it a view, and a tenth of it in colour
    textures: int = 96
    texture_size: int = 128
    texture_seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.image_size % _TILES[-1] == 0, f"data.rooms.image_size must be a multiple of 4, got {self.image_size}"
        )
        counts = (self.image_size, self.views, self.supersample, self.textures, self.texture_size)
        require(
            min(counts) > 0 and self.strays >= 0,
            f"data.rooms.image_size, views, supersample, textures and texture_size must be >= 1, got {counts}; "
            f"strays must be >= 0, got {self.strays}",
        )


@dataclass(frozen=True)
class RoomBatch:
    """Walks through B rooms."""

    rgb: Tensor  # [B, V, 3, H, W] float32 in [0, 1]
    depth: Tensor  # [B, V, H, W] float32, metres along the camera's z axis, at the pixel centres
    cameras: Cameras  # c2w [B, V, 4, 4] in metres, K [B, V, 3, 3]


class Rooms:
    """A seeded source of rooms.

    Scenes and walks are drawn on the CPU, so every device gets the same ones.

    Args:
        config: sizes and ranges.
        device: where pictures are rendered and returned.
        compile: fuse the ray kernels with `torch.compile`: 1.7 times as fast on a CPU after a minute at the first batch
            and half a minute when the number of scenes changes for the first time; needs a C++ compiler.
    """

    def __init__(self, config: RoomsConfig, device: torch.device | str = "cpu", compile: bool = False) -> None:
        self.config = config
        self.device = torch.device(device)
        self._host_atlas = make_atlas(config.textures, config.texture_size, config.texture_seed)
        self._atlas = self._host_atlas.to(self.device)
        self._kernels = shading.make_kernels(fused=compile)

    def scenes(self, seed: int, count: int) -> Scenes:
        """Draw `count` scenes, on the CPU."""
        return sample_scenes(seed, count, self._host_atlas)

    def walk(self, scenes: Scenes, seed: int, views: int | None = None) -> Cameras:
        """Draw one walk of `views` cameras through every scene, on the CPU."""
        config = self.config
        c2w, focal = sample_walks(scenes, seed, views or config.views, config.walk)
        K = torch.eye(3).repeat(*c2w.shape[:2], 1, 1)
        K[..., 0, 0] = K[..., 1, 1] = focal[:, None]
        K[..., :2, 2] = 0.5
        return Cameras(c2w, K, size=(config.image_size, config.image_size), unit="metric")

    @torch.no_grad()
    def render(
        self, scenes: Scenes, cameras: Cameras, size: int | None = None, *, gain: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw the scenes as seen by `cameras`.

        Args:
            scenes: B scenes.
            cameras: [B, V] cameras without skew.
            size: pixels along an edge; None takes the configured size.
            gain: [B, V, 3] exposure and white balance, 1 is neutral.

        Returns:
            rgb [B, V, 3, H, W] in [0, 1] and depth [B, V, H, W] in metres along z.
        """
        size = size or self.config.image_size
        if cameras.c2w.ndim != 4 or len(cameras.c2w) != len(scenes):
            raise ValueError(f"cameras must be [{len(scenes)}, V], one row a scene; got {list(cameras.c2w.shape[:-2])}")
        shape, frames = cameras.c2w.shape[:2], cameras.c2w.shape[0] * cameras.c2w.shape[1]
        gain = torch.ones(*shape, 3) if gain is None else gain
        geometry = scenes.geometry.to(self.device)
        scene = torch.arange(len(scenes), device=self.device).repeat_interleave(shape[1])
        step = max(1, _RAYS_AT_ONCE // (size * self.config.supersample) ** 2)
        inputs = [scene, *(t.to(self.device).flatten(0, 1) for t in (cameras.c2w, cameras.K, gain))]
        slices = [slice(i, i + step) for i in range(0, frames, step)]
        parts = [self._frames(geometry, size, *(t[piece] for t in inputs)) for piece in slices]
        rgb, depth = (torch.cat(list(part)) for part in zip(*parts, strict=True))
        return rgb.unflatten(0, shape), depth.unflatten(0, shape)

    def batch(self, seed: int, scenes: int, progress: float = 1.0, *, views: int | None = None) -> RoomBatch:
        """Walks through `scenes` rooms, then the strays; equal arguments give equal pictures, at any `progress`."""
        rooms = self.scenes(seed, scenes)
        cameras = self.walk(rooms, seed, views)
        if self.config.strays:
            cameras = self._with_strays(rooms, seed, cameras)
        rgb, depth = self.render(rooms, cameras, gain=self._gain(seed, *cameras.c2w.shape[:2]))
        return RoomBatch(rgb, depth, cameras.to(self.device))

    def _with_strays(self, scenes: Scenes, seed: int, walk: Cameras) -> Cameras:
        count = self.config.strays
        strays = sample_strays(scenes, seed, walk.c2w, walk.K[:, 0, 0, 0], count)
        K = torch.cat([walk.K, walk.K[:, :1].expand(-1, count, -1, -1)], 1)
        return walk.replace(c2w=torch.cat([walk.c2w, strays], 1), K=K)

    def _gain(self, seed: int, scenes: int, views: int) -> Tensor:
        dice, stops = Dice(seed, 3), self.config.exposure_jitter
        exposure, balance = dice.uniform(-1, 1, scenes, 1, 1), dice.uniform(-1, 1, scenes, 1, 3)
        exposure = exposure + 0.25 * dice.uniform(-1, 1, scenes, views, 1)
        balance = balance + 0.25 * dice.uniform(-1, 1, scenes, views, 3)
        return 2 ** (stops * (exposure + 0.1 * balance))

    def _frames(
        self, geometry: raycast.Geometry, size: int, scene: Tensor, c2w: Tensor, K: Tensor, gain: Tensor
    ) -> tuple[Tensor, Tensor]:
        fine = self.config.supersample
        tile = next((t for t in _TILES if size % t == 0), None)
        if tile is None:
            raise ValueError(f"pictures need a size that is a multiple of {_TILES[-1]}, got {size}")
        bundles = raycast.make_bundles(geometry, scene, c2w, K, (size * fine, size * fine), tile)
        hits = raycast.trace(geometry, bundles, self._kernels)
        gain = gain.repeat_interleave((size * fine // tile) ** 2, 0)
        colors = shading.shade(geometry, self._atlas, bundles, hits, gain, self._kernels)
        rgb = _untile(colors, len(scene), size * fine, tile).movedim(-1, 1)
        if fine > 1:
            bundles = raycast.make_bundles(geometry, scene, c2w, K, (size, size), tile)
            hits = raycast.trace(geometry, bundles, self._kernels)
            rgb = torch.nn.functional.avg_pool2d(rgb, fine)
        forward = c2w[:, :3, 2].repeat_interleave((size // tile) ** 2, 0)
        along = sum(d * forward[:, k, None] for k, d in enumerate(bundles.directions))
        return rgb.contiguous(), _untile((hits.distance * along)[..., None], len(scene), size, tile)[..., 0]


def _untile(values: Tensor, frames: int, size: int, tile: int) -> Tensor:
    """Bundles [T, tile * tile, C] as pictures [F, size, size, C]."""
    side = size // tile
    return values.view(frames, side, side, tile, tile, -1).transpose(2, 3).reshape(frames, size, size, -1)
