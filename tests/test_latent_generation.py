"""No, one or several views and a path in, latent tokens of a 3DRAE out: what a user of `LatentGenerator` relies on."""

import pytest
import torch

from scenetok_core.latent_generation import LatentGenerator
from scenetok_core.models.dit3d import Dit3d
from scenetok_core.rae import Rae
from scenetok_core.types import Views
from scenetok_core.weights.checkpoints import load_scene, save_scene
from tests import small, small_latents
from tests.small_latents import COND_VIEWS, TOKEN_DIM, TOKENS

FRAMES = 7


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_latents.rae(tmp_path_factory.mktemp("rae"))


@pytest.fixture(scope="module")
def drawer(tmp_path_factory):
    return small_latents.dit3d(tmp_path_factory.mktemp("dit3d"))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_drawn_tokens_are_rendered_and_saved_like_encoded_ones(drawer, model, tmp_path, count):
    path, views = small.cameras(FRAMES), small.views(count) if count else None
    scene = drawer.generate(views, path, model)
    assert scene.tokens.shape == (TOKENS, TOKEN_DIM)
    assert (scene.family, scene.preset, scene.model_hash) == ("3drae", "small-rae", model.hash)
    assert len(scene.cameras) == (count or COND_VIEWS)
    assert torch.equal(scene.reference_c2w, (path if views is None else views.cameras).c2w[0])
    save_scene(tmp_path / "scene.safetensors", scene)
    assert model.render(load_scene(tmp_path / "scene.safetensors"), path).shape == (FRAMES, 3, 16, 16)


def test_a_seed_is_a_scene(drawer, model):
    path, views = small.cameras(FRAMES), small.views(2)
    first, again, other = (drawer.generate(views, path, model, generator=seeded(s)).tokens for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_prepared_scene_is_drawn_as_a_whole_one(drawer, model):
    path, views = small.cameras(FRAMES), small.views(2)
    prepared = drawer.prepare(views, path, model)
    whole = drawer.generate(views, path, model, steps=2, generator=seeded(1))
    assert torch.equal(drawer.draw(prepared, steps=2, generator=seeded(1)).tokens, whole.tokens)


def test_guidance_is_away_from_the_same_cameras_without_pictures(drawer, model):
    path, views = small.cameras(FRAMES), small.views(2)
    prepared = drawer.prepare(views, path, model)
    blank = drawer.prepare(Views(torch.rand_like(views.rgb), views.cameras), path, model)
    assert torch.equal(prepared.unconditional, blank.unconditional)
    assert not torch.equal(prepared.condition, blank.condition)
    noise = torch.randn((1, TOKENS, TOKEN_DIM), generator=seeded(0))
    one = torch.ones(1)
    network = drawer.networks.generator
    with torch.no_grad():
        toward, away = (network(noise, one, part) for part in (prepared.condition, prepared.unconditional))
    expected = noise - (away + 3.0 * (toward - away))  # one step from t = 1 to 0
    drawn = drawer.draw(prepared, steps=1, guidance=3.0, generator=seeded(0)).tokens
    torch.testing.assert_close(drawn, expected[0], rtol=1e-4, atol=1e-5)


def test_without_a_view_guidance_changes_nothing(drawer, model):
    path = small.cameras(FRAMES)
    one, three = (drawer.generate(None, path, model, guidance=g).tokens for g in (1.0, 3.0))
    assert torch.equal(one, three)


def test_units_and_world_frame_of_the_capture_do_not_matter(drawer, model):
    path, views = small.cameras(FRAMES), small.views(2)
    turn = torch.tensor([[0.0, 0, 1, 5], [0, 1, 0, -2], [-1, 0, 0, 3], [0, 0, 0, 1]])

    def moved(cameras):
        c2w = cameras.c2w.clone()
        c2w[:, :3, 3] *= 40
        return cameras.replace(c2w=turn @ c2w)

    far = drawer.generate(Views(views.rgb, moved(views.cameras)), moved(path), model)
    near = drawer.generate(views, path, model)
    torch.testing.assert_close(far.tokens, near.tokens, rtol=1e-3, atol=1e-3)
    assert far.scene_scale == pytest.approx(near.scene_scale / 40, rel=1e-4)


def test_the_condition_may_stand_along_the_tokens(tmp_path, model):
    along = small_latents.dit3d(tmp_path, condition="tokens")
    scene = along.generate(small.views(1), small.cameras(FRAMES), model)
    assert scene.tokens.shape == (TOKENS, TOKEN_DIM)
    twice = Dit3d(small_latents.dit3d_config(condition="tokens"))
    assert twice.positions.shape[1] == 2 * TOKENS and twice.x_embedder.in_features == TOKEN_DIM


def test_a_network_that_predicts_clean_tokens_gives_them_in_one_step(tmp_path, model):
    clean = small_latents.dit3d(tmp_path, prediction="x")
    prepared = clean.prepare(small.views(2), small.cameras(FRAMES), model)
    noise = torch.randn((1, TOKENS, TOKEN_DIM), generator=seeded(0))
    with torch.no_grad():
        expected = clean.networks.generator(noise, torch.ones(1), prepared.condition)[0]
    drawn = clean.draw(prepared, steps=1, guidance=1.0, generator=seeded(0)).tokens
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-5)


def test_progress_shows_tokens_and_may_cancel(drawer, model):
    seen = []

    def cancel(done, total, preview):
        seen.append((done, total, preview().shape))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawer.generate(None, small.cameras(FRAMES), model, progress=cancel)
    assert [(done, total) for done, total, _ in seen] == [(1, 3), (2, 3)]


def test_bad_input_is_refused_before_any_work(drawer, model, tmp_path):
    path, views = small.cameras(FRAMES), small.views(2)
    with pytest.raises(ValueError, match=r"takes 0 to 4 views .* got 5"):
        drawer.generate(small.views(COND_VIEWS), path, model)
    other = small_latents.rae(tmp_path, name="other")
    with pytest.raises(ValueError, match=r"draws tokens of model 'small-rae', not of 'other'; load 'small-rae'"):
        drawer.generate(views, path, other)
    more = small_latents.rae(tmp_path, tokens=TOKENS + 2)
    with pytest.raises(ValueError, match=r"draws 6 tokens of 16 numbers, 'small-rae' has 8"):
        drawer.generate(views, path, more)
    bound = small_latents.dit3d_checkpoint(tmp_path, "bound.safetensors", {"scene_model_hash": "0" * 16})
    with pytest.raises(ValueError, match="draws tokens of 'small-rae' with weights 0000000000000000"):
        LatentGenerator.load(bound).generate(views, path, model)
    with pytest.raises(ValueError, match="steps"):
        drawer.generate(views, path, model, steps=0)


def test_each_loader_refuses_the_other_family(tmp_path):
    generator, scene = small_latents.dit3d_checkpoint(tmp_path), small_latents.rae_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="is a 3DDiT generator, not a 3DRAE model"):
        Rae.load(generator)
    with pytest.raises(ValueError, match="is a 3DRAE model, not a 3DDiT generator"):
        LatentGenerator.load(scene)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_views_and_path_may_be_on_different_devices(drawer, model):
    views, path = small.views()[[0]], small.cameras(3)
    expected = drawer.prepare(views, path, model)
    for given, along in ((views.to("cuda"), path), (views, path.to("cuda"))):
        assert torch.equal(drawer.prepare(given, along, model).condition, expected.condition)
