"""Lens distortion: the model, and pictures straightened by it."""

from __future__ import annotations

import pytest
import torch

from scenetok_core.captures.distortion import Distortion, distort, undistort, undistorted_intrinsics, undistortion_grid

HEIGHT, WIDTH = 96, 128
FOCAL, CENTRE_X, CENTRE_Y = 0.8, 0.52, 0.47
CHECKS_PER_UNIT = 4.0

LENSES = {
    "barrel": Distortion(k1=-0.2, k2=0.03),
    "pincushion": Distortion(k1=0.15, k2=0.02),
    "tangential": Distortion(k1=-0.05, p1=0.01, p2=-0.008),
    "rational": Distortion(k1=0.3, k2=0.1, k3=0.01, k4=0.5, k5=0.12, k6=0.02, p1=0.002, p2=0.001),
}
each_lens = pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())


def intrinsics() -> torch.Tensor:
    fy = FOCAL * WIDTH / HEIGHT
    return torch.tensor([[FOCAL, 0, CENTRE_X], [0, fy, CENTRE_Y], [0, 0, 1]], dtype=torch.float64)


def rays(K: torch.Tensor) -> torch.Tensor:
    """Image-plane points [H, W, 2] at the pixel centres of a pinhole camera."""
    y, x = torch.meshgrid((torch.arange(HEIGHT) + 0.5) / HEIGHT, (torch.arange(WIDTH) + 0.5) / WIDTH, indexing="ij")
    return (torch.stack([x, y], dim=-1).double() - K[:2, 2]) / K[(0, 1), (0, 1)]


def checkerboard(points: torch.Tensor) -> torch.Tensor:
    """A softened checkerboard on the image plane: [3, H, W] from [H, W, 2]."""
    wave = torch.sin(torch.pi * CHECKS_PER_UNIT * points)
    board = 0.5 + 0.5 * torch.tanh(2 * wave[..., 0] * wave[..., 1])
    return torch.stack([board, points[..., 0] + 0.5, points[..., 1] + 0.5]).float()


def inverse_distort(points: torch.Tensor, lens: Distortion) -> torch.Tensor:
    """Numerical inverse of `distort` by fixed-point iteration, independent of the code under test."""
    guess = points.clone()
    for _ in range(200):
        guess = guess + 0.5 * (points - distort(guess, lens))
    assert (distort(guess, lens) - points).abs().max() < 1e-9
    return guess


def distorted_checkerboard(lens: Distortion) -> torch.Tensor:
    return checkerboard(inverse_distort(rays(intrinsics()), lens))


def test_distort_matches_the_written_formula():
    lens = LENSES["rational"]
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    radial = (1 + 0.3 * r2 + 0.1 * r2**2 + 0.01 * r2**3) / (1 + 0.5 * r2 + 0.12 * r2**2 + 0.02 * r2**3)
    expected_x = x * radial + 2 * 0.002 * x * y + 0.001 * (r2 + 2 * x * x)
    expected_y = y * radial + 0.002 * (r2 + 2 * y * y) + 2 * 0.001 * x * y
    got = distort(torch.tensor([x, y], dtype=torch.float64), lens)
    torch.testing.assert_close(got, torch.tensor([expected_x, expected_y], dtype=torch.float64))


@each_lens
def test_undistort_restores_a_rendered_checkerboard(lens):
    straight, K = undistort(distorted_checkerboard(lens), intrinsics(), lens)
    error = (straight - checkerboard(rays(K))).abs()
    assert error.mean() < 3e-3
    assert error.max() < 0.06
    uncorrected = (distorted_checkerboard(lens) - checkerboard(rays(K))).abs()
    assert uncorrected.mean() > 5 * error.mean()


@each_lens
def test_undistort_uses_all_of_the_picture_and_nothing_beyond(lens):
    places = undistortion_grid(intrinsics(), lens, (8 * HEIGHT, 8 * WIDTH))
    assert places.abs().max() <= 1
    assert places.abs().max() > 0.98


@each_lens
def test_undistort_leaves_no_dark_border(lens):
    straight, _ = undistort(torch.ones(3, HEIGHT, WIDTH), intrinsics(), lens)
    torch.testing.assert_close(straight, torch.ones_like(straight))


def test_barrel_lenses_keep_more_field_of_view_than_pincushion_ones():
    focal = {name: float(undistorted_intrinsics(intrinsics(), lens)[0, 0]) for name, lens in LENSES.items()}
    assert focal["barrel"] < FOCAL < focal["pincushion"]


@each_lens
def test_undistorted_intrinsics_zoom_about_the_picture_centre(lens):
    K, zoomed = intrinsics(), undistorted_intrinsics(intrinsics(), lens)
    zoom = zoomed[0, 0] / K[0, 0]
    torch.testing.assert_close(zoomed[1, 1] / K[1, 1], zoom)
    torch.testing.assert_close(zoomed[:2, 2] - 0.5, (K[:2, 2] - 0.5) * zoom)


def test_a_pinhole_changes_nothing():
    rgb = torch.rand(3, 5, 7)
    straight, K = undistort(rgb, intrinsics(), Distortion())
    assert torch.equal(straight, rgb)
    assert torch.equal(K, intrinsics())


def test_a_small_lens_moves_pixels_by_a_small_amount():
    rgb = distorted_checkerboard(Distortion())
    straight, K = undistort(rgb, intrinsics(), Distortion(k1=1e-7))
    torch.testing.assert_close(straight, rgb, atol=1e-4, rtol=0)
    torch.testing.assert_close(K, intrinsics(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lens", [Distortion(k1=-500.0), Distortion(p2=50.0), Distortion(k4=-200.0)], ids=str)
def test_a_lens_that_folds_the_picture_is_refused(lens):
    with pytest.raises(ValueError, match=r"cannot be removed.*check the coefficients"):
        undistort(torch.zeros(3, HEIGHT, WIDTH), intrinsics(), lens)
