"""The held-out views that models are measured on: rooms of reserved seeds and far, but visible, target cameras.

A target camera lies far from every input camera, so that repeating an input fails, and most of its pixels are seen by
some input, so that the inputs determine the answer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scenetok_core.trajectories import follow
from scenetok_core.transfer import transfer_path
from scenetok_core.types import Cameras, Views
from training.baselines import METRE, reproject, warp
from training.cases import Case
from training.data.dice import Dice
from training.data.loader import HELD_OUT_SEEDS
from training.data.rooms import Rooms, RoomsConfig
from training.data.scenes import Scenes
from training.data.walks import clearance, look

_STREAM = 5  # of `Dice`; the rooms use the lower ones
_SPARE_SEEDS = 8
_PATH_FRAMES, _PATH_SMOOTHING = 24, 0.05  # of the smooth path along the inputs


@dataclass(frozen=True)
class Protocol:
    """Which rooms and cameras are measured.

    A change of any value makes new figures incomparable with old ones: add a protocol instead.
    """

    name: str
    first_seed: int = 500_000  # scene i is drawn from the i-th usable seed from here on
    scenes: int = 64
    inputs: int = 8  # most input views of each scene; fewer for models that take fewer
    targets: int = 4  # target cameras of each scene
    supersample: int = 2
    far_m: float = 0.5  # a target is at least this far from every input camera ...
    far_degrees: float = 25.0  # ... or turned at least this much against it
    visible_share: float = 0.7  # smallest share of a target's pixels that some input sees
    depth_tolerance: float = 0.02  # relative depth difference up to which a pixel counts as seen
    offset_m: float = 1.0  # candidates are walk cameras moved by up to this much along either ground axis,
    rise_m: float = 0.3  # up or down,
    turn_degrees: float = 45.0  # turned to either side
    tilt_degrees: float = 12.0  # and tilted
    clearance_m: float = 0.2  # free ground around a target camera
    nearest_m: float = 0.35  # smallest depth in a target picture
    median_m: float = 1.2  # smallest median depth of a target picture
    candidates: int = 32  # drawn at once
    rounds: int = 16  # after so many draws the seed is given up

    def __post_init__(self) -> None:
        if self.seeds.start < 0 or self.seeds.stop > HELD_OUT_SEEDS:
            raise ValueError(f"seeds must lie below those of training, {HELD_OUT_SEEDS}; got {self.seeds}")
        if min(self.scenes, self.targets) < 1:
            raise ValueError(f"a protocol needs scenes and targets, got {self.scenes} and {self.targets}")

    @property
    def seeds(self) -> range:
        """All seeds that may be used: up to half of them, and a few, may prove unusable."""
        return range(self.first_seed, self.first_seed + 2 * self.scenes + _SPARE_SEEDS)

    def rooms(self, image_size: int, views: int) -> Rooms:
        """The renderer of this protocol: no exposure changes, on the CPU so that pictures do not depend on a GPU."""
        return Rooms(RoomsConfig(image_size=image_size, views=views, supersample=self.supersample))


PROTOCOLS = {"tiny": Protocol("tiny")}


@dataclass(frozen=True)
class _Passed:
    """What `RoomsBenchmark.figures` needs of a scene."""

    seed: int
    visible: Tensor
    tried: int
    accepted: int


@dataclass(frozen=True)
class HeldOutScene:
    """Input and target views of one room, with exact depth."""

    seed: int
    room: Scenes  # one scene
    inputs: Views
    input_depth: Tensor  # [V, H, W] metres along z
    targets: Views
    target_depth: Tensor  # [T, H, W]
    visible: Tensor  # [T] share of the pixels that some input sees
    tried: int  # candidate cameras drawn until the targets were found ...
    accepted: int  # ... and how many of them fulfilled the conditions


def held_out_scenes(protocol: Protocol, rooms: Rooms) -> Iterator[HeldOutScene]:
    """The first `protocol.scenes` usable scenes; equal arguments give equal scenes, and fewer scenes a prefix."""
    found = 0
    for seed in protocol.seeds:
        scene = held_out_scene(protocol, rooms, seed)
        if scene is not None:
            yield scene
            found += 1
        if found == protocol.scenes:
            return
    raise ValueError(
        f"only {found} of {len(protocol.seeds)} rooms have target cameras as protocol {protocol.name!r} asks for; "
        "loosen its conditions"
    )


def held_out_scene(protocol: Protocol, rooms: Rooms, seed: int) -> HeldOutScene | None:
    """The walk of one seed with its target cameras, or None where too few candidates fulfil the conditions."""
    room = rooms.scenes(seed, 1)
    walk = rooms.walk(room, seed)
    rgb, depth = rooms.render(room, walk)
    inputs = Views(rgb[0], walk.replace(c2w=walk.c2w[0], K=walk.K[0]))
    dice, kept, order = Dice(seed, _STREAM), [], []
    for attempt in range(1, protocol.rounds + 1):
        cameras, source = _draw_candidates(dice, inputs.cameras, protocol)
        usable = _is_far(cameras.c2w, inputs.cameras.c2w, protocol) & (
            clearance(room, cameras.centers[None, :, None, ::2])[0] >= protocol.clearance_m
        )
        if usable.any():
            picked = usable.nonzero().flatten().tolist()
            accepted, position = _accept(protocol, rooms, room, cameras[picked], inputs, depth[0])
            kept += accepted
            order += source[picked][position].tolist()
        if len(kept) >= protocol.targets:
            first = sorted(range(protocol.targets), key=lambda i: order[i])  # along the walk, as a path would be
            rgb, target_depth, c2w, visible = (
                torch.stack(part) for part in zip(*(kept[i] for i in first), strict=True)
            )
            cameras = inputs.cameras.replace(c2w=c2w, K=inputs.cameras.K[:1].expand(len(c2w), 3, 3))
            tried = attempt * protocol.candidates
            return HeldOutScene(
                seed, room, inputs, depth[0], Views(rgb, cameras), target_depth, visible, tried, len(kept)
            )
    return None


def _draw_candidates(dice: Dice, walk: Cameras, protocol: Protocol) -> tuple[Cameras, Tensor]:
    """Random cameras near the walk, and the walk camera [N] that each was made from."""
    n = protocol.candidates
    source = dice.integers(0, len(walk), n)
    ground, rise = dice.uniform(-1, 1, n, 2) * protocol.offset_m, dice.uniform(-1, 1, n) * protocol.rise_m
    forward = walk.forward[source]
    yaw = torch.atan2(forward[:, 0], forward[:, 2]) + dice.uniform(-1, 1, n) * math.radians(protocol.turn_degrees)
    pitch = torch.asin(-forward[:, 1].clamp(-1, 1)) + dice.uniform(-1, 1, n) * math.radians(protocol.tilt_degrees)
    position = walk.centers[source] + torch.stack([ground[:, 0], rise, ground[:, 1]], -1)
    return walk.replace(c2w=look(position, yaw, pitch), K=walk.K[source]), source


def _is_far(
    c2w: Tensor,  # [N, 4, 4]
    inputs: Tensor,  # [V, 4, 4]
    protocol: Protocol,
) -> Tensor:
    """Which cameras [N] are far enough from every input camera."""
    moved = torch.cdist(c2w[:, :3, 3], inputs[:, :3, 3])
    trace = torch.einsum("aij,bij->ab", c2w[:, :3, :3], inputs[:, :3, :3])
    turned = torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))
    return ((moved >= protocol.far_m) | (turned >= protocol.far_degrees)).all(1)


def _accept(
    protocol: Protocol, rooms: Rooms, room: Scenes, cameras: Cameras, inputs: Views, input_depth: Tensor
) -> tuple[list[tuple[Tensor, Tensor, Tensor, Tensor]], list[int]]:
    """Picture, depth, pose and visible share of the cameras that see enough of what the inputs see; their indices."""
    rgb, depth = rooms.render(room, cameras.replace(c2w=cameras.c2w[None], K=cameras.K[None]))
    rgb, depth = rgb[0], depth[0]
    near, median = depth.flatten(1).amin(1), depth.flatten(1).median(1).values
    seen = reproject(cameras, depth, inputs.cameras, input_depth).visible(protocol.depth_tolerance)
    share = seen.float().mean((1, 2))
    good = (share >= protocol.visible_share) & (near >= protocol.nearest_m) & (median >= protocol.median_m)
    position = good.nonzero().flatten().tolist()
    return [(rgb[i], depth[i], cameras.c2w[i], share[i]) for i in position], position


class RoomsBenchmark:
    """The scenes of a protocol as cases, with all that is known of a procedural world."""

    def __init__(self, protocol: Protocol, rooms: Rooms) -> None:
        self.protocol, self.rooms, self.name = protocol, rooms, protocol.name
        self._passed: list[_Passed] = []

    def __len__(self) -> int:
        return self.protocol.scenes

    def cases(self) -> Iterator[Case]:
        """All scenes of the protocol."""
        self._passed, walk = [], None
        for scene in held_out_scenes(self.protocol, self.rooms):
            self._passed.append(_Passed(scene.seed, scene.visible, scene.tried, scene.accepted))
            yield self.case(scene, walk)
            walk = scene.inputs.cameras

    def case(self, scene: HeldOutScene, walk: Cameras | None = None) -> Case:
        """One scene with its warp, its visible pixels, its world and a smooth path through it.

        `walk` is that of another scene; of its cameras, those count that stand free in this one.
        """
        inputs, targets, tolerance = scene.inputs, scene.targets, self.protocol.depth_tolerance
        reprojection = reproject(targets.cameras, scene.target_depth, inputs.cameras, scene.input_depth)

        def seen(cameras: Cameras) -> tuple[Tensor, Tensor]:
            rgb, depth = self.rooms.render(scene.room, cameras.replace(c2w=cameras.c2w[None], K=cameras.K[None]))
            return rgb[0], depth[0]

        def world(cameras: Cameras) -> Tensor:
            return seen(cameras)[0]

        def path() -> Views:
            cameras = follow(inputs.cameras, _PATH_FRAMES, smoothing=_PATH_SMOOTHING)
            return Views(world(cameras), cameras)

        def elsewhere() -> Views | None:
            assert walk is not None, "else there is no such path"
            cameras = transfer_path(walk, inputs.cameras)
            free = clearance(scene.room, cameras.centers[None, :, None, ::2])[0] >= self.protocol.clearance_m
            if not free.any():
                return None
            cameras = cameras[free.nonzero().flatten().tolist()]
            return Views(world(cameras), cameras)

        return Case(
            name=f"seed {scene.seed}",
            seed=scene.seed,
            inputs=inputs,
            targets=targets,
            radian_length=METRE,
            baselines={"warp": warp(inputs, targets.cameras, reprojection, tolerance)},
            seen_by=lambda views: reprojection.visible(tolerance, views),
            world=world,
            depth=lambda cameras: seen(cameras)[1],
            path=functools.cache(path),
            elsewhere=None if walk is None else functools.cache(elsewhere),
        )

    def figures(self) -> dict[str, Any]:
        """Seeds without usable cameras, visible share of the target pixels, rejected share of the candidates."""
        tried, accepted = (sum(getattr(scene, name) for scene in self._passed) for name in ("tried", "accepted"))
        return {
            "skipped_seeds": self._passed[-1].seed - self.protocol.first_seed + 1 - len(self._passed),
            "visible_share": float(torch.cat([scene.visible for scene in self._passed]).mean()),
            "rejected_share": 1 - accepted / tried,
        }

    def left_out(self) -> dict[str, str]:
        """Nothing: seeds without usable cameras are counted in `figures`."""
        return {}
