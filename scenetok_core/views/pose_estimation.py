"""Cameras of photographs without poses: structure from motion by the optional package `pycolmap`, on the CPU.

The work is done by a process of its own (`colmap_worker`), which ends when the caller's progress callback raises.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..camera import fit_image
from ..captures import Capture, open_colmap
from ..captures.distortion import resample, undistortion_grid
from ..configs import require
from ..pictures.sheets import to_image
from ..trajectories.framing import DEFAULT_FOV
from ..types import Cameras, Views, check_shape

Order = Literal["auto", "video", "unordered"]
Lens = Literal["simple_radial", "pinhole", "opencv"]
EstimationProgress = Callable[[int, int, str], None]  # (done, total, "features" | "matching" | "mapping")

ADVICE = (
    "show every part of the place in at least three pictures, move sideways between them instead of only turning on "
    "the spot, film slowly in good light without blur, include surfaces with texture, and give the field of view "
    "when you know it"
)

_MODELS: dict[Lens, str] = {"simple_radial": "SIMPLE_RADIAL", "pinhole": "SIMPLE_PINHOLE", "opencv": "OPENCV"}
_WORKER = Path(__file__).with_name("colmap_worker.py")
_PHASES = ("features", "matching", "mapping")
_LEAST_REGISTERED = 3
_LEAST_FEATURES = 50
_MOST_EXHAUSTIVE = 60  # pictures of which every pair is matched in any order
_NEIGHBOURS = 8
_LOOP_PICTURES = 30
_ERROR_LINES = 3
# Of small pictures weaker features are needed too, and their matches looked for along the epipolar lines a second time.
_SMALL_SIDE = 800  # pixels
_PEAK, _PEAK_SMALL = 0.0067, 0.002


@dataclass(frozen=True)
class EstimationConfig:
    """How cameras are estimated.

    Raises:
        ValueError: a setting that is none of the choices or out of range.
    """

    order: Order = "auto"  # "video": neighbours in time; "unordered": every pair; "auto": every pair of few pictures
    lens: Lens = "simple_radial"  # "pinhole": no distortion; "opencv": four coefficients
    fov_degrees: float | None = None  # across the longer side, when known; None: a guess that is refined
    shared_camera: bool = True  # all pictures by one camera with one zoom
    max_side: int = 1600  # pixels; larger pictures are measured in a smaller copy
    threads: int = -1  # -1: all cores
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.order in get_args(Order), f"order must be one of {get_args(Order)}, got {self.order!r}")
        require(self.lens in get_args(Lens), f"lens must be one of {get_args(Lens)}, got {self.lens!r}")
        require(
            self.fov_degrees is None or 0 < self.fov_degrees < 180,
            f"fov_degrees must lie between 0 and 180, got {self.fov_degrees}",
        )
        require(self.max_side >= 64, f"max_side must be at least 64 pixels, got {self.max_side}")


@dataclass(frozen=True)
class EstimationReport:
    """How well structure from motion went."""

    given: int  # pictures
    registered: int  # of them, those of the largest model
    models: tuple[int, ...]  # pictures of every separate model, largest first
    points: int  # 3-D points of the largest model
    track_length: float  # pictures that see a point, mean
    reprojection_px: float  # mean distance in pixels between points and what the pictures show
    triangulation_degrees: float  # median over points of the widest angle between rays to it
    fov_degrees: float  # across the longer side, of the straightened pictures' first camera

    def faults(self) -> list[str]:
        """What speaks against these cameras, each with its remedy."""
        points = self.points * self.track_length / self.registered
        checks = (
            (
                self.registered < 0.8 * self.given,
                f"{self.given - self.registered} pictures could not be placed"
                + (f", {len(self.models)} parts do not connect" if len(self.models) > 1 else "")
                + ": take more pictures between them, with more overlap",
            ),
            (
                self.triangulation_degrees < 3,
                "points are seen under small angles, so distances are uncertain: move sideways, do not only turn",
            ),
            (
                self.reprojection_px > 1.5,
                "points do not lie where the pictures show them: the lens model may be wrong (try opencv), or things "
                "moved",
            ),
            (points < 100, "few points in each picture: more light, more texture, larger pictures"),
            (
                not 30 < self.fov_degrees < 120,
                "the field of view is implausible: give it (about 65 degrees for a telephone's main camera)",
            ),
        )
        return [fault for wrong, fault in checks if wrong]

    def verdict(self) -> str:
        """One line for people."""
        faults = self.faults()
        if not faults:
            return "good: the cameras fit the pictures"
        word = "poor" if self.registered < 0.5 * self.given or len(faults) > 1 else "usable, with care"
        return f"{word}: {'; '.join(faults)}"

    def __str__(self) -> str:
        return (
            f"{self.registered} of {self.given} pictures have a camera\n"
            f"mean reprojection error {self.reprojection_px:.2f} px, {self.points} points, each seen by "
            f"{self.track_length:.1f} pictures\n"
            f"median angle between the rays to a point {self.triangulation_degrees:.1f} degrees\n"
            f"field of view {self.fov_degrees:.1f} degrees across the longer side\n"
            f"verdict: {self.verdict()}"
        )


@dataclass(frozen=True, eq=False)
class EstimatedCameras:
    """Cameras of those pictures that found their place; up to an arbitrary frame and unit."""

    indices: tuple[int, ...]  # R of the pictures, in their order
    capture: Capture  # R views: poses, intrinsics and lenses; its picture files no longer exist
    report: EstimationReport

    @property
    def cameras(self) -> Cameras:
        """The R pinhole cameras of the straightened pictures."""
        return self.capture.cameras

    def views(
        self,
        rgb: Tensor,  # [V, 3, H, W]: all pictures that were given
    ) -> Views:
        """The registered pictures, straightened, with their cameras."""
        chosen, size = rgb[list(self.indices)].float(), (rgb.shape[-2], rgb.shape[-1])
        for i, lens in enumerate(self.capture.lenses):
            if lens is not None:
                chosen[i] = resample(chosen[i], undistortion_grid(self.capture.K[i], lens, size))
        return Views(chosen, self.cameras.replace(size=size))


def check_pycolmap() -> None:
    """Raise `ValueError` unless pycolmap is installed; it is not imported."""
    if importlib.util.find_spec("pycolmap") is None:
        raise ValueError(
            "estimating cameras needs the package pycolmap, which is not installed: pip install pycolmap (in the "
            f"Python that runs this, {sys.executable}); or load a capture that has cameras"
        )


def estimate_cameras(
    pictures: Iterable[Tensor],
    config: EstimationConfig | None = None,
    progress: EstimationProgress | None = None,
) -> EstimatedCameras:
    """Find the cameras of pictures of one place.

    Args:
        pictures: [3, H, W] each, in [0, 1], read once; for a video in the order of time.
        config: how; None is the default.
        progress: called with (done, total, phase), `done` growing over all phases; may raise to cancel, which ends the
            work at once.

    Returns:
        Cameras of the largest connected part. Equal input and seed give equal cameras where one thread works.

    Raises:
        ValueError: pycolmap is missing, fewer than three pictures, sizes that differ under a shared camera, or fewer
            than three pictures that find their place; the message says what to do.
    """
    config = config or EstimationConfig()
    check_pycolmap()
    with tempfile.TemporaryDirectory(prefix="scenetok_") as name:
        folder = Path(name)
        sizes = _write_pictures(pictures, folder / "images", config)
        job = _job(sizes, config)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        result = _run(folder, len(sizes), progress)
        _check(result, len(sizes))
        capture = open_colmap(folder / "model", folder / "images")
    report = EstimationReport(
        given=len(sizes),
        registered=len(capture),
        models=tuple(result["models"]),
        points=result["points"],
        track_length=result["track_length"],
        reprojection_px=result["reprojection_px"],
        triangulation_degrees=result["triangulation_degrees"],
        fov_degrees=_fov(capture),
    )
    return EstimatedCameras(tuple(int(Path(name).stem) for name in capture.names), capture, report)


def _write_pictures(pictures: Iterable[Tensor], folder: Path, config: EstimationConfig) -> list[tuple[int, int]]:
    """PNG files of at most `max_side` pixels; returns their (height, width)."""
    folder.mkdir()
    sizes: list[tuple[int, int]] = []
    given = (0, 0)  # (height, width)
    for i, picture in enumerate(pictures):
        check_shape("picture", picture, (3, None, None))
        if config.shared_camera and sizes and tuple(picture.shape[1:]) != given:
            raise ValueError(
                f"picture {i} is {picture.shape[2]} x {picture.shape[1]} px, the one before {given[1]} x {given[0]}: "
                "pictures of different sizes are no one camera's; turn shared_camera off, or take pictures of one size"
            )
        given = (picture.shape[1], picture.shape[2])
        shrink = min(1.0, config.max_side / max(given))
        size = (max(1, round(given[0] * shrink)), max(1, round(given[1] * shrink)))
        to_image(fit_image(picture.float(), size)).save(folder / f"{i:06}.png", compress_level=1)
        sizes.append(size)
    if len(sizes) < _LEAST_REGISTERED:
        raise ValueError(
            f"estimating cameras needs at least {_LEAST_REGISTERED} pictures of one place, got {len(sizes)}"
        )
    return sizes


def _job(sizes: Sequence[tuple[int, int]], config: EstimationConfig) -> dict[str, Any]:
    factor = 1 / (2 * math.tan(math.radians(config.fov_degrees or DEFAULT_FOV) / 2))
    different = sizes[:1] if config.shared_camera else sizes
    cameras = [
        {
            "model": _MODELS[config.lens],
            "focal": factor * max(size),
            "width": size[1],
            "height": size[0],
            "known": config.fov_degrees is not None,
        }
        for size in different
    ]
    small = max(map(max, sizes)) < _SMALL_SIDE
    return {
        "names": [f"{i:06}.png" for i in range(len(sizes))],
        "cameras": cameras,
        "pairs": pairs_to_match(len(sizes), config.order),
        "threads": config.threads,
        "seed": config.seed,
        "peak_threshold": _PEAK_SMALL if small else _PEAK,
        "guided": small,
    }


def pairs_to_match(count: int, order: Order) -> list[tuple[int, int]]:
    """Which of `count` pictures are compared: all pairs, or of a video those near in time and a coarse grid of it.

    The grid, every so many pictures with each other, finds places that the camera came back to.
    """
    every = [(i, j) for i in range(count) for j in range(i + 1, count)]
    if order == "unordered" or (order == "auto" and count <= _MOST_EXHAUSTIVE):
        return every
    step = -(-count // _LOOP_PICTURES)
    gaps = {*range(1, _NEIGHBOURS + 1), *(2**power for power in range(count.bit_length()))}
    return [(i, j) for i, j in every if j - i in gaps or (i % step == 0 and j % step == 0)]


def _run(folder: Path, count: int, progress: EstimationProgress | None) -> dict[str, Any]:
    """The worker's result."""
    result: dict[str, Any] | None = None
    with (folder / "errors.txt").open("w", encoding="utf-8") as errors, _worker(folder, errors) as lines:
        for line in lines:
            told = json.loads(line)
            result = told.get("result", result)
            if progress is not None and "phase" in told:
                done = _PHASES.index(told["phase"]) * count + count * told["done"] // told["total"]
                progress(done, len(_PHASES) * count, told["phase"])
    if result is None:
        last = (folder / "errors.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = " / ".join(last[-_ERROR_LINES:]) or "it gave no reason"
        raise ValueError(f"pycolmap (4.2 or newer is needed) stopped before it was done: {reason}")
    return result


@contextmanager
def _worker(folder: Path, errors: Any) -> Iterator[Iterable[str]]:
    command = [sys.executable, str(_WORKER), str(folder / "job.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8")
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _check(result: dict[str, Any], given: int) -> None:
    features = torch.tensor(result["features"])
    poor = int((features < _LEAST_FEATURES).sum())
    registered = max(result["models"], default=0)
    if poor > given - _LEAST_REGISTERED:
        raise ValueError(
            f"{poor} of {given} pictures show too little detail to find cameras (fewer than {_LEAST_FEATURES} features "
            f"each; they may be blurred, dark or bare): {ADVICE}"
        )
    if not result["pairs"]:
        raise ValueError(f"no two of the {given} pictures show the same things, as far as can be told: {ADVICE}")
    if registered < _LEAST_REGISTERED:
        raise ValueError(
            f"only {registered} of {given} pictures found their place, at least {_LEAST_REGISTERED} are needed: "
            f"{ADVICE}"
        )


def _fov(capture: Capture) -> float:
    """Degrees across the longer side of the first straightened picture."""
    height, width = capture.sizes[0]
    focal = capture.cameras.K[0, 0, 0] if width >= height else capture.cameras.K[0, 1, 1]
    return math.degrees(2 * math.atan(0.5 / float(focal)))
