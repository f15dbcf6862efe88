"""Estimated cameras beside the true ones of a capture: `python -m benchmarks.estimated_cameras CAPTURE`.

The poses are thrown away and estimated again from the pictures. Prints what was found, how far it is from the truth
after the similarity that fits best, and how well a model renders left-out views with either cameras.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

from torch import Tensor

from scenetok_core import SceneTok, open_capture
from scenetok_core.leave_out import leave_out
from scenetok_core.pictures.sheets import save_image
from scenetok_core.types import Views
from scenetok_core.views.pose_estimation import EstimationConfig, Lens, Order, estimate_cameras
from training.measures.poses import trajectory_errors

ROOT = Path(__file__).resolve().parents[1]
_CENTIMETRES = 100


def spread(centres: Tensor) -> float:
    """Root mean square distance of centres [V, 3] from their mean."""
    return float((centres - centres.mean(0)).square().sum(-1).mean().sqrt())


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Estimated cameras beside the true ones.")
    parser.add_argument("capture", type=Path, help="any posed capture")
    parser.add_argument("--first", type=int, default=0, help="first view (default 0)")
    parser.add_argument("--last", type=int, help="last view (default: the last)")
    parser.add_argument("--step", type=int, default=1, help="every how many views (default 1)")
    parser.add_argument("--order", choices=get_args(Order), default="auto", help="as for estimate")
    parser.add_argument("--lens", choices=get_args(Lens), default="simple_radial", help="as for estimate")
    parser.add_argument("--fov", type=float, help="as for estimate")
    parser.add_argument("--threads", type=int, default=1, help="as for estimate (default 1)")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "scenetok-tiny.safetensors")
    parser.add_argument("--every", type=int, default=8, help="encode every n-th of the registered views (default 8)")
    parser.add_argument("--sheets", type=Path, help="folder for the renderings with either cameras")
    options = parser.parse_args()
    capture = open_capture(options.capture)
    views = capture.load(slice(options.first, None if options.last is None else options.last + 1, options.step))
    began = time.perf_counter()
    config = EstimationConfig(order=options.order, lens=options.lens, fov_degrees=options.fov, threads=options.threads)
    found = estimate_cameras(views.rgb, config)
    print(
        f"{found.report}\nmodels {found.report.models}, {time.perf_counter() - began:.0f} s, {config.threads} thread(s)"
    )
    truth = views[list(found.indices)]
    errors = trajectory_errors(found.cameras.c2w, truth.cameras.c2w)
    extent = spread(truth.cameras.centers)
    print(
        f"after similarity alignment: rotation {errors.rotation_degrees:.2f} degrees, translation "
        f"{100 * errors.translation:.1f} % of the path's spread = {errors.translation * extent * _CENTIMETRES:.1f} cm "
        f"(if the capture is in metres)"
    )
    model = SceneTok.load(options.checkpoint)
    for name, posed in (("true", truth), ("estimated", Views(found.views(views.rgb).rgb, found.cameras))):
        result = leave_out(model, posed, options.every)
        scores = ", ".join(f"{score:.2f} dB {kind}" for kind, score in result.scores().items())
        print(f"{name} cameras: {scores}")
        if options.sheets is not None:
            save_image(options.sheets / f"{name}.png", result.sheet())
    return 0


if __name__ == "__main__":
    sys.exit(main())
