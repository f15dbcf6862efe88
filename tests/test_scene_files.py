"""Scenes as files: title, notes and thumbnail, the report, versions, and files that change while a scene is in use."""

import json

import pytest
import torch
from safetensors.torch import save_file

from scenetok_core import SceneTokens, load_scene, save_scene
from scenetok_core.pictures.sheets import save_image
from scenetok_core.scene_info import annotate, describe, read_thumbnail, report
from scenetok_core.weights.checkpoints import load_checkpoint, read_tensors
from tests import small


def scene(**changes):
    generator = torch.Generator().manual_seed(0)
    values = {
        "tokens": torch.randn(16, 8, generator=generator).bfloat16().float(),
        "reference_c2w": torch.eye(4),
        "scene_scale": 2.0,
        "cameras": small.cameras(size=(30, 40)),
        "preset": "small",
        "model_hash": "0123456789abcdef",
    }
    return SceneTokens(**{**values, **changes})


def red_and_blue(height=300, width=600):
    picture = torch.zeros(3, height, width)
    picture[0, :, : width // 2] = picture[2, :, width // 2 :] = 1
    return picture


def test_title_notes_and_thumbnail_come_back_from_the_file(tmp_path):
    made = annotate(scene(), title=" Hall ", notes="two\nlines, caf\u00e9", picture=red_and_blue())
    save_scene(tmp_path / "hall.safetensors", made)
    back = load_scene(tmp_path / "hall.safetensors")
    assert (back.meta["title"], back.meta["notes"]) == ("Hall", "two\nlines, caf\u00e9")
    picture = read_thumbnail(back)
    assert picture is not None
    assert picture.shape == (3, 128, 256)
    assert picture[0, :, :120].mean() > 0.9 > 0.1 > picture[0, :, 136:].mean()
    assert torch.equal(back.tokens, made.tokens)


def test_what_is_left_empty_stays_and_the_given_scene_is_not_touched():
    first = annotate(scene(), title="Hall", notes="old", picture=red_and_blue())
    second = annotate(first, notes="new")
    assert (first.meta["notes"], second.meta["title"], second.meta["notes"]) == ("old", "Hall", "new")
    assert second.meta["thumbnail"] == first.meta["thumbnail"]
    assert "title" not in scene().meta


def test_equal_scenes_give_equal_files(tmp_path):
    for name in ("a", "b"):
        save_scene(tmp_path / name, annotate(scene(), title="Hall", picture=red_and_blue()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_report_tells_model_tokens_cameras_scale_and_source():
    mask = torch.arange(16) < 4
    meta = {"views_given": 9, "views_used": [0, 2, 5, 8]}
    text = report(annotate(scene(mask=mask, meta=meta), title="Hall", notes="by the door"))
    assert text.splitlines() == [
        "Hall",
        "model: small (scenetok, weights 0123456789abcdef)",
        "tokens: 16 x 8 numbers, 0.25 KiB; 4 in use",
        "cameras: 4 of 40 x 30 pixels, up to 1 units of the capture apart",
        "field of view: 58.1 x 45.2 degrees, horizontal x vertical",
        "scale: 2 model units per unit of the capture",
        "source: encoded from 4 of 9 views (numbers 0, 2, 5, 8)",
        "notes: by the door",
    ]


def test_a_drawn_scene_names_its_generator():
    drawn = scene(meta={"generator": "gen", "generator_hash": "ff"}, cameras=small.cameras(1))
    assert describe(drawn)["source"] == "drawn by gen (ff) from 1 view(s)"


def test_the_description_is_json_without_the_picture():
    told = json.loads(json.dumps(describe(annotate(scene(), picture=red_and_blue()))))
    assert told["thumbnail"] == [128, 256]
    assert told["meta"] == {}
    assert told["fov_degrees"]["horizontal"] == [58.11, 58.11]
    assert len(json.dumps(told)) < 1000


@pytest.mark.parametrize("stored", ["no base64!", "aGVsbG8=", 7, ""])
def test_a_broken_thumbnail_does_not_spoil_the_scene(stored):
    assert read_thumbnail(scene(meta={"thumbnail": stored})) is None


def test_pictures_of_other_kinds_are_not_decoded(tmp_path):
    """A PNG of few bytes may unpack to gigabytes."""
    import base64

    save_image(tmp_path / "x.png", red_and_blue(8, 8))
    stored = base64.b64encode((tmp_path / "x.png").read_bytes()).decode()
    assert read_thumbnail(scene(meta={"thumbnail": stored})) is None


def first_version(path, scene_format="scenetok-scene-1", **changes):
    """A file as version 0.1.0 wrote it: no notes, no mask."""
    plain = {
        "version": 1, "family": "scenetok", "preset": "small", "model_hash": "0123", "scene_scale": 1.5,
        "meta": {"views_given": 2, "views_used": [0, 1]},
        "cameras": {"version": 1, "size": [30, 40], "names": [], "unit": "relative"},
    }  # fmt: skip
    cameras = small.cameras(2)
    tensors = {
        "tokens": torch.ones(4, 8, dtype=torch.bfloat16),
        "reference_c2w": torch.eye(4),
        "cameras.c2w": cameras.c2w,
        "cameras.K": cameras.K,
    }
    save_file(tensors, path, {"format": scene_format, "scene": json.dumps({**plain, **changes})})
    return path


def test_a_file_of_the_first_version_loads(tmp_path):
    old = load_scene(first_version(tmp_path / "old.safetensors"))
    assert (old.scene_scale, len(old.cameras), old.tokens.sum()) == (1.5, 2, 32)
    assert "source: encoded from 2 of 2 views" in report(old)


def test_notes_of_a_later_version_are_kept(tmp_path):
    later = load_scene(first_version(tmp_path / "x.safetensors", meta={"weather": "rain"}, mood="calm"))
    save_scene(tmp_path / "again.safetensors", later)
    assert load_scene(tmp_path / "again.safetensors").meta == {"weather": "rain"}


@pytest.mark.parametrize("changes", [{"scene_format": "scenetok-scene-2"}, {"version": 2}], ids=["file", "values"])
def test_a_newer_file_asks_for_an_update_of_the_pack(tmp_path, changes):
    path = first_version(tmp_path / "new.safetensors", **changes)
    with pytest.raises(ValueError, match=r"new\.safetensors.*update the pack$"):
        load_scene(path)


def test_a_newer_checkpoint_asks_for_an_update_of_the_pack(tmp_path):
    path = small.checkpoint(tmp_path)
    tensors, metadata = read_tensors(path)
    save_file(tensors, tmp_path / "new.safetensors", {**metadata, "format": "scenetok-checkpoint-2"})
    with pytest.raises(ValueError, match=r"newer version of this pack.*update the pack$"):
        load_checkpoint(tmp_path / "new.safetensors")


def test_a_loaded_scene_does_not_hang_on_its_file(tmp_path):
    """Mapped tensors would change with the file, and Windows would not let anybody replace it."""
    path = tmp_path / "x.safetensors"
    save_scene(path, scene(), torch.float32)
    loaded = load_scene(path)
    with path.open("r+b") as file:  # as an upload that overwrites
        size = path.stat().st_size
        file.write(bytes(size))
    assert torch.equal(loaded.tokens, scene().tokens)
    assert torch.equal(loaded.cameras.c2w, scene().cameras.c2w)
