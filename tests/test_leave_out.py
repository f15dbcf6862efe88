"""Baselines, and scoring a model on views that it was not shown."""

import pytest
import torch
from PIL import Image

from scenetok_core import SceneTok
from scenetok_core.baselines import mean_colour, nearest_view, thumbnail, view_distance
from scenetok_core.leave_out import leave_out
from scenetok_core.metrics import psnr
from scenetok_core.types import Views
from tests import small

COUNT, EVERY = 11, 3
INPUTS, BETWEEN = [0, 3, 6, 9], [1, 2, 4, 5, 7, 8]
MEAN = "posterior mean, 1 step"
LEAVE_OUT_SCORES = [
    MEAN,
    "sample, 3 steps",
    "nearest input view",
    "mean colour of the inputs",
    "8x8 thumbnail of the truth",
    "16x16 thumbnail of the truth",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SceneTok.load(small.checkpoint(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def result(model):
    return leave_out(model, small.views(COUNT), EVERY)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e3])
def test_the_nearest_view_does_not_depend_on_the_unit(unit):
    views = small.views(COUNT)
    c2w = views.cameras.c2w.clone()
    c2w[:, :3, 3] = c2w[:, :3, 3] * unit + 50 * unit
    views = Views(views.rgb, views.cameras.replace(c2w=c2w))
    inputs, targets = views[INPUTS], views[BETWEEN].cameras
    assert torch.equal(nearest_view(inputs, targets), views.rgb[[0, 3, 3, 6, 6, 9]])


def test_view_distance_adds_translation_in_extents_and_rotation():
    inputs, targets = small.views(2), small.cameras(3)[[1]]  # one unit apart, turned by 0.6; the target is halfway
    assert view_distance(inputs, targets)[0].tolist() == pytest.approx([0.25 + 0.09] * 2, abs=1e-4)
    assert view_distance(inputs, targets, radian_length=0.5)[0].tolist() == pytest.approx([1 + 0.09] * 2, abs=1e-4)
    turning = inputs.cameras.c2w.clone()
    turning[:, :3, 3] = 0
    still = Views(inputs.rgb, inputs.cameras.replace(c2w=turning))
    assert view_distance(still, targets)[0].tolist() == pytest.approx([0.09] * 2, abs=1e-4)


def test_mean_colour_and_thumbnails():
    views = small.views(3, size=(16, 24))
    flat = mean_colour(views, 2)
    assert flat.shape == (2, 3, 16, 24)
    assert torch.allclose(flat[1, :, 3, 5], views.rgb.transpose(0, 1).flatten(1).mean(1), atol=1e-6)
    small_again = thumbnail(views.rgb, 4)
    assert small_again.shape == views.rgb.shape
    assert torch.allclose(small_again.mean((2, 3)), views.rgb.mean((2, 3)), atol=0.02)
    assert small_again.var() < views.rgb.var() / 4
    ramp = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)
    assert (thumbnail(ramp, 8) - ramp).abs().max() < 0.05


def test_views_between_the_inputs_are_rendered(model, result):
    views = small.views(COUNT)
    assert torch.equal(result.inputs.rgb, views.rgb[INPUTS])
    assert torch.equal(result.truth.rgb, views.rgb[BETWEEN])
    scene = model.encode(views[INPUTS])
    mean, sample = result.renderings.values()
    for steps, pictures in ((1, mean), (model.config.sampling.steps, sample)):
        noise = torch.Generator().manual_seed(0)
        assert torch.equal(pictures, model.render(scene, views.cameras[BETWEEN], steps=steps, generator=noise))
    assert not torch.equal(mean, sample)


def test_views_are_encoded_in_the_scale_asked_for(model, result):
    views = small.views(COUNT)
    scaled = leave_out(model, views, EVERY, scale="none")
    scene = model.encode(views[INPUTS], scale="none")
    noise = torch.Generator().manual_seed(0)
    assert torch.equal(scaled.renderings[MEAN], model.render(scene, views.cameras[BETWEEN], steps=1, generator=noise))
    assert not torch.equal(scaled.renderings[MEAN], result.renderings[MEAN])


def test_scores_name_renderings_and_baselines(result):
    scores = result.scores()
    assert list(scores) == LEAVE_OUT_SCORES
    assert scores[MEAN] == pytest.approx(float(psnr(result.renderings[MEAN], result.truth.rgb).mean()))
    assert scores["16x16 thumbnail of the truth"] == pytest.approx(100), "the pictures are no larger than that"


def test_only_encoded_views_count_as_inputs(model):
    result = leave_out(model, small.views(13, size=(20, 30)), 2)
    assert (len(result.inputs), len(result.truth)) == (model.config.context_views, 6)
    assert result.inputs.rgb.shape[-2:] == result.truth.rgb.shape[-2:] == (small.IMAGE, small.IMAGE)


def test_the_sheet_shows_evenly_spread_pictures(model, result):
    assert isinstance(result.sheet(), Image.Image)
    many = leave_out(model, small.views(40), 20)
    assert many.sheet().width < 2.5 * result.sheet().width


@pytest.mark.parametrize(("every", "message"), [(1, "at least 2, or no view"), (11, "leaves no view between")])
def test_a_split_without_left_out_views_is_refused(model, every, message):
    with pytest.raises(ValueError, match=message):
        leave_out(model, small.views(COUNT), every)
