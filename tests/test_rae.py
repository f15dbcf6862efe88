"""The 3DRAE pipeline: what it promises of tokens, pictures, points and scenes, on a small random model."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from scenetok_core.camera import fit_views, to_scene_frame
from scenetok_core.configs import SceneTokConfig
from scenetok_core.pipeline import SceneTok
from scenetok_core.rae import Rae
from scenetok_core.subsets import first_tokens
from scenetok_core.types import Views
from scenetok_core.weights.checkpoints import load_scene, save_checkpoint, save_scene
from tests import small, small_latents

SAME = 2e-5
PIXELS = (64, 1024)  # pictures from 8 x 8 to 32 x 32


def make(dtype=torch.float32, **changes):
    return small_latents.random_rae(dtype, **{"pixels": PIXELS, **changes})


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def scene(model):
    return model.encode(small.views())


def moved(cameras, world, factor):
    """The same capture in another world frame and another unit."""
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] *= factor
    return cameras.replace(c2w=world @ c2w)


def world_pose():
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = small.cameras(3).c2w[2, :3, :3], torch.tensor([3.0, -2.0, 5.0])
    return pose


# ---- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 16, 128])
def test_any_number_of_views_makes_the_same_number_of_tokens(model, count):
    scene = model.encode(small.views(count, (8, 8)))
    assert scene.tokens.shape == (small_latents.TOKENS, small_latents.TOKEN_DIM)
    assert (scene.family, scene.model_hash, len(scene.cameras)) == ("3drae", "random", count)
    assert scene.tokens.dtype == torch.float32
    assert scene.tokens.mean(1).abs().max() < 1e-5, "normalised"


def test_every_view_counts(model):
    views = small.views(16, (8, 8))
    whole = model.encode(views, scale="none").tokens
    for view in range(16):
        rgb = views.rgb.clone()
        rgb[view] = 0
        assert (model.encode(Views(rgb, views.cameras), scale="none").tokens - whole).abs().max() > 1e-3


def test_the_order_of_the_views_does_not_matter(model):
    views = small.views(5)
    tokens = model.encode(views, reference=2).tokens
    again = model.encode(views[[2, 4, 0, 1, 3]], reference=0).tokens
    assert (tokens - again).abs().max() < SAME
    assert (tokens - model.encode(views, reference=0).tokens).abs().max() > 1e-3, "the frame is another one"


def test_the_reference_view_is_the_origin_and_the_farthest_camera_at_distance_one(model):
    views = small.views(4)
    for reference in (None, 0, 2):
        scene = model.encode(views, reference=reference)
        assert torch.equal(scene.reference_c2w, views.cameras.c2w[reference or 0])
        local = to_scene_frame(views.cameras, scene.reference_c2w, scene.scene_scale)
        assert float(local.centers.norm(dim=-1).max()) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="reference view must be between 0 and 3, got 4"):
        model.encode(views, reference=4)


def test_of_too_many_views_some_are_taken_and_named():
    model, views = make(context_views=3), small.views(8)
    scene = model.encode(views, scale="none", reference=5)
    used = scene.meta["views_used"]
    assert len(used) == len(scene.cameras) == 3 and 5 in used and scene.meta["views_given"] == 8
    again = model.encode(views[used], scale="none", reference=used.index(5))
    assert torch.equal(scene.tokens, again.tokens)


def test_cameras_without_pictures_count_by_their_poses(model):
    views, cameras = small.views(4), small.cameras(4)
    pose = cameras.c2w[0]
    seen = model.tokens_of(views[:2], cameras, pose, 1.0)
    assert (seen - model.tokens_of(views, cameras, pose, 1.0)).abs().max() > 1e-3
    assert (seen - model.tokens_of(views[:2], cameras[:2], pose, 1.0)).abs().max() > 1e-3
    c2w = cameras.c2w.clone()
    c2w[3, 0, 3] += 0.5
    assert (seen - model.tokens_of(views[:2], cameras.replace(c2w=c2w), pose, 1.0)).abs().max() > 1e-3


def test_no_view_at_all_makes_tokens_of_the_poses(model):
    near, far = small.cameras(3), moved(small.cameras(3), torch.eye(4), 2.0)
    one, other = (model.tokens_of(None, cameras, cameras.c2w[0], 1.0) for cameras in (near, far))
    assert one.shape == (1, small_latents.TOKENS, small_latents.TOKEN_DIM) and one.isfinite().all()
    assert (one - other).abs().max() > 1e-3


def test_tokens_are_normalised_by_the_stored_statistics():
    model, views = make(), small.views()
    plain = model.encode(views).tokens
    neck = model.networks.neck
    neck.mean.fill_(0.5)
    neck.std.fill_(4.0)
    assert torch.allclose(model.encode(views).tokens, (plain - 0.5) / 4, atol=1e-6)


def test_statistics_stay_exact_in_half_precision(tmp_path):
    """Rounded to bfloat16, a mean of many deviations moves tokens by a part of one."""
    path, state = tmp_path / "rae.safetensors", dict(make().networks.state_dict())
    state["neck.mean"], state["neck.std"] = torch.full((16,), 3.001), torch.full((16,), 0.01)
    save_checkpoint(path, state, small_latents.rae_config(pixels=PIXELS))
    half = Rae.load(path, dtype=torch.bfloat16)
    plain = make(torch.bfloat16).encode(small.views()).tokens
    assert half.networks.neck.latents.dtype == torch.bfloat16
    assert torch.allclose(half.encode(small.views()).tokens, (plain - 3.001) / 0.01, atol=1e-2)


class Means:
    """A 2-D encoder: the mean colour of each patch, thirty-two times as wide."""

    def __init__(self):
        self.network = nn.Linear(3, 32)

    def encode(self, rgb):
        patches = nn.functional.avg_pool2d(rgb, small_latents.PATCH).flatten(2).transpose(1, 2)
        return self.network(patches)

    def encode_bytes(self, pictures, patches):
        return 4 * pictures * patches * 32


def test_features_of_a_2d_encoder_stand_for_the_pictures():
    asked, views = [], small.views(3)

    def place(network, needed):
        asked.append(network)
        return torch.device("cpu")

    encoder = Means()
    model = make(image_encoder=encoder)
    model.place = place
    scene = model.encode(views)
    assert asked == [encoder.network, model.networks.neck] == [model.modules[-1], model.modules[0]]
    shuffled = views.rgb.unflatten(-1, (-1, small_latents.PATCH)).flip(-1).flatten(-2)  # the means stay
    assert torch.allclose(model.encode(Views(shuffled, views.cameras)).tokens, scene.tokens, atol=SAME)
    assert (model.encode(Views(1 - views.rgb, views.cameras)).tokens - scene.tokens).abs().max() > 1e-3


# ---- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("views_per_pass", [1, 2, 5, 1000])
def test_frames_do_not_depend_on_how_many_are_decoded_together(model, scene, views_per_pass):
    path = small.cameras(18)
    frames = model.render(scene, path)
    assert frames.shape == (18, 3, small.IMAGE, small.IMAGE) and frames.dtype == torch.float32
    assert (model.render(scene, path, views_per_pass=views_per_pass) - frames).abs().max() < SAME
    points = model.point_maps(scene, path, views_per_pass=views_per_pass)
    assert torch.allclose(points.points, model.point_maps(scene, path).points, atol=1e-4)


def influence(model):
    """How much the last of three pictures changes when the other two are looked at from elsewhere."""
    scene, path = model.encode(small.views()), small.cameras(3)
    c2w = path.c2w.clone()
    c2w[:2, :3, 3] += 3
    return float((model.render(scene, path)[2] - model.render(scene, path.replace(c2w=c2w))[2]).abs().max())


def test_a_picture_does_not_depend_on_which_others_are_asked_for(model, scene):
    path = small.cameras(6)
    frames = model.render(scene, path)
    alone = torch.cat([model.render(scene, path[[i]]) for i in range(6)])
    assert (frames - alone).abs().max() < SAME
    assert influence(model) == 0


def test_with_global_attention_it_does(model):
    assert influence(make(view_attention="global")) > 1e-3


def test_another_unit_and_world_frame_change_no_picture_and_move_points_along(model):
    views, path = small.views(), small.cameras(5)
    scene = model.encode(views)
    frames, points = model.render(scene, path), model.point_maps(scene, path)
    for factor in (0.01, 1.0, 250.0):
        world = world_pose()
        other = model.encode(Views(views.rgb, moved(views.cameras, world, factor)))
        path_there = moved(path, world, factor)
        assert (model.render(other, path_there) - frames).abs().max() < 1e-4
        there = model.point_maps(other, path_there)
        want = torch.einsum("ij,tjhw->tihw", world[:3, :3], factor * points.points) + world[:3, 3, None, None]
        assert (there.points - want).abs().max() < 1e-3 * factor * float(points.points.abs().max())
        assert torch.allclose(there.confidence, points.confidence, rtol=1e-3)
        assert torch.allclose(there.depth, factor * points.depth, atol=1e-3 * factor * float(points.depth.abs().max()))


@pytest.mark.parametrize(("size", "seen"), [((16, 24), (16, 24)), ((24, 8), (24, 8)), ((17, 31), (16, 28)),
                                            ((200, 300), (24, 36)), ((4, 4), (8, 8))])  # fmt: skip
def test_any_size_and_proportions(model, scene, size, seen):
    views = small.views(3, size)
    encoded = model.encode(views)
    assert encoded.tokens.shape == scene.tokens.shape and encoded.meta["seen_at"] == list(seen)
    assert torch.equal(encoded.tokens, model.encode(fit_views(views, seen)).tokens)
    assert model.render(scene, small.cameras(2, size)).shape == (2, 3, *seen)
    assert model.render(encoded, small.cameras(1)).shape[-2:] == (small.IMAGE, small.IMAGE)
    maps = model.point_maps(scene, small.cameras(2, size))
    assert maps.points.shape == (2, 3, *seen) and maps.confidence.shape == (2, *seen)
    assert maps.cameras.size == seen


def test_cameras_that_know_no_size_get_the_largest_square(model, scene):
    cameras = small.cameras(2).replace(size=None)
    assert model.render(scene, cameras).shape[-2:] == (32, 32) == (model.config.image_size,) * 2


# ---- points --------------------------------------------------------------------------------------


def test_models_without_points_say_so(scene):
    model = make(points=None)
    with pytest.raises(ValueError, match=r"trained without point maps.*load a 3DRAE with points"):
        model.point_maps(model.encode(small.views()), small.cameras(1))
    assert not hasattr(model.networks, "points")


# ---- scenes, models, callers ---------------------------------------------------------------------


def test_nothing_of_the_caller_changes(model):
    views, path = small.views(), small.cameras(3)
    kept = [x.clone() for x in (views.rgb, views.cameras.c2w, views.cameras.K, path.c2w, path.K)]
    state = torch.get_rng_state()
    scene = model.encode(views)
    tokens = scene.tokens.clone()
    first = model.render(scene, path), model.point_maps(scene, path).points
    assert torch.equal(torch.get_rng_state(), state)
    after = (views.rgb, views.cameras.c2w, views.cameras.K, path.c2w, path.K)
    assert all(torch.equal(a, b) for a, b in zip(kept, after, strict=True)) and torch.equal(scene.tokens, tokens)
    assert torch.equal(model.encode(views).tokens, tokens), "encoding is deterministic"
    assert torch.equal(model.render(scene, path), first[0])


def test_half_precision_is_close_and_poses_stay_exact(model, scene):
    half, path = make(torch.bfloat16), small.cameras(3)
    assert next(half.networks.parameters()).dtype == torch.bfloat16
    tokens = half.encode(small.views())
    assert tokens.tokens.dtype == torch.float32 and (tokens.tokens - scene.tokens).abs().mean() < 0.05
    frames = half.render(scene.replace(model_hash=half.hash), path)
    assert frames.dtype == torch.float32 and (frames - model.render(scene, path)).abs().mean() < 0.02
    assert half.point_maps(tokens, path).points.isfinite().all()
    far = moved(path, torch.eye(4), 1.001)
    assert not torch.equal(half.render(tokens, far), half.render(tokens, path)), "a thousandth is not rounded away"


def test_a_scene_survives_its_file(model, scene, tmp_path):
    path = tmp_path / "scene.safetensors"
    save_scene(path, scene, torch.float32)
    again = load_scene(path)
    assert (again.family, again.meta["seen_at"]) == ("3drae", [small.IMAGE, small.IMAGE])
    assert torch.equal(model.render(again, small.cameras(2)), model.render(scene, small.cameras(2)))


def test_some_of_the_tokens_are_no_scene(model, scene):
    fewer = scene.replace(mask=first_tokens(scene, 3))
    for method in (model.render, model.point_maps):
        with pytest.raises(ValueError, match=r"3 of 6 .*learnt and ordered"):
            method(fewer, small.cameras(1))


def test_a_checkpoint_round_trip(tmp_path, scene):
    path = small_latents.rae_checkpoint(tmp_path)
    loaded = Rae.load(path, dtype=torch.float32)
    assert loaded.config == small_latents.rae_config()
    assert torch.equal(loaded.encode(small.views()).tokens, scene.tokens), "the same seed, the same weights"
    assert Rae.load(small_latents.rae_checkpoint(tmp_path, "other.safetensors", seed=1)).hash != loaded.hash
    state = loaded.networks.state_dict()
    for name in ("neck.latents", "neck.mean", "points.head.out2.2.weight"):
        save_checkpoint(path, {k: v for k, v in state.items() if k != name}, loaded.config)
        with pytest.raises(ValueError, match=f"missing.*{name}"):
            Rae.load(path)
    save_checkpoint(path, {**state, "neck.surplus": torch.zeros(1)}, loaded.config)
    with pytest.raises(ValueError, match=r"unexpected.*neck\.surplus"):
        Rae.load(path)


def test_a_checkpoint_of_the_other_family_is_refused(tmp_path):
    other = small.checkpoint(tmp_path)
    with pytest.raises(ValueError, match="is a SceneTok model, not a 3DRAE model"):
        Rae.load(other)
    with pytest.raises(ValueError, match="is a 3DRAE model, not a SceneTok model"):
        SceneTok.load(small_latents.rae_checkpoint(tmp_path))
    assert SceneTokConfig.family != small_latents.rae_config().family


def test_impossible_sizes_are_told():
    for wrong in ({"hidden": 30, "heads": 4}, {"pixels": (10, 1024)}, {"pixels": (2000, 1024)}, {"ray_octaves": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            small_latents.rae_config(**wrong)


def test_settings_of_another_family_are_taken_and_views_per_pass_is_checked(model, scene):
    path = small.cameras(2)
    assert torch.equal(model.render(scene, path, steps=1, generator=torch.Generator()), model.render(scene, path))
    with pytest.raises(ValueError, match=r"views_per_pass must be 0 .* got -1"):
        model.render(scene, path, views_per_pass=-1)


def test_progress_shows_finished_frames_and_may_cancel(model, scene):
    seen = []
    frames = model.render(scene, small.cameras(20), views_per_pass=8, progress=lambda *given: seen.append(given))
    assert [(done, total) for done, total, _ in seen] == [(8, 20), (16, 20), (20, 20)]
    assert torch.equal(seen[-1][2](), frames[[0, 2, 5, 7, 10, 12, 14, 17, 19]])

    def cancel(*_):
        raise InterruptedError

    for method in (model.render, model.point_maps):
        with pytest.raises(InterruptedError):
            method(scene, small.cameras(3), progress=cancel)


# ---- memory that runs out ------------------------------------------------------------------------


class Card:
    """A decoder on a device where so many views fit."""

    def __init__(self, most, errors=100):
        self.most, self.errors, self.told, self.asked = most, errors, [], []

    def hook(self, decoder, given):
        self.asked.append(given[0].shape[1])
        if self.asked[-1] > self.most and self.errors:
            self.errors -= 1
            raise torch.cuda.OutOfMemoryError("tried to allocate too much")

    def on(self, model, decoder):
        model.exhaustion = replace(model.exhaustion, relieve=self.told.append)
        decoder.register_forward_pre_hook(self.hook)
        return self


@pytest.mark.parametrize("part", ["decoder", "points"])
def test_when_memory_runs_out_half_of_the_views_give_the_same_frames(part):
    model, path = make(), small.cameras(11)
    scene = model.encode(small.views())
    method = {"decoder": lambda: model.render(scene, path), "points": lambda: model.point_maps(scene, path).points}[
        part
    ]
    whole = method()
    card = Card(6).on(model, getattr(model.networks, part))
    assert torch.allclose(method(), whole, atol=1e-4)
    assert card.asked == [11, 5, 5, 1]
    assert card.told == ["out of memory while decoding 11 views at once; going on with 5"]


def test_a_second_time_is_an_error_that_says_what_to_do():
    model = make()
    scene, card = model.encode(small.views()), Card(2).on(model, model.networks.decoder)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"decoding, .*views_per_pass.*dtype bf16"):
        model.render(scene, small.cameras(8))
    assert card.asked == [8, 4] and len(card.told) == 1


def test_what_is_finished_before_memory_runs_out_stays():
    model, path = make(), small.cameras(12)
    scene = model.encode(small.views())
    whole, done = model.render(scene, path), []
    card = Card(4).on(model, model.networks.decoder)

    def shrink(count, total, preview):
        done.append(count)
        card.most = 3

    frames = model.render(scene, path, views_per_pass=4, progress=shrink)
    assert card.asked == [4, 4, 2, 2, 2, 2] and done == [4, 6, 8, 10, 12]
    assert torch.allclose(frames, whole, atol=SAME)
