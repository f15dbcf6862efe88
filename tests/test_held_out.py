"""Scenes that are left out of training, and what sheets show of them."""

import pytest
import torch

from scenetok_core.configs import from_dict
from tests import small, videos
from tests.test_scenegen_task import run_config as generator_config
from tests.test_source import AUTOENCODER, SEED, run_config, source
from training.data.batch import Batch, Frames
from training.data.latents import scene_file
from training.data.loader import HELD_OUT_SEEDS
from training.data.source import VideoDataConfig, split_names
from training.prepare import PrepareConfig, prepare
from training.tasks import SceneGenTask, SceneTokTask, scenegen, scenetok

NAMES = [f"scene{i}" for i in range(50)]
SHEET_SEED = HELD_OUT_SEEDS - 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return videos.write_captures(tmp_path_factory.mktemp("held_out") / "data", 6)


def generator():
    return torch.Generator().manual_seed(0)


def test_the_choice_depends_on_the_names_alone():
    held_out, trained = split_names(NAMES, 5)
    assert len(held_out) == 5 and not set(held_out) & set(trained)
    assert trained == tuple(name for name in NAMES if name not in held_out), "in their order"
    assert split_names(NAMES[::-1], 5)[0] == held_out
    assert held_out != tuple(NAMES[:5]) and split_names(NAMES, 3)[0] == held_out[:3]
    others = [name for name in NAMES if name not in trained[:20]]
    assert split_names(others, 5)[0] == held_out, "other scenes come and go"
    assert split_names(NAMES, 0) == ((), tuple(NAMES))
    assert split_names(NAMES, 99)[1] == ()


def test_pictures_and_what_is_prepared_of_them_hold_out_the_same_scenes(tmp_path):
    root, out = tmp_path / "data", tmp_path / "latents"
    for number in range(6):
        videos.write_capture(root / f"{1 + number % 2}K" / f"scene{number}", number)
    prepare(PrepareConfig(root, out, AUTOENCODER, AUTOENCODER, image_size=videos.CROP))
    pictures, latents = source(root, held_out=3), source(out, "latents", mirror=0.0, held_out=3)
    assert pictures.held_out[0].startswith(("1K/", "2K/"))
    assert tuple(scene_file(out, name).name for name in pictures.held_out) == latents.held_out


def test_training_never_sees_held_out_scenes_and_sheets_see_no_others(data):
    opened = source(data, held_out=2)
    assert len(opened.trained) == 4
    trained = {name for seed in range(12) for name in opened.batch(SEED + seed, 4).names}
    assert trained == set(opened.trained)
    sheet = opened.batch(SHEET_SEED, 3)
    assert sheet.names == (*opened.held_out, opened.held_out[0]) and sheet.held_out
    assert not opened.batch(SEED, 1).held_out


def test_a_broken_held_out_scene_is_replaced_by_another(tmp_path):
    opened = source(videos.write_captures(tmp_path, 6), held_out=3)
    broken, *others = opened.held_out
    (tmp_path / broken / "transforms.json").write_text("{")
    names = source(tmp_path, held_out=3).batch(SHEET_SEED, 3).names
    assert set(names) == set(others)


def test_without_held_out_scenes_batches_are_what_they_were_and_sheets_tell(data):
    opened = source(data)
    assert opened.trained == tuple(opened.videos.names)
    batch = opened.batch(SHEET_SEED, 2).to("cpu")
    assert batch.title(1) == f"{batch.names[1]}\n(training scene)"
    assert source(data, held_out=2).batch(SHEET_SEED, 2).to("cpu").title(0) in NAMES


def test_a_scene_must_be_left_to_train_on(data):
    with pytest.raises(ValueError, match="held_out = 6 leaves none of the 6 scenes"):
        source(data, held_out=6)
    with pytest.raises(ValueError, match="held_out must be >= 0, got -1"):
        from_dict(VideoDataConfig, {"kind": "captures", "root": "data", "held_out": -1})


