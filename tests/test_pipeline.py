"""Views in, tokens, frames out: what a user of `SceneTok` relies on."""

import dataclasses
import os

import pytest
import torch

from scenetok_core import SceneTok
from scenetok_core.autoencoders import PatchAutoencoder
from scenetok_core.autoencoders.videodc import Tiling
from scenetok_core.configs import SamplingConfig
from scenetok_core.models.networks import Networks
from scenetok_core.placement import free_memory
from scenetok_core.sampling import make_schedule
from scenetok_core.types import Views
from tests import small, staged
from tests.test_autoencoders import small as small_autoencoder

SAME = 1e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SceneTok.load(small.checkpoint(tmp_path_factory.mktemp("model")))


def scaled(cameras, factor):
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] *= factor
    return cameras.replace(c2w=c2w)


def around(context, target, config):
    """A model with random weights around two autoencoders."""
    networks = Networks(config)
    networks.load_state_dict(small.state(config))
    return SceneTok(config, networks, context, target, "hash")


def test_shapes_and_ranges(model):
    scene = model.encode(small.views())
    frames = model.render(scene, small.cameras(7))
    assert scene.tokens.shape == (small.TOKENS, small.TOKEN_DIM)
    assert frames.shape == (7, 3, small.IMAGE, small.IMAGE)
    assert frames.dtype == torch.float32 and frames.min() >= 0 and frames.max() <= 1
    assert (scene.preset, scene.model_hash) == ("small", model.hash)


@pytest.mark.parametrize("unit", [0.01, 100.0])
def test_the_unit_of_the_capture_does_not_matter(model, unit):
    views, path = small.views(), small.cameras(5)
    want = model.render(model.encode(views), path)
    scene = model.encode(Views(views.rgb, scaled(views.cameras, unit)))
    assert (model.render(scene, scaled(path, unit)) - want).abs().max() < 1e-3
    unscaled = model.encode(Views(views.rgb, scaled(views.cameras, unit)), scale="none")
    assert (model.render(unscaled, scaled(path, unit)) - want).abs().max() > 1e-3


def test_the_world_frame_of_the_capture_does_not_matter(model):
    views, path = small.views(), small.cameras(5)
    turn = small.cameras(9).c2w[-1]
    want = model.render(model.encode(views), path)
    moved = Views(views.rgb, views.cameras.replace(c2w=turn @ views.cameras.c2w))
    got = model.render(model.encode(moved), path.replace(c2w=turn @ path.c2w))
    assert (got - want).abs().max() < 1e-3


