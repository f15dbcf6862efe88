"""Training a 3DRAE: its losses, masks, noise and frames; from rooms to a checkpoint that renders."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scenetok_core.camera import crop_intrinsics, ray_map, to_scene_frame
from scenetok_core.rae import Rae
from scenetok_core.types import Cameras
from tests import rae_runs, small
from tests.fitting import assert_losses_reach_every_weight, fit, fresh
from tests.rae_runs import CONTEXT, IMAGE, SCENES, TARGETS, generator
from training.state import list_states, load_state
from training.tasks import RaeTask, build_task
from training.tasks.point_loss import point_loss, points_of_depth
from training.tasks.rae import nearest_pixels, resized
from training.trainer import Trainer

STEPS = 30


@pytest.fixture(scope="module")
def task():
    return RaeTask(rae_runs.run())


@pytest.fixture(scope="module")
def rooms(task):
    return task.dataset(torch.device("cpu")).batch(7, SCENES)


@pytest.fixture(scope="module")
def batch(task, rooms):
    return task.choose(rooms, generator(), far=True, context=CONTEXT)


def test_one_batch_is_overfitted_in_pictures_and_points(batch):
    task = RaeTask(rae_runs.run({"token_noise": 0.0, "mask_probability": 0.0}))
    before, first = task.loss(fresh(task), batch, generator(), 0.0)
    model, _ = fit(task, batch, STEPS)
    after, last = task.loss(model, batch, generator(), 0.0)
    assert after.mean() < 0.6 * before.detach().mean()
    assert last["psnr"] > first["psnr"] + 1
    assert first["error_points"] == 1 and last["error_points"] < 0.8, "fresh points lie at the origin, and move"


def test_losses_reach_every_weight_and_depend_on_the_generator_alone(rooms):
    # few inputs would give two examples of a scene
    assert_losses_reach_every_weight(RaeTask(rae_runs.run({"least_context": CONTEXT, "mask_share": [0.6, 0.6]})), rooms)


def test_few_inputs_give_several_examples_of_a_scene(task, rooms):
    chosen = task.choose(rooms, generator(), far=True, context=1)
    assert chosen.context.cameras.c2w.shape[:2] == (CONTEXT * SCENES, 1)


def test_a_share_of_the_scenes_has_invisible_views(task):
    seen = task.draw_visible((4000, 10), generator())
    hidden = (~seen).sum(1)
    assert float((hidden > 0).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert set(hidden[hidden > 0].tolist()) == {6, 7, 8}  # floor(10 * [0.6, 0.9])
    assert float((~seen)[hidden > 0].float().mean(0).std()) < 0.05, "some views are hidden more often"
    everything = RaeTask(rae_runs.run({"mask_probability": 1.0, "mask_share": [1.0, 1.0]}))
    assert (everything.draw_visible((50, 4), generator()).sum(1) == 1).all()


def test_noise_has_a_strength_of_its_own_in_every_scene(task):
    strengths = task._noise(3000, generator()).flatten(1).std(1)
    assert float(strengths.mean()) == pytest.approx(0.8 * math.sqrt(2 / math.pi), rel=0.1)
    assert float(strengths.square().mean()) == pytest.approx(0.8**2, rel=0.15)
    late = RaeTask(rae_runs.run({"noise_from": 0.5, "mask_probability": 0.0}))
    given = []
    model = fresh(late)
    model.register_forward_pre_hook(lambda module, inputs: given.append(inputs[4]))
    rooms = late.dataset(torch.device("cpu")).batch(7, SCENES)
    for progress in (0.4, 0.5):
        late.loss(model, rooms, generator(), progress)
    assert given[0] is None and given[1].std() > 0


def test_sizes_lie_within_the_range():
    task = RaeTask(rae_runs.run(network=rae_runs.model(pixels=(400, 1200))))
    sizes = [task.draw_size((1, 1), generator(seed)) for seed in range(300)]
    assert all(h % 4 == w % 4 == 0 and h * w <= 1200 for h, w in sizes)
    aspects = torch.tensor([w / h for h, w in sizes])
    assert 0.5 < aspects.min() < 0.85 and 1.5 < aspects.max() < 2.2
    assert len(set(sizes)) > 20


def test_the_first_view_is_the_origin_and_the_farthest_is_at_one(task, batch):
    example = task.frame(batch, (IMAGE, IMAGE), generator())
    directions, moments = example.rays[:, 0].split(3, 1)
    assert moments.abs().max() < 1e-5, "rays of the first view pass through the origin"
    middle = directions[..., IMAGE // 2 - 1 : IMAGE // 2 + 1, IMAGE // 2 - 1 : IMAGE // 2 + 1].mean((-1, -2))
    assert (middle[:, 2] > 0.9).all(), "it looks along z"
    d, m = example.rays.split(3, 2)
    nearest = torch.linalg.cross(d, m, dim=2) / d.square().sum(2, keepdim=True)  # of each ray to the origin
    assert 0.3 < nearest.norm(dim=2).amax() <= 1 + 1e-4
    other = RaeTask(rae_runs.run({"reference": "random"})).frame(batch, (IMAGE, IMAGE), generator())
    assert (other.rays[:, :, 3:].abs().amax((2, 3, 4)) < 1e-5).sum(1).tolist() == [1] * SCENES


def test_points_lie_on_the_rays_at_the_given_depth(task, batch):
    target = batch.target
    points, known = points_of_depth(target.depth, target.cameras)
    assert known.all()
    w2c = torch.linalg.inv(target.cameras.c2w)
    local = torch.einsum("btij,btjhw->btihw", w2c[..., :3, :3], points) + w2c[..., :3, 3, None, None]
    torch.testing.assert_close(local[:, :, 2], target.depth, atol=1e-4, rtol=1e-4)
    seen = torch.einsum("btij,btjhw->btihw", target.cameras.K, local / local[:, :, 2:])
    at = (torch.arange(IMAGE) + 0.5) / IMAGE
    torch.testing.assert_close(seen[:, :, 0], at.expand_as(seen[:, :, 0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[:, :, 1], at[:, None].expand_as(seen[:, :, 1]), atol=1e-4, rtol=0)
    origins, directions = ray_map(target.cameras.c2w, target.cameras.K, (IMAGE, IMAGE))
    assert torch.linalg.cross(points - origins, directions, dim=2).abs().max() < 1e-3
    depth = target.depth.clone()
    depth[0, 0, 0, 0], depth[0, 0, 0, 1], depth[0, 0, 0, 2] = 0, math.inf, 1e4
    assert points_of_depth(depth, target.cameras)[1].logical_not().nonzero()[:, 3].tolist() == [0, 1, 2]


def test_points_of_a_scene_do_not_depend_on_the_cameras_that_see_it(task, batch):
    example = task.frame(batch, (IMAGE, IMAGE), generator())
    world, _ = points_of_depth(batch.target.depth, batch.target.cameras)
    first = batch.context.cameras.c2w[:, 0]
    far = (batch.context.cameras.centers - first[:, None, :3, 3]).norm(dim=-1).amax(1)
    local = torch.einsum("bji,btjhw->btihw", first[:, :3, :3], world - first[:, None, :3, 3, None, None])
    torch.testing.assert_close(example.points, local / far[:, None, None, None, None], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("distance", [1.0, 3.0])
def test_the_point_loss_is_what_it_is_by_hand(distance):
    truth = torch.zeros(1, 1, 3, 1, 8)
    truth[:, :, 2] = distance  # of which all lengths are a part
    points = truth.clone()
    points[0, 0, 1, 0] = distance * torch.arange(8.0)  # errors 0 to 7, gradients 1, 2 and 4 at the three scales
    confidence, known = torch.full((1, 1, 1, 8), 2.0), torch.ones(1, 1, 1, 8, dtype=torch.bool)
    expected = 2 * 3.5 - 0.3 * math.log(2) + 2 * (1 + 2 + 4) / 3
    assert float(point_loss(points, confidence, truth, known, 0.3)) == pytest.approx(expected)
    known[..., 4:] = False
    truth[..., 4:] = 100  # unknown, so it changes nothing
    expected = 2 * 1.5 - 0.3 * math.log(2) + 2 * (1 + 2 + 0) / 3
    assert float(point_loss(points, confidence, truth, known, 0.3)) == pytest.approx(expected)
    assert float(point_loss(points, confidence, truth, ~known & known, 0.3)) == 0


@pytest.mark.parametrize("size", [(8, 12), (12, 8), (5, 9), (16, 16), (30, 20)])
def test_depth_is_taken_where_the_cropped_camera_looks(size):
    source, K = (12, 16), small.cameras(1, (12, 16)).K[0]
    columns = torch.arange(16.0).expand(12, 16)
    new = crop_intrinsics(K, source, size)
    for axis, values in ((0, columns), (1, torch.arange(12.0)[:, None].expand(12, 16))):
        found = nearest_pixels(values, size)
        sides = (size[1], size[0])[axis], (source[1], source[0])[axis]
        along = ((torch.arange(sides[0]) + 0.5) / sides[0] - new[axis, 2]) / new[axis, axis]
        seen = (along * K[axis, axis] + K[axis, 2]) * sides[1]  # where these rays pierce the source
        line = found[0] if axis == 0 else found[:, 0]
        assert ((line + 0.5 - seen).abs() <= 0.5 + 1e-4).all()
    assert torch.equal(nearest_pixels(columns, source), columns)


def test_resized_frames_keep_pictures_cameras_and_depth_together(batch):
    frames = resized(batch.target, (8, 12))
    assert frames.rgb is not None and frames.depth is not None
    assert frames.rgb.shape[-2:] == frames.depth.shape[-2:] == (8, 12) and frames.cameras.size == (8, 12)
    assert resized(batch.target, (IMAGE, IMAGE)) is batch.target
    assert torch.isin(frames.depth, batch.target.depth).all(), "depth is mixed"


def test_a_run_ends_in_a_checkpoint_that_renders_and_goes_on_exactly(tmp_path):
    config = rae_runs.run(output=tmp_path, save_every=2, sheet_every=4)
    trainer = Trainer(config, build_task(config))
    trainer.train()
    states = list_states(config.run.folder / "states")
    assert list((config.run.folder / "sheets").iterdir())
    model = Rae.load(config.run.folder / "model.safetensors")
    pictures = model.render(model.encode(small.views(3)), small.cameras(2))
    assert pictures.shape == (2, 3, IMAGE, IMAGE) and pictures.isfinite().all()
    resumed = Trainer(config, build_task(config))
    load_state(states[0], resumed.trained, resumed.fingerprint)
    for state in states[1:]:
        state.unlink()
    resumed.train()
    again = resumed.trained.tensors()
    assert [k for k, value in trainer.trained.tensors().items() if not torch.equal(value, again[k])] == []
    more = replace(config, run=replace(config.run, name="more", init=str(config.run.folder / "model.safetensors")))
    started = Trainer(more, build_task(more)).trained.model.state_dict()
    assert torch.equal(started["decoder.to_rgb.weight"], model.networks.decoder.to_rgb.weight)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"mask_share": [0.9, 0.6]}, r"task\.mask_share must rise within \[0, 1\]"),
        ({"aspects": [0.0, 1.0]}, r"task\.aspects must rise from above 0"),
        ({"token_noise": -1.0}, r"task\.token_noise must be >= 0"),
        ({"picture_weight": 0.0, "points_weight": 0.0}, "nothing to learn"),
        ({"picture_weight": 0.0, "perceptual_weight": 1.0}, r"task\.perceptual_weight is a loss of pictures"),
        ({"adversary_from_disc": 0.6}, r"must not come after adversary_from 0\.5"),
        ({"adversary_from": 1.5}, r"task\.adversary_from must lie in \[0, 1\]"),
        ({"tokens_per_batch": 0}, r"task\.tokens_per_batch must be >= 1, got 0"),
        ({"tokens_per_batch": 100}, r"task\.tokens_per_batch is for data\.kind 'videos'"),
        ({"least_targets": 1}, r"task\.least_targets needs task\.tokens_per_batch"),
        ({"perceptual": "vgg"}, r"task\.perceptual must be one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(task, message):
    with pytest.raises(ValueError, match=message):
        rae_runs.run(task)


def test_rooms_must_have_as_many_pictures_as_a_batch_may_want():
    with pytest.raises(ValueError, match=r"data\.rooms\.views 4 and strays 3 are too few for 4 inputs and 4 targets"):
        rae_runs.run(data={"context_views": 4, "target_views": 4})
    with pytest.raises(ValueError, match=r"task\.least_context 9 is more than data\.context_views 3"):
        rae_runs.run({"least_context": 9})


def test_an_adversary_excludes_a_frozen_last_layer():
    config = rae_runs.run({"adversary_weight": 0.75})
    for parts in (("generator.decoder",), ("generator.decoder.to_rgb.weight",), ("",)):
        with pytest.raises(ValueError, match=r"optim\.freeze .* holds the layer that makes pictures"):
            replace(config, optim=replace(config.optim, freeze=parts))
    replace(config, optim=replace(config.optim, freeze=("generator.neck",)))
    replace(config, optim=replace(config.optim, freeze=("generator.decoder",)), task=rae_runs.run().task)


def test_an_adversary_excludes_a_fused_model():
    with pytest.raises(ValueError, match=r"run\.compile_model excludes task\.adversary_weight"):
        rae_runs.run({"adversary_weight": 0.75}, compile_model=True)


def test_settings_of_the_data_that_do_not_fit_are_refused(tmp_path):
    rae_runs.mixed(tmp_path)
    depth = {"depth": {"root": "depth"}}
    with pytest.raises(ValueError, match=r"depth holds values 'inverse', known up to a factor and an offset"):
        rae_runs.mixed(tmp_path, data=depth)
    rae_runs.mixed(tmp_path, {"points_weight": 0.0}, data=depth)
    with pytest.raises(ValueError, match=r"'latents' holds no pictures"):
        rae_runs.mixed(tmp_path, data={"kind": "latents"})
    views = {"context_views": 4, "target_groups": 4, "target_windows": 1}
    rae_runs.mixed(tmp_path, targets=4, data={"views": views})
    with pytest.raises(ValueError, match=r"target_windows must be 1 or target_groups 4, got 2"):
        rae_runs.mixed(tmp_path, targets=4, data={"views": views | {"target_windows": 2}})
    with pytest.raises(ValueError, match=r"task\.least_context 5 and least_targets 1 must not be more than"):
        rae_runs.mixed(tmp_path, {"least_context": 5})


def test_scene_frames_agree_with_those_of_inference(task, batch):
    example = task.frame(batch, (IMAGE, IMAGE), generator())
    model = fresh(task)
    rae = Rae(task.config.model, model, None, "")
    tokens = model.neck(model.neck.embed_pictures(example.rgb), example.rays, torch.ones_like(example.visible))
    for i in range(SCENES):
        cameras = batch.context.cameras
        views = small.Views(batch.context.rgb[i], Cameras(cameras.c2w[i], cameras.K[i], (IMAGE, IMAGE)))
        scene = rae.encode(views)
        torch.testing.assert_close(scene.tokens, tokens[i].detach(), atol=1e-4, rtol=0)
        path = Cameras(batch.target.cameras.c2w[i], batch.target.cameras.K[i], (IMAGE, IMAGE))
        local = to_scene_frame(path, scene.reference_c2w, scene.scene_scale)
        assert local.centers.shape == (TARGETS, 3)