def sheet_rows(module, monkeypatch, draw):
    """The rows that `draw` puts on a sheet, by label."""
    rows = []
    original = module.contact_sheet
    monkeypatch.setattr(module, "contact_sheet", lambda given, **options: rows.extend(given) or original(given))
    draw()
    return dict(rows)


def test_a_sheet_names_training_scenes_and_sweeps_the_tokens(data, tmp_path, monkeypatch):
    task = SceneTokTask(run_config(data, tmp_path))
    batch = task.dataset(torch.device("cpu")).batch(SHEET_SEED, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build()
        torch.nn.init.normal_(model.denoiser.model.final_layer.linear.weight, std=0.1)
    rows = sheet_rows(scenetok, monkeypatch, lambda: task.sheet(model, batch, generator()))
    labels = list(rows)
    assert labels[0] == f"inputs\n{batch.names[0]}\n(training scene)"
    assert torch.allclose(rows[labels[0]], batch.context.content[0], atol=1e-6)
    sweep = next(label for label in labels if label.startswith("mean from 25 50 75 100 %\nof the tokens\n"))
    mean = next(label for label in labels if label.startswith("mean ") and "from" not in label)
    assert rows[sweep].shape == (4, 3, small.IMAGE, small.IMAGE)
    assert torch.equal(rows[sweep][-1], rows[mean][0])
    assert not torch.allclose(rows[sweep][0], rows[sweep][-1], atol=1e-3), "fewer tokens show something else"
    assert sweep.split()[-2] == mean.split()[1], "with all tokens, the mean's PSNR"


def test_a_generator_shows_its_view_beside_the_thumbnail(tmp_path, monkeypatch):
    task = SceneGenTask(generator_config(small.checkpoint(tmp_path)))
    batch = task.dataset(torch.device("cpu")).batch(0, 1)
    model = task.build()
    rows = sheet_rows(scenegen, monkeypatch, lambda: task.sheet(model, batch, generator()))
    label = next(iter(rows))
    assert label.startswith("view, as 8x8 pixels,\nof seeds 0 1\n") and label.endswith(" dB")
    view, thumbnail, first, second = rows[label]
    assert any(torch.allclose(view, frame, atol=1e-6) for frame in batch.rgb[0])
    means = [picture.unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4)) for picture in (view, thumbnail)]
    assert (means[0] - means[1]).abs().mean() < 0.1 * means[0].std() + 0.02
    assert not torch.equal(first, second)


def test_a_generator_decodes_only_the_scenes_it_shows(tmp_path, monkeypatch):
    task = SceneGenTask(generator_config(small.checkpoint(tmp_path)))
    batch, decoded = task.dataset(torch.device("cpu")).batch(0, 3), []
    monkeypatch.setattr(scenegen, "_SHEET_SCENES", 2)
    original = scenegen.pictures_of
    monkeypatch.setattr(
        scenegen, "pictures_of", lambda frames, *rest: decoded.append(len(frames.content)) or original(frames, *rest)
    )
    rows = sheet_rows(scenegen, monkeypatch, lambda: task.sheet(task.build(), batch, generator()))
    assert decoded == [2, 2] and sum(label.startswith("view,") for label in rows) == 2


def test_the_first_scenes_of_a_batch_are_a_batch(data):
    batch = source(data, held_out=2).batch(SHEET_SEED, 3)
    first = batch.first(2)
    assert first.names == batch.names[:2] and first.held_out and batch.first(9).names == batch.names
    assert first.reference is not None and len(first.reference) == 2
    for whole, part in ((batch.context, first.context), (batch.target, first.target)):
        assert torch.equal(part.content, whole.content[:2])
        assert torch.equal(part.cameras.c2w, whole.cameras.c2w[:2])


def test_a_room_has_no_title():
    rgb = torch.zeros(1, 1, 3, 4, 4)
    cameras = small.cameras(1)
    frames = Frames(cameras.replace(c2w=cameras.c2w[None], K=cameras.K[None]), rgb)
    assert Batch(frames, frames).title(0) == ""
