"""One to three views and a path in, scene tokens out: what a user of `SceneGenerator` relies on."""

import dataclasses

import pytest
import torch

from scenetok_core import SceneGenerator, SceneTok
from scenetok_core.camera import plucker_features, relative_poses
from scenetok_core.generation import parse_values
from scenetok_core.models.scenegen import sample_tokens
from scenetok_core.sampling import make_schedule
from scenetok_core.types import Views
from scenetok_core.weights.checkpoints import load_scene, save_scene
from tests import small

STEPS, ANCHORS, EXTENT = 3, 4, 1.4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generation")
    small.generator_checkpoint(folder)
    small.checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def generator(folder):
    return SceneGenerator.load(folder / "generator.safetensors")


@pytest.fixture(scope="module")
def model(folder):
    return SceneTok.load(folder / "small.safetensors")


def moved(cameras, factor, pose):
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] *= factor
    return cameras.replace(c2w=pose @ c2w)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_generated_tokens_are_rendered_and_saved_like_encoded_ones(generator, model, tmp_path, count):
    path = small.cameras(7)
    scene = generator.generate(small.views(count), path, model)
    assert scene.tokens.shape == (small.TOKENS, small.TOKEN_DIM)
    assert (scene.preset, scene.model_hash, len(scene.cameras)) == ("small", model.hash, count)
    assert scene.meta == {"generator": "small-generator", "generator_hash": generator.hash}
    save_scene(tmp_path / "scene.safetensors", scene)
    frames = model.render(load_scene(tmp_path / "scene.safetensors"), path)
    assert frames.shape == (7, 3, small.IMAGE, small.IMAGE)


def test_the_first_view_is_the_origin_and_anchors_are_spread_over_the_path(generator, model):
    views, path = small.views(2), small.cameras(10)
    scene = generator.generate(views, path, model, scale=0.5)
    assert torch.equal(scene.reference_c2w, views.cameras.c2w[0]) and scene.scene_scale == 0.5
    network, size = generator.networks.scene_generator, (8, 8)

    def rays(cameras):
        c2w = relative_poses(cameras.c2w, views.cameras.c2w[0])
        c2w[:, :3, 3] *= 0.5
        return plucker_features(c2w, cameras.K, size)[None]

    latents = generator.context_autoencoder.encode(views.rgb[None])
    conditioning = network.condition(latents, rays(views.cameras), rays(path[[0, 3, 6, 9]]))
    schedule = make_schedule("full_sequence", horizon=1, steps=STEPS, window=1, clean_targets=0, shift=4.0)
    noise = torch.randn(1, small.TOKENS, small.TOKEN_DIM, generator=torch.Generator().manual_seed(0))
    want = sample_tokens(network, conditioning, noise, schedule, guidance=3.0)
    assert torch.allclose(scene.tokens, want[0], atol=1e-4)


@pytest.mark.parametrize("unit", [0.01, 100.0])
def test_unit_and_frame_of_the_world_do_not_matter(generator, model, unit):
    views, path, pose = small.views(1), small.cameras(5), small.cameras(9).c2w[-1]
    want = generator.generate(views, path, model)
    got = generator.generate(Views(views.rgb, moved(views.cameras, unit, pose)), moved(path, unit, pose), model)
    assert torch.allclose(got.tokens, want.tokens, atol=1e-2)
    assert got.scene_scale * unit == pytest.approx(want.scene_scale, rel=1e-4)


def test_seeds_and_knobs_decide_the_scene(generator, model):
    views, path, state = small.views(1), small.cameras(5), torch.random.get_rng_state()

    def tokens(seed=3, **options):
        return generator.generate(views, path, model, generator=torch.Generator().manual_seed(seed), **options).tokens

    plain = tokens()
    assert torch.equal(plain, tokens()) and torch.equal(torch.random.get_rng_state(), state)
    for other in (tokens(4), tokens(steps=2), tokens(guidance=1.0), tokens(shift=1.0)):
        assert not torch.allclose(plain, other, atol=1e-3)


def test_scenes_of_other_settings_need_the_pictures_only_once(generator, model):
    views, path = small.views(2), small.cameras(5)
    embedded = []
    hook = generator.networks.scene_generator.pose_embed.register_forward_hook(lambda *call: embedded.append(call))
    prepared = generator.prepare(views, path, model, scale=0.7)
    settings = [{"shift": 1.0}, {"shift": 4.0, "guidance": 2.0}, {"steps": 2, "solver": "ab2"}]
    drawn = [generator.draw(prepared, **chosen, generator=torch.Generator().manual_seed(5)) for chosen in settings]
    assert len(embedded) == 1
    hook.remove()
    for scene, chosen in zip(drawn, settings, strict=True):
        seed = torch.Generator().manual_seed(5)
        want = generator.generate(views, path, model, scale=0.7, generator=seed, **chosen)
        assert torch.equal(scene.tokens, want.tokens) and scene.scene_scale == want.scene_scale == 0.7
        assert torch.equal(scene.reference_c2w, want.reference_c2w) and scene.meta == want.meta


def test_values_are_read_from_text():
    assert parse_values(" 1, 2.5,4 ,", "shift", 100) == [1.0, 2.5, 4.0]
    for text, message in [
        ("1, two", "values of shift are given like 1, 2.5, 4; got 'two'"),
        ("1 2", "got '1 2'"),
        (" , ", "give at least one value of shift"),
        ("1, 0", "above 0 and at most 100, got '0'"),
        ("101", "above 0 and at most 100, got '101'"),
        ("nan", "above 0 and at most 100, got 'nan'"),
        ("-inf", "above 0 and at most 100, got '-inf'"),
    ]:
        with pytest.raises(ValueError, match=message):
            parse_values(text, "shift", 100)


def test_progress_counts_steps_and_may_cancel(generator, model):
    reports = []
    scene = generator.generate(
        small.views(1), small.cameras(5), model, progress=lambda done, total, clean: reports.append((done, clean))
    )
    assert [done for done, _ in reports] == [1, 2, 3]
    assert torch.allclose(reports[-1][1]()[0], scene.tokens, atol=1e-4)

    def cancel(*_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        generator.generate(small.views(1), small.cameras(5), model, progress=cancel)


def test_what_does_not_fit_is_refused(generator, model, folder):
    path = small.cameras(5)
    with pytest.raises(ValueError, match="takes 1 to 3 views, got 4; choose some"):
        generator.generate(small.views(4), path, model)
    small.checkpoint(folder, "other.safetensors", name="other")
    with pytest.raises(ValueError, match="draws tokens of model 'small', not of 'other'; load 'small'"):
        generator.generate(small.views(1), path, SceneTok.load(folder / "other.safetensors"))
    other = dataclasses.replace(generator, scene_model_hash="older")
    with pytest.raises(ValueError, match=f"'small' with weights older, not with {model.hash}"):
        other.generate(small.views(1), path, model)
    with pytest.raises(ValueError, match="is a SceneTok model, not a scene generator"):
        SceneGenerator.load(folder / "small.safetensors")
    with pytest.raises(ValueError, match="is a scene generator, not a SceneTok model"):
        SceneTok.load(folder / "generator.safetensors")
    with pytest.raises(ValueError, match="at least one latent and one step"):
        generator.generate(small.views(1), path, model, steps=0)


def test_the_solver_can_be_chosen(generator, model):
    views, path = small.views(1), small.cameras(5)
    default, euler, second = (generator.generate(views, path, model, solver=name) for name in (None, "euler", "ab2"))
    assert torch.equal(default.tokens, euler.tokens) and not torch.equal(default.tokens, second.tokens)
