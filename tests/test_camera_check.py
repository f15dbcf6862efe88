"""Cameras that were mistaken in known ways are named; right ones are left alone."""

from pathlib import Path

import pytest
import torch

from scenetok_core import SceneTok, open_capture
from scenetok_core.camera import flip_opengl, scale_focal
from scenetok_core.types import Views
from scenetok_core.views.camera_check import READINGS, CameraCheck, check_cameras, rounds_of_hiding
from tests import small

ROOT = Path(__file__).resolve().parents[1]
BY_NAME = {reading.name: reading for reading in READINGS}


def columns(c2w, x, y, z):
    """Poses whose rotation has other columns: a sign and a number (1 to 3) of the old column each."""
    turned = c2w.clone()
    for place, old in enumerate((x, y, z)):
        turned[..., :3, place] = c2w[..., :3, abs(old) - 1] * (1 if old > 0 else -1)
    return turned


def mixed(c2w):
    wrong = c2w.clone()
    wrong[..., :3, 3] = torch.linalg.inv(c2w)[..., :3, 3]
    return wrong


def transposed(c2w):
    wrong = c2w.clone()
    wrong[..., :3, :3] = c2w[..., :3, :3].mT
    return wrong


MISTAKEN_POSES = {
    "world-to-camera": torch.linalg.inv,
    "OpenGL axes": flip_opengl,
    "world-to-camera with OpenGL axes": lambda c2w: torch.linalg.inv(flip_opengl(c2w)),
    "rotations transposed": transposed,
    "translations of world-to-camera": mixed,
    "left-handed axes": lambda c2w: torch.diag(torch.tensor([1.0, -1, 1, 1])) @ columns(c2w, 1, -2, 3),
    "camera axes forward, left, up": lambda c2w: columns(c2w, 3, -1, -2),
    "camera axes right, forward, up": lambda c2w: columns(c2w, 1, 3, -2),
    "pictures turned to the right": lambda c2w: columns(c2w, -2, 1, 3),
    "pictures turned to the left": lambda c2w: columns(c2w, 2, -1, 3),
    "pictures upside down": lambda c2w: columns(c2w, -1, -2, 3),
}
MISTAKEN_ORDER = {"reversed order": lambda i, n: n - 1 - i, "order late by one": lambda i, n: (i + 1) % n}
MISTAKEN_ORDER["order early by one"] = lambda i, n: (i - 1) % n


def mistaken(name, cameras):
    if name in MISTAKEN_POSES:
        return cameras.replace(c2w=MISTAKEN_POSES[name](cameras.c2w))
    if name in MISTAKEN_ORDER:
        return cameras[[MISTAKEN_ORDER[name](i, len(cameras)) for i in range(len(cameras))]]
    factor = float(name.rpartition(" x ")[2])
    return cameras.replace(K=scale_focal(cameras.K, (1 / factor, 1 / factor)))


@pytest.mark.parametrize("name", [name for name in BY_NAME if not name.startswith("scene scale")])
def test_every_reading_undoes_its_mistake(name):
    c2w = torch.eye(4).repeat(5, 1, 1)
    c2w[:, :3, :3], _ = torch.linalg.qr(torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0)))
    c2w[:, :3, :3] *= torch.linalg.det(c2w[:, :3, :3])[:, None, None]
    c2w[:, :3, 3] = torch.arange(15.0).view(5, 3).sin()
    right = small.cameras(5).replace(c2w=c2w)
    wrong = mistaken(name, right)
    assert not torch.allclose(wrong.c2w, right.c2w) or not torch.allclose(wrong.K, right.K)
    read = BY_NAME[name].change(wrong)
    assert torch.allclose(read.c2w, right.c2w, atol=1e-5) and torch.allclose(read.K, right.K, atol=1e-5)


@pytest.fixture(scope="module")
def shipped():
    return SceneTok.load(ROOT / "checkpoints" / "scenetok-tiny.safetensors")


@pytest.fixture(scope="module")
def views():
    """Every third view of the example's second path, which swings."""
    capture = open_capture(ROOT / "workflows" / "example_capture" / "heldout.json")
    return capture.subset(slice(None, None, 3)).load(size=64)


TRIED = ("world-to-camera", "OpenGL axes", "focal length x 0.5", "reversed order")


@pytest.mark.parametrize("name", TRIED)
def test_the_shipped_model_names_what_is_wrong_with_the_cameras(shipped, views, name):
    wrong = Views(views.rgb, mistaken(name, views.cameras))
    result = check_cameras(shipped, wrong, readings=tuple(BY_NAME[tried] for tried in TRIED))
    assert result.better()[0][0].name == name, str(result)
    assert f"if the cameras are read as: {name}. {BY_NAME[name].remedy}" in result.verdict()


def test_right_cameras_are_left_alone(shipped, views):
    told = []
    readings = (*(BY_NAME[name] for name in TRIED), BY_NAME["scene scale x 2"])
    result = check_cameras(shipped, views, readings=readings, progress=lambda *step: told.append(step))
    assert result.better() == [], str(result)
    assert result.verdict().startswith("The cameras fit the pictures. No other reading"), str(result)
    assert told == [(i + 1, 12) for i in range(12)]
    assert len(result.truth) == len(views) - 2 and torch.equal(result.truth.rgb, views.rgb[1:-1])
    assert result.psnr > result.baseline_scores()["mean colour"] + 3
    assert result.sheet().height > 2 * 64


def result(gains, base=20.0, baseline=15.0):
    """A check in which one other reading has these gains in dB at the hidden views."""
    gain = torch.tensor(gains)
    truth, scores = small.views(len(gains)), torch.stack([torch.full_like(gain, base), base + gain])
    flat = {"mean colour": torch.full_like(gain, baseline)}
    return CameraCheck(truth, truth.rgb, flat, scores, 4, 1.5, (BY_NAME["scene scale x 2"],))


def test_only_a_gain_beyond_chance_is_called_better():
    assert "set scene_scale of Encode Views to 2 times 1.5" in result([1.0, 1.2, 0.9, 1.1]).verdict()
    assert result([3.0, -2.0, 3.0, -1.0]).better() == [], "no more than chance"
    assert result([0.2, 0.2, 0.21, 0.2]).better() == [], "too little to matter"
    assert result([2.0]).better() == [], "one view tells nothing about chance"


def test_a_model_that_knows_no_such_pictures_can_tell_nothing():
    for base in (11.0, 15.5):
        verdict = result([0.1, -0.1], base=base).verdict()
        assert "hardly better than the mean colour" in verdict and "this check tells little" in verdict


def test_every_view_but_the_ends_is_hidden_once_and_never_beside_another():
    assert rounds_of_hiding(8, 2) == [[1, 3, 5], [2, 4, 6]]
    assert rounds_of_hiding(8, 3) == [[1, 4], [2, 5], [3, 6]]
    for total, rounds in ((3, 2), (8, 1), (8, 7)):
        with pytest.raises(ValueError, match="at least 4 views are needed"):
            rounds_of_hiding(total, rounds)
