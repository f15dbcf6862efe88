"""The spread of samples, and its colours."""

import pytest
import torch

from scenetok_core import SceneTok
from scenetok_core.uncertainty import as_mask, heat_map, render_uncertainty
from tests import small

VIEWS, SAMPLES, SEED = 3, 3, 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SceneTok.load(small.checkpoint(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def scene(model):
    return model.encode(small.views(VIEWS))


def test_mean_and_spread_are_those_of_the_samples(model, scene):
    cameras = small.views(VIEWS).cameras
    mean, spread = render_uncertainty(model, scene, cameras, SAMPLES, steps=2, seed=SEED)
    each = torch.stack(
        [
            model.render(scene, cameras, steps=2, generator=torch.Generator().manual_seed(SEED + i))
            for i in range(SAMPLES)
        ]
    )
    torch.testing.assert_close(mean, each.mean(0))
    torch.testing.assert_close(spread, each.var(0).mean(1).sqrt(), atol=1e-5, rtol=1e-4)
    assert spread.max() > 1e-3


def test_progress_counts_all_samples(model, scene):
    seen = []
    cameras = small.views(VIEWS).cameras
    render_uncertainty(
        model, scene, cameras, 2, steps=2, progress=lambda done, total, preview: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_one_sample_has_no_spread(model, scene):
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        render_uncertainty(model, scene, small.views(VIEWS).cameras, 1)


def test_the_heat_map_grows_brighter_and_clips():
    colours = heat_map(torch.linspace(0, 1, 50)[None])
    assert colours.shape == (3, 1, 50)
    assert (colours.sum(0).diff() > 0).all()
    assert torch.equal(heat_map(torch.tensor([[-1.0, 2.0]])), heat_map(torch.tensor([[0.0, 1.0]])))


def test_a_mask_is_white_from_the_given_spread_on():
    assert as_mask(torch.tensor([0.0, 0.05, 0.2, 0.4]), 0.2).tolist() == pytest.approx([0, 0.25, 1, 1])
