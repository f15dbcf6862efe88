"""Structure from motion by pycolmap, as a script of its own: `python colmap_worker.py JOB.json`.

A process apart, since pycolmap brings copies of libraries that Pillow loads too and takes over the signal handlers, and
since a process can be ended at any moment. It imports nothing of this package. `pose_estimation` writes the job and
reads the lines of JSON that come back: {"phase", "done", "total"} while it works, at last {"result"}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

_PAIRS_AT_ONCE = 32
_POINTS_MEASURED = 4000
_FATAL_ONLY = 3


def main(job_file: str) -> None:
    """Run the job in `job_file`; a model, when there is one, is written to the folder `model` beside it."""
    pycolmap.logging.minloglevel = _FATAL_ONLY
    folder = Path(job_file).parent
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    pycolmap.set_random_seed(job["seed"])
    database = folder / "database.db"
    features = _extract(database, folder, job)
    result: dict[str, Any] = {"features": features, "pairs": 0, "models": []}
    if sum(count > 0 for count in features) > 1:
        result["pairs"] = _match(database, folder, job)
    if result["pairs"]:
        models = _map(database, folder, job)
        result["models"] = sorted((model.num_reg_images() for model in models), reverse=True)
        if models:
            best = max(models, key=lambda model: (model.num_reg_images(), model.num_points3D()))
            (folder / "model").mkdir()
            best.write_binary(folder / "model")
            result |= _measure(best)
    _tell(result=result)


def _tell(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _extract(database: Path, folder: Path, job: dict[str, Any]) -> list[int]:
    """Features of every picture; returns how many each has."""
    names, cameras = job["names"], job["cameras"]
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = job["threads"]
    options.sift.peak_threshold = job["peak_threshold"]
    reader = pycolmap.ImageReaderOptions()
    with pycolmap.Database.open(database) as opened:
        numbers = [opened.write_camera(_camera(**camera)) for camera in cameras]
    for i, name in enumerate(names):
        reader.existing_camera_id = numbers[i % len(numbers)]
        pycolmap.extract_features(
            database,
            folder / "images",
            [name],
            reader_options=reader,
            extraction_options=options,
            device=pycolmap.Device.cpu,
        )
        _tell(phase="features", done=i + 1, total=len(names))
    with pycolmap.Database.open(database) as opened:
        found = {image.name: opened.num_keypoints_for_image(image.image_id) for image in opened.read_all_images()}
    return [found.get(name, 0) for name in names]


def _camera(model: str, focal: float, width: int, height: int, known: bool) -> pycolmap.Camera:
    camera = pycolmap.Camera.create_from_model_name(1, model, focal, width, height)
    camera.has_prior_focal_length = known
    return camera


def _match(database: Path, folder: Path, job: dict[str, Any]) -> int:
    """Match the features of the job's pairs; returns how many pairs show the same things."""
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = job["threads"]
    matching.guided_matching = job["guided"]
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = job["seed"]
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = folder / "pairs.txt"
    pairs = [f"{job['names'][i]} {job['names'][j]}\n" for i, j in job["pairs"]]
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs[start : start + _PAIRS_AT_ONCE]
        (folder / "pairs.txt").write_text("".join(some), encoding="utf-8")
        pycolmap.match_image_pairs(database, matching, pairing, verification, device=pycolmap.Device.cpu)
        _tell(phase="matching", done=start + len(some), total=len(pairs))
    with pycolmap.Database.open(database) as opened:
        _, inliers = opened.read_two_view_geometry_num_inliers()
        return int((np.asarray(inliers) >= verification.min_num_inliers).sum())


def _map(database: Path, folder: Path, job: dict[str, Any]) -> list[pycolmap.Reconstruction]:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.extract_colors = job["threads"], job["seed"], False
    options.mapper.random_seed = options.triangulation.random_seed = job["seed"]
    done = _counter(len(job["names"]))
    models = pycolmap.incremental_mapping(
        database,
        folder / "images",
        folder / "models",
        options,
        initial_image_pair_callback=done,
        next_image_callback=done,
    )
    return list(models.values())


def _counter(total: int) -> Callable[[], None]:
    count = 0

    def step() -> None:
        nonlocal count
        count = min(count + 1, total)
        _tell(phase="mapping", done=count, total=total)

    return step


def _measure(model: pycolmap.Reconstruction) -> dict[str, float]:
    centres = {number: model.images[number].projection_center() for number in model.reg_image_ids()}
    points = list(model.points3D.values())
    some = points[:: max(1, len(points) // _POINTS_MEASURED)]
    angles = [_widest_angle(point.xyz, (centres[e.image_id] for e in point.track.elements)) for point in some]
    return {
        "points": len(points),
        "reprojection_px": model.compute_mean_reprojection_error(),
        "track_length": model.compute_mean_track_length(),
        "triangulation_degrees": float(np.degrees(np.median(angles))) if angles else 0.0,
    }


def _widest_angle(point: np.ndarray, centres: Iterable[np.ndarray]) -> float:
    """Largest angle in radians between two of the rays along which a point was seen."""
    rays = np.stack([point - centre for centre in centres])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    return float(np.arccos(np.clip((rays @ rays.T).min(), -1, 1)))


if __name__ == "__main__":
    main(sys.argv[1])