def test_same_seed_same_frames_and_global_state_untouched(model):
    state = torch.random.get_rng_state()
    scene = model.encode(small.views(), sample=True, generator=torch.Generator().manual_seed(1))
    frames = [model.render(scene, small.cameras(5), generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_tokens_may_be_drawn_from_their_posterior(model):
    def tokens(**options):
        return model.encode(small.views(), **options).tokens

    def drawn(seed):
        return tokens(sample=True, generator=torch.Generator().manual_seed(seed))

    mean = tokens()
    assert torch.equal(drawn(1), drawn(1)) and not torch.allclose(drawn(1), drawn(2), atol=1e-3)
    assert torch.equal(tokens(generator=torch.Generator().manual_seed(1)), mean)
    many = torch.stack([drawn(seed) for seed in range(64)])
    assert (many.mean(0) - mean).abs().mean() < 0.5 * (many - mean).abs().mean()


def test_the_latents_of_the_views_are_drawn_too():
    """The tokens have no posterior here, so what changes are the latents."""
    autoencoder = small_autoencoder("va-vae")
    channels, side = autoencoder.spec.channels, small.IMAGE // autoencoder.spec.spatial
    compressor = dataclasses.replace(
        small.config().compressor, latent_channels=channels, ray_map=2 * side, ray_patch=2, posterior="normalised"
    )
    config = small.config(compressor=compressor, context_autoencoder="va-vae")
    model = around(autoencoder, PatchAutoencoder(small.PATCH), config)
    mean, drawn, again = (model.encode(small.views(), sample=sample).tokens for sample in (False, True, True))
    assert torch.equal(drawn, again) and not torch.allclose(mean, drawn, atol=1e-3)


@pytest.mark.parametrize("frames", [1, 5, 6, 8])
def test_a_path_that_ends_inside_a_group_is_rendered_on_and_cut(frames):
    autoencoder = small_autoencoder("videodcae")
    spec = autoencoder.spec
    side = small.IMAGE // spec.spatial
    decoder = dataclasses.replace(
        small.config().decoder,
        latent_channels=spec.channels,
        ray_map=2 * side,
        ray_patch=2,
        frames_per_latent=spec.frames_per_latent,
    )
    config = small.config(decoder=decoder, target_autoencoder="videodcae")
    model = around(PatchAutoencoder(small.PATCH), autoencoder, config)
    scene, path = model.encode(small.views()), small.cameras(8)[:frames]
    rendered = model.render(scene, path)
    assert spec.group_frames == 4 and rendered.shape == (frames, 3, small.IMAGE, small.IMAGE)
    whole = -(-frames // 4) * 4
    on = model.render(scene, path[[min(i, frames - 1) for i in range(whole)]])
    assert len(on) == whole and torch.equal(rendered, on[:frames])


def test_inputs_are_not_changed(model):
    views = small.views(size=(20, 30))
    rgb, c2w, K = views.rgb.clone(), views.cameras.c2w.clone(), views.cameras.K.clone()
    model.render(model.encode(views), views.cameras)
    assert torch.equal(views.rgb, rgb)
    assert torch.equal(views.cameras.c2w, c2w)
    assert torch.equal(views.cameras.K, K)


def test_more_views_than_the_model_takes_are_thinned(model):
    scene = model.encode(small.views(9))
    assert len(scene.cameras) == model.config.context_views
    assert scene.meta["views_given"] == 9
    chosen = model.encode(small.views(9), reference=8)
    assert torch.equal(chosen.reference_c2w, small.cameras(9).c2w[8])


def test_one_view_works(model):
    scene = model.encode(small.views(1))
    assert scene.scene_scale == 1.0
    assert model.render(scene, small.cameras(2)).shape[0] == 2


def test_reference_out_of_range_is_refused(model):
    with pytest.raises(ValueError, match="between 0 and 3, got 4"):
        model.encode(small.views(), reference=4)


def test_masked_tokens_are_not_used(model):
    scene = model.encode(small.views())
    mask = torch.arange(small.TOKENS) < 3
    masked = model.render(scene.replace(mask=mask), small.cameras(3))
    cut = model.render(scene.replace(tokens=scene.tokens[:3]), small.cameras(3))
    assert torch.allclose(masked, cut, atol=SAME)
    assert not torch.allclose(masked, model.render(scene, small.cameras(3)), atol=SAME)


def test_tokens_of_another_model_are_refused(model, tmp_path):
    other = SceneTok.load(small.checkpoint(tmp_path, name="other"))
    other.hash = "feedfeedfeedfeed"
    with pytest.raises(ValueError, match=r"made by model 'other' \(feedfeedfeedfeed\), not by 'small'"):
        model.render(other.encode(small.views()), small.cameras(2))


@pytest.mark.parametrize(
    ("temporal_tiles", "room", "one_piece"),
    [("on", 2**40, False), ("off", 0, True), ("auto", 2**40, True), ("auto", 0, False)],
)
def test_a_long_video_is_decoded_in_one_piece_where_that_is_asked_for_or_fits(temporal_tiles, room, one_piece):
    tiled = small_autoencoder("videodcae", tiling=Tiling(frames=16))
    model = staged.model()
    model.target_autoencoder, model.room = tiled, lambda network: room if network is tiled.network else 0
    scene, path = model.encode(small.views()), small.cameras(32)
    frames = model.render(scene, path, steps=1, temporal_tiles=temporal_tiles)
    model.target_autoencoder = tiled.seamless
    whole = model.render(scene, path, steps=1, temporal_tiles="on")
    assert torch.equal(frames, whole) == one_piece


def test_free_memory_is_some_of_what_the_machine_has():
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        pytest.skip("this system does not tell how much memory is free")
    assert 2**20 < free_memory(torch.nn.Linear(1, 1)) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_progress_counts_steps_and_shows_frames(model):
    seen = []
    model.render(
        model.encode(small.views()),
        small.cameras(7),
        progress=lambda done, total, preview: seen.append((done, total, preview())),
    )
    assert [done for done, _, _ in seen] == list(range(1, seen[0][1] + 1))
    assert seen[-1][2].shape == (7, 3, small.IMAGE, small.IMAGE)


def test_a_preview_shows_at_most_nine_frames_of_whole_groups():
    shapes, model = [], staged.model()

    def note(done, total, preview):
        shapes.append(preview().shape)

    model.render(model.encode(small.views()), small.cameras(32), steps=1, progress=note)
    assert set(shapes) == {(8, 3, small.IMAGE, small.IMAGE)}  # two groups of four


def test_progress_cancels_within_a_step(model):
    calls = []

    def cancel(done, total, preview):
        calls.append(done)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        model.render(model.encode(small.views()), small.cameras(7), progress=cancel)
    assert calls == [1]


def test_guidance_changes_frames_and_one_turns_it_off(model):
    scene, path = model.encode(small.views()), small.cameras(3)
    plain = model.render(scene, path)
    assert torch.equal(plain, model.render(scene, path, guidance=1.0))
    assert not torch.allclose(plain, model.render(scene, path, guidance=3.0), atol=SAME)


def test_bfloat16_weights_stay_close(model, tmp_path):
    reduced = SceneTok.load(small.checkpoint(tmp_path), dtype=torch.bfloat16)
    a = model.render(model.encode(small.views()), small.cameras(3), steps=1)
    b = reduced.render(reduced.encode(small.views()), small.cameras(3), steps=1)
    assert (a - b).abs().mean() < 0.02


def test_sizes_that_do_not_fit_together_are_refused_when_loading(tmp_path):
    with pytest.raises(ValueError, match=r"image_size 32 does not fit the compressor: .* 16 pixels"):
        SceneTok.load(small.checkpoint(tmp_path, image_size=32))


def test_the_cameras_of_a_scene_know_their_picture_size(model):
    views = small.views(size=(20, 30))
    unsized = Views(views.rgb, views.cameras.replace(size=None))
    assert model.encode(unsized).cameras.size == (20, 30)


def test_the_slant_of_a_pyramid_schedule_is_a_setting_of_the_model(tmp_path):
    sampling = SamplingConfig(steps=4, window=5, clean_targets=2, schedule="pyramid", uncertainty=3)
    model = SceneTok.load(small.checkpoint(tmp_path, sampling=sampling))
    settings = {"horizon": 9, "window": 5, "clean_targets": 2}
    for steps in (4, 1):  # one step gives the posterior mean, whatever the model's uncertainty
        want = make_schedule("pyramid", **settings, steps=steps, uncertainty=min(3, steps))
        assert torch.equal(model.schedule(9, steps=steps).sigma, want.sigma)
    other = make_schedule("pyramid", **settings, steps=4).sigma
    assert not torch.equal(model.schedule(9).sigma[: len(other)], other[: len(model.schedule(9).sigma)])


def test_the_solver_is_a_setting_of_the_model_and_of_a_call(tmp_path):
    sampling = dataclasses.replace(small.config().sampling, solver="ab2")
    second = SceneTok.load(small.checkpoint(tmp_path, "second.safetensors", sampling=sampling))
    first = SceneTok.load(small.checkpoint(tmp_path))
    scene, path = first.encode(small.views()), small.cameras(5)
    euler = first.render(scene, path)
    assert torch.equal(first.render(scene, path, solver="euler"), euler)
    assert torch.equal(second.render(scene, path, solver="euler"), euler)
    assert not torch.equal(second.render(scene, path), euler)
    assert torch.equal(first.render(scene, path, solver="ab2"), second.render(scene, path))
    with pytest.raises(ValueError, match="unknown solver 'heun'"):
        first.render(scene, path, solver="heun")
