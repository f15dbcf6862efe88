"""Measures that need packages, weights or large pictures: each is taken where it can be, else named with its remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from scenetok_core.pictures.sheets import evenly_spread
from scenetok_core.types import Views
from training.cases import Case
from training.measures.availability import UnavailableError
from training.measures.perceptual import FrechetDistance, Lpips
from training.measures.pose_estimators import PoseEstimator, choose_estimator
from training.measures.poses import AUC_DEGREES, pose_auc, relative_pose_errors, trajectory_errors
from training.scores import GENERATED, Figures, Scores

_POSED_VIEWS = 10  # at most so many evenly spread targets of a case are posed, as VGGT's evaluation does
_FEWEST_FOR_TRAJECTORY = 3

T = TypeVar("T")


class LeftOut(dict[str, str]):
    """Measures that could not be taken, and why."""

    def attempt(self, measure: str, make: Callable[[], T]) -> T | None:
        """What `make` returns; None, noted here, where it raises `UnavailableError`."""
        try:
            return make()
        except UnavailableError as error:
            self[measure] = str(error)
            return None


class Extras:
    """LPIPS, FID and estimated poses, as far as they are at hand.

    Args:
        methods: those whose renderings are compared with the truth as sets, and posed.
        side: pixels along the pictures.
        device: where the networks of the measures run.
        left_out: takes notice of what is missing.
    """

    def __init__(self, methods: Sequence[str], side: int, device: torch.device, left_out: LeftOut) -> None:
        self.left_out = left_out
        self._lpips = left_out.attempt("LPIPS", lambda: Lpips.load(device))
        self._fid_name = "rFID, gFID" if GENERATED in methods else "rFID"
        fid = left_out.attempt(self._fid_name, lambda: FrechetDistance.load(device))
        self._fids = {} if fid is None else {method: fid.twin() for method in methods}
        self._estimator = left_out.attempt("TPS, ATE_r, ATE_t", lambda: choose_estimator(side, device))
        if self._estimator is not None and not self._estimator.poses_trajectories:
            left_out["ATE_r, ATE_t"] = f"need VGGT, which poses all views together; {self._estimator.name} poses pairs"

    def add(self, scores: Scores, case: Case, ours: Mapping[str, Tensor], baselines: Mapping[str, Tensor]) -> None:
        """Measure the pictures [T, 3, H, W] of a case, by method."""
        truth = case.targets.rgb
        if self._lpips is not None:
            for method, pictures in {**baselines, **ours}.items():
                scores.add(f"{method}_lpips", self._lpips(pictures, truth))
        for method, fid in self._fids.items():
            fid.update(ours[method], truth)
        if self._estimator is not None and len(truth) > 1:
            for method, pictures in {**ours, "truth": truth}.items():
                _add_poses(scores, method, self._estimator, Views(pictures, case.targets.cameras))

    def figures(self, scores: Scores) -> Figures:
        """What could be measured."""
        names = [name for name in scores.values if name.endswith(("_lpips", "_ate_rotation", "_ate_translation"))]
        figures: Figures = {name.replace("_ate_rotation", "_ate_rotation_degrees"): scores.mean(name) for name in names}
        for method, fid in self._fids.items():
            distance = self.left_out.attempt(self._fid_name, fid.compute)
            if distance is not None:
                figures[f"{method}_gfid" if method == GENERATED else f"{method}_rfid"] = distance
        return figures | self._pose_figures(scores)

    def _pose_figures(self, scores: Scores) -> Figures:
        if self._estimator is None:
            return {}
        errors = [name for name in scores.values if name.endswith("_tps_error")]
        if not errors:
            self.left_out["TPS"] = "needs scenes with at least two targets"
        figures: Figures = {"tps_poses_by": self._estimator.name}
        for name in errors:
            figures |= auc_figures(scores, name, name.replace("_error", "_auc"))
        return figures


def auc_figures(scores: Scores, errors: str, name: str) -> Figures:
    """Areas under the curves of angular errors, at all thresholds."""
    values = torch.cat(scores.values[errors])
    return {f"{name}_{degrees}": pose_auc(values, degrees) for degrees in AUC_DEGREES}


def _add_poses(scores: Scores, method: str, estimator: PoseEstimator, views: Views) -> None:
    views = views[evenly_spread(torch.arange(len(views)), _POSED_VIEWS)]
    found = estimator.estimate(views.rgb, views.cameras.K)
    scores.add(f"{method}_tps_error", relative_pose_errors(found.relative, views.cameras.c2w))
    if found.c2w is not None and len(views) >= _FEWEST_FOR_TRAJECTORY:
        errors = trajectory_errors(found.c2w, views.cameras.c2w)
        scores.add(f"{method}_ate_rotation", torch.tensor([errors.rotation_degrees]))
        if math.isfinite(errors.translation):
            scores.add(f"{method}_ate_translation", torch.tensor([errors.translation]))
