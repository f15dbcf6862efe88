"""Whether cameras fit their pictures: hidden views are rendered, with the cameras as given and as read in other ways.

A reading is a way in which cameras are commonly mistaken. It changes all cameras of a capture; when the pictures that
were hidden are then rendered better by clearly more than chance, the cameras most likely need that change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ..baselines import mean_colour, nearest_view
from ..camera import fit_views, flip_opengl, scale_focal
from ..families import SceneModel
from ..metrics import psnr
from ..pictures.sheets import contact_sheet, evenly_spread
from ..types import Cameras, Views

CheckProgress = Callable[[int, int], None]

_LEAST_GAIN_DB = 0.5
_FLAT = "mean colour"
_LEAST_KNOWLEDGE_DB = 1.0  # above that, or the model does not know such pictures
_SURE = 2.0  # standard errors of the mean gain over the hidden views
_MOST_COLUMNS = 8
_MOST_HIDDEN = 32
_OPENGL = "OpenGL axes (x right, y up, z backward), as nerfstudio and Blender have them"
# Where the axes x (right), y (down) and z (forward) of a camera point in the axes that were meant.
_FORWARD_LEFT_UP = ((0, 0, 1), (-1, 0, 0), (0, -1, 0))
_RIGHT_FORWARD_UP = ((1, 0, 0), (0, 0, 1), (0, -1, 0))
_TURNED_RIGHT = ((0, -1, 0), (1, 0, 0), (0, 0, 1))
_TURNED_LEFT = ((0, 1, 0), (-1, 0, 0), (0, 0, 1))
_UPSIDE_DOWN = ((-1, 0, 0), (0, -1, 0), (0, 0, 1))


@dataclass(frozen=True)
class Reading:
    """One way in which cameras may have to be read."""

    name: str
    change: Callable[[Cameras], Cameras]  # what was given -> what it would mean
    remedy: str
    scale: float = 1.0  # times the scene scale


def _posed(change: Callable[[Tensor], Tensor]) -> Callable[[Cameras], Cameras]:
    return lambda cameras: cameras.replace(c2w=change(cameras.c2w.double()).float())


def _transposed(c2w: Tensor) -> Tensor:
    """Rotations the other way round, centres kept."""
    return torch.cat([torch.cat([c2w[..., :3, :3].mT, c2w[..., :3, 3:]], -1), c2w[..., 3:, :]], -2)


def _translated_the_other_way(c2w: Tensor) -> Tensor:
    """Rotations kept; the translation is that of the world-to-camera matrix."""
    centres = -(c2w[..., :3, :3] @ c2w[..., :3, 3:])
    return torch.cat([torch.cat([c2w[..., :3, :3], centres], -1), c2w[..., 3:, :]], -2)


def _mirrored(c2w: Tensor) -> Tensor:
    """A left-handed world and camera (y up) as a right-handed one."""
    flip = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=c2w.dtype, device=c2w.device))
    return flip @ c2w @ flip


def _camera_axes(axes: tuple[tuple[int, int, int], ...]) -> Callable[[Cameras], Cameras]:
    def turn(c2w: Tensor) -> Tensor:
        matrix = torch.block_diag(torch.tensor(axes, dtype=c2w.dtype), torch.ones(1, 1, dtype=c2w.dtype))
        return c2w @ matrix.to(c2w.device)

    return _posed(turn)


def _focal(factor: float) -> Callable[[Cameras], Cameras]:
    return lambda cameras: cameras.replace(K=scale_focal(cameras.K, (factor, factor)))


def _as_given(cameras: Cameras) -> Cameras:
    return cameras


AS_GIVEN = Reading("as given", _as_given, "")
READINGS: tuple[Reading, ...] = (
    Reading("world-to-camera", _posed(torch.linalg.inv), "invert every pose: camera-to-world is expected"),
    Reading(
        "OpenGL axes", _posed(flip_opengl), f"the poses have {_OPENGL}: negate the 2nd and 3rd column of every pose"
    ),
    Reading(
        "world-to-camera with OpenGL axes",
        _posed(lambda c2w: flip_opengl(torch.linalg.inv(c2w))),
        f"the poses are world-to-camera and have {_OPENGL}: invert every pose, then negate its 2nd and 3rd column",
    ),
    Reading(
        "rotations transposed",
        _posed(_transposed),
        "transpose the 3 x 3 rotation of every pose and keep the translation",
    ),
    Reading(
        "translations of world-to-camera",
        _posed(_translated_the_other_way),
        "the translation t is that of a world-to-camera matrix while the rotation R is camera-to-world: use -R t",
    ),
    Reading(
        "left-handed axes", _posed(_mirrored), "the world is left-handed (Unity): negate row 2 and column 2 of poses"
    ),
    *(
        Reading(name, _camera_axes(axes), remedy)
        for name, axes, remedy in (
            (
                "camera axes forward, left, up",
                _FORWARD_LEFT_UP,
                "the cameras' axes are x forward, y left, z up (robots): make -y, -z, x the columns of every rotation",
            ),
            (
                "camera axes right, forward, up",
                _RIGHT_FORWARD_UP,
                "the cameras' y and z axes are forward and up: make x, -z and y the columns of every rotation",
            ),
            *(
                (
                    name,
                    axes,
                    "the pictures are turned against the cameras: turn them back, or remove their EXIF orientation",
                )
                for name, axes in (
                    ("pictures turned to the right", _TURNED_RIGHT),
                    ("pictures turned to the left", _TURNED_LEFT),
                    ("pictures upside down", _UPSIDE_DOWN),
                )
            ),
        )
    ),
    *(
        Reading(
            f"focal length x {factor:g}",
            _focal(factor),
            f"the field of view seems wrong: multiply fx and fy by about {factor:g} (intrinsics made for pictures of "
            "another size or crop?)",
        )
        for factor in (0.5, 0.7, 1.4, 2.0)
    ),
    Reading(
        "reversed order",
        lambda cameras: cameras[list(range(len(cameras) - 1, -1, -1))],
        "pictures and cameras run in opposite order: reverse one of them",
    ),
    *(
        Reading(
            f"{name} by one",
            lambda cameras, shift=shift: cameras[[(i + shift) % len(cameras) for i in range(len(cameras))]],
            f"every picture belongs to the camera {where} it: a picture or a camera at one end is missing",
        )
        for name, shift, where in (("order late", -1, "before"), ("order early", 1, "after"))
    ),
    *(
        Reading(
            f"scene scale x {factor:g}",
            _as_given,
            f"the scale does not suit the model: set scene_scale of Encode Views to {factor:g} times {{scale:.4g}}",
            factor,
        )
        for factor in (0.25, 0.5, 2.0, 4.0)
    ),
)


@dataclass(frozen=True, eq=False)
class CameraCheck:
    """Hidden views, their renderings with the cameras as given, and how well other readings of the cameras do."""

    truth: Views  # the T hidden views
    rendered: Tensor  # [T, 3, H, W] with the cameras as given
    baselines: Mapping[str, Tensor]  # [T] PSNR in dB of what needs no model, by name
    scores: Tensor  # [1 + readings, T] PSNR in dB of renderings: as given, then `readings`
    inputs: int  # views that were encoded in a round
    scene_scale: float
    readings: tuple[Reading, ...]

    @property
    def psnr(self) -> float:
        """Mean over the hidden views, in dB, with the cameras as given."""
        return float(self.scores[0].mean())

    def baseline_scores(self) -> dict[str, float]:
        """Mean PSNR in dB of what needs no model."""
        return {name: float(values.mean()) for name, values in self.baselines.items()}

    def gains(self) -> list[tuple[Reading, float, float]]:
        """Every other reading with its mean gain in dB and the standard error of that, best first."""
        gain = self.scores[1:] - self.scores[0]
        count = gain.shape[1]
        error = gain.std(1) / count**0.5 if count > 1 else torch.full((len(gain),), torch.inf)
        table = zip(self.readings, gain.mean(1).tolist(), error.tolist(), strict=True)
        return sorted(table, key=lambda row: -row[1])

    def better(self) -> list[tuple[Reading, float]]:
        """Readings that fit better by more than chance, with their gain in dB, best first."""
        return [(reading, gain) for reading, gain, error in self.gains() if gain >= max(_LEAST_GAIN_DB, _SURE * error)]

    def verdict(self) -> str:
        """What to do, in plain words."""
        better = self.better()
        if better:
            reading, gain = better[0]
            others = ", ".join(f"{other.name} ({also:+.1f} dB)" for other, also in better[1:4])
            return (
                f"The pictures fit {gain:.1f} dB better if the cameras are read as: {reading.name}. "
                f"{reading.remedy.format(scale=self.scene_scale)}." + (f" Also better: {others}." if others else "")
            )
        if not self.readings:
            return "No other reading of the cameras was tried."
        best, gain, error = self.gains()[0]
        nothing = f"No other reading of the cameras fits better (best: {best.name}, {gain:+.1f} +- {error:.1f} dB)."
        if self.psnr >= self.baseline_scores()[_FLAT] + _LEAST_KNOWLEDGE_DB:
            return f"The cameras fit the pictures. {nothing}"
        return (
            f"{nothing} But the renderings are hardly better than the {_FLAT}: either this model does not know such "
            "pictures, so that this check tells little, or the cameras are wrong in a way it does not try."
        )

    def __str__(self) -> str:
        rows = {"rendered, cameras as given": self.psnr, **self.baseline_scores()}
        told = "\n".join(f"{value:6.2f} dB  {name}" for name, value in rows.items())
        tried = "\n".join(f"{gain:+6.2f} +- {error:.2f} dB  {reading.name}" for reading, gain, error in self.gains())
        return (
            f"{self.verdict()}\n\nPSNR of {len(self.truth)} hidden views, from {self.inputs} inputs each\n{told}\n\n"
            f"Other readings of the cameras, against that\n{tried}"
        )

    def sheet(self) -> Image.Image:
        """Truth above rendering; of many hidden views, evenly spread ones."""
        rows = {"truth": self.truth.rgb, "rendered": self.rendered}
        return contact_sheet([(label, evenly_spread(rgb, _MOST_COLUMNS)) for label, rgb in rows.items()])


def rounds_of_hiding(total: int, rounds: int) -> list[list[int]]:
    """Which of `total` views to hide in every round: each but the first and the last once, none beside another.

    Raises:
        ValueError: fewer than two rounds, or too few views for that many.
    """
    if not 2 <= rounds <= total - 2:
        raise ValueError(
            f"{total} views can be hidden in 2 to {max(2, total - 2)} rounds, asked for {rounds}; at least 4 views are "
            "needed"
        )
    return [list(range(1 + first, total - 1, rounds)) for first in range(rounds)]


def spread(items: list[int], most: int) -> list[int]:
    """At most `most` of the items, evenly spread."""
    count = min(len(items), max(1, most))
    return [items[round((i + 0.5) * len(items) / count - 0.5)] for i in range(count)]


def check_cameras(
    model: SceneModel,
    views: Views,
    *,
    rounds: int = 2,
    scale: str | float = "auto",
    readings: tuple[Reading, ...] = READINGS,
    seed: int = 0,
    progress: CheckProgress | None = None,
) -> CameraCheck:
    """Hide views, encode the others, render what was hidden (posterior mean, one step); again for every reading.

    Args:
        model: encodes and renders. Of more inputs than it takes, those chosen by the given cameras serve all readings.
        views: the views of one scene, in the order they were taken; of many, evenly spread ones are hidden.
        rounds: 2 hides every other view and then the rest; more rounds leave more inputs in each and take longer.
        scale: scene scale, as for `SceneTok.encode`.
        readings: what else to try; empty for a plain score.
        seed: noise of the renderings.
        progress: called with (done, total) after every rendering; may raise to cancel.

    Raises:
        ValueError: too few views, or a scale that is none.
    """
    hidden = [spread(away, _MOST_HIDDEN // rounds) for away in rounds_of_hiding(len(views), rounds)]
    views = fit_views(views, model.picture_size(views.cameras.size))
    tried = (AS_GIVEN, *readings)
    parts = []
    for number, away in enumerate(hidden):
        report = progress and (lambda done, total, before=number: progress(before * total + done, rounds * total))
        parts.append(_check_round(model, views, away, tried, scale, seed, report))
    order = torch.tensor([i for away in hidden for i in away]).argsort()
    return CameraCheck(
        truth=views[torch.tensor([i for away in hidden for i in away])[order]],
        rendered=torch.cat([part.rendered for part in parts])[order],
        baselines={name: torch.cat([part.baselines[name] for part in parts])[order] for name in parts[0].baselines},
        scores=torch.cat([part.scores for part in parts], 1)[:, order],
        inputs=min(part.inputs for part in parts),
        scene_scale=sum(part.scene_scale for part in parts) / len(parts),
        readings=readings,
    )


def _check_round(
    model: SceneModel,
    views: Views,
    away: list[int],
    tried: tuple[Reading, ...],
    scale: str | float,
    seed: int,
    progress: CheckProgress | None,
) -> CameraCheck:
    kept = [i for i in range(len(views)) if i not in away]
    factor, truth = 0.0, views[away]
    scores, renderings = [], []
    for i, reading in enumerate(tried):
        read = Views(views.rgb, reading.change(views.cameras))
        scene = model.encode(read[kept], scale=scale if reading.scale == 1 else factor * reading.scale)
        if i == 0:  # as given
            kept, factor = [kept[k] for k in scene.meta["views_used"]], scene.scene_scale
        noise = torch.Generator().manual_seed(seed)
        renderings.append(model.render(scene, read.cameras[away], steps=1, generator=noise))
        scores.append(psnr(renderings[-1], truth.rgb))
        if progress is not None:
            progress(i + 1, len(tried))
    inputs = views[kept]
    baselines = {
        "nearest input picture": psnr(nearest_view(inputs, truth.cameras), truth.rgb),
        _FLAT: psnr(mean_colour(inputs, len(truth)), truth.rgb),
    }
    return CameraCheck(truth, renderings[0], baselines, torch.stack(scores), len(inputs), factor, tried[1:])
