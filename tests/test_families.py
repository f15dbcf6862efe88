"""SceneTok and 3DRAE behind one interface: opened by what the file holds, and used by the same functions."""

import json

import numpy as np
import pytest
import torch

from scenetok_core import Rae, SceneTok, open_generator, open_model
from scenetok_core.cli import main
from scenetok_core.depth import DepthHead
from scenetok_core.generation import SceneGenerator
from scenetok_core.latent_generation import LatentGenerator
from scenetok_core.leave_out import leave_out
from scenetok_core.pictures.video import read_video_frames
from scenetok_core.point_depth import PointDepth
from scenetok_core.points.geometry import measure_depth
from scenetok_core.scene_info import describe, report
from scenetok_core.subsets import keep_tokens, sweep
from scenetok_core.uncertainty import render_uncertainty
from scenetok_core.views.camera_check import READINGS, check_cameras
from scenetok_core.weights.checkpoints import load_scene
from tests import small, small_latents
from tests.served import write_capture

WIDE = (12, 20)  # height, width
COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small models of both families, generators for them, and a capture of wide pictures."""
    folder = tmp_path_factory.mktemp("families")
    small.checkpoint(folder)
    small.generator_checkpoint(folder)
    small_latents.rae_checkpoint(folder)
    small_latents.dit3d_checkpoint(folder)
    write_capture(folder / "wide", COUNT, size=WIDE)
    return folder


@pytest.fixture(scope="module")
def rae(folder):
    return open_model(folder / "small-rae.safetensors")


@pytest.fixture(scope="module")
def scenetok(folder):
    return open_model(folder / "small.safetensors")


@pytest.fixture(scope="module")
def scene(rae):
    return rae.encode(small.views(4, WIDE))


def test_a_file_is_opened_as_what_it_holds(folder, rae, scenetok):
    assert isinstance(rae, Rae) and isinstance(scenetok, SceneTok)
    assert isinstance(open_generator(folder / "generator.safetensors"), SceneGenerator)
    assert isinstance(open_generator(folder / "small-dit3d.safetensors"), LatentGenerator)
    with pytest.raises(ValueError, match="is a 3DDiT generator, not a SceneTok model"):
        open_model(folder / "small-dit3d.safetensors")
    with pytest.raises(ValueError, match="is a 3DRAE model, not a scene generator"):
        open_generator(folder / "small-rae.safetensors")
    with pytest.raises(ValueError, match="no such file"):
        open_model(folder / "nothing.safetensors")


def test_tokens_of_one_family_in_a_model_of_the_other(rae, scenetok, scene):
    path = small.cameras(2)
    with pytest.raises(ValueError, match=r"family '3drae' \(model 'small-rae'\), and 'small' is .* 'scenetok'; load"):
        scenetok.render(scene, path)
    with pytest.raises(ValueError, match=r"family 'scenetok' \(model 'small'\), and 'small-rae' is .* family '3drae'"):
        rae.render(scenetok.encode(small.views()), path)


def test_generators_draw_for_their_own_family(folder, rae, scenetok):
    views, path = small.views(2), small.cameras(5)
    with pytest.raises(ValueError, match=r"of family 'scenetok' \(model 'small'\), and 'small-rae' is a model of"):
        open_generator(folder / "generator.safetensors").generate(views, path, rae)
    with pytest.raises(ValueError, match=r"of family '3drae' \(model 'small-rae'\), and 'small' is a model of"):
        open_generator(folder / "small-dit3d.safetensors").generate(views, path, scenetok)
    with pytest.raises(ValueError, match="1 to 3 views and got none; connect pictures"):
        open_generator(folder / "generator.safetensors").generate(None, path, scenetok)


def test_a_scene_drawn_from_no_view_says_so(folder, rae):
    drawer, path = open_generator(folder / "small-dit3d.safetensors"), small.cameras(5)
    alone, beside = (drawer.generate(views, path, rae) for views in (None, small.views(3)))
    assert str(describe(alone)["source"]).endswith("from cameras alone")
    assert "from 3 view(s)" in report(beside) and "(3drae, weights" in report(beside)


@pytest.mark.parametrize("size", [(16, 16), WIDE])
def test_hidden_views_are_scored_once_where_pictures_are_no_samples(rae, size):
    views = small.views(7, size)
    result = leave_out(rae, views, 2)
    assert list(result.renderings) == ["rendered"] and "rendered" in result.scores()
    assert result.renderings["rendered"].shape[-2:] == result.truth.rgb.shape[-2:] == rae.picture_size(size)
    again = rae.render(rae.encode(views[[0, 2, 4, 6]]), views.cameras[[1, 3, 5]])
    torch.testing.assert_close(result.renderings["rendered"], again)
    assert result.sheet().width > 4 * size[1]


def test_cameras_are_checked_with_either_family(rae):
    result = check_cameras(rae, small.views(5, WIDE), readings=READINGS[:2])
    assert result.rendered.shape == (3, 3, *WIDE) and result.scores.shape == (3, 3)
    assert "PSNR of 3 hidden views" in str(result)


@pytest.mark.parametrize("size", [(12, 20), (480, 640), (1080, 1920), (3024, 4032), (640, 480), (64, 64), (500, 1000)])
def test_what_was_brought_to_the_size_of_a_model_stays_there(rae, size):
    fitted = rae.picture_size(size)
    assert rae.picture_size(fitted) == fitted


def test_what_needs_samples_or_a_set_is_refused_with_the_reason(rae, scene):
    with pytest.raises(ValueError, match=r"'small-rae' \(3drae\) renders the same picture from any noise"):
        render_uncertainty(rae, scene, small.cameras(2))
    with pytest.raises(ValueError, match=r"learnt latents in a fixed order, .* none can be left out"):
        keep_tokens(scene, torch.ones(len(scene.tokens), dtype=torch.bool))
    with pytest.raises(ValueError, match="only SceneTok's tokens are a set"):
        sweep(scene, [2, 4])


def test_point_maps_are_depth_with_a_learnt_confidence(rae, scene):
    path = small.cameras(3, WIDE)
    posed, maps = measure_depth(PointDepth.of(rae), scene, path), rae.point_maps(scene, path)
    assert posed.depth.shape == posed.confidence.shape == (3, *WIDE)
    c2w = path.c2w[:, :, :, None, None]
    along = ((maps.points - c2w[:, :3, 3]) * c2w[:, :3, 2]).sum(1)
    torch.testing.assert_close(posed.depth, along)
    torch.testing.assert_close(posed.confidence, 1 - 1 / maps.confidence)
    assert posed.confidence.min() >= 0 and posed.confidence.max() <= 1
    assert torch.equal(posed.known, along > 0)
    other = measure_depth(PointDepth.of(rae), scene, path, samples=4, steps=2, seed=9)
    assert torch.equal(other.depth, posed.depth), "there is no noise"


def test_models_without_point_maps_say_what_to_do(tmp_path, scenetok, rae):
    with pytest.raises(ValueError, match=r"'small' \(scenetok\) has no point maps of its own; choose a depth head"):
        PointDepth.of(scenetok)
    with pytest.raises(ValueError, match="trained without point maps"):
        PointDepth.of(small_latents.rae(tmp_path, points=None))
    head = small.depth_head(tmp_path / "head.safetensors", scenetok)
    with pytest.raises(ValueError, match=r"not for 'small-rae' \(3drae\); take that model's own point maps"):
        DepthHead.load(head, rae)


def test_the_commands_take_either_family(folder, tmp_path, capsys):
    capture, model = str(folder / "wide" / "transforms.json"), ["--checkpoint", str(folder / "small-rae.safetensors")]
    scene, video, depth = (tmp_path / name for name in ("scene.safetensors", "video.mp4", "depth.npz"))
    assert main(["encode", capture, "--out", str(scene), *model]) == 0
    saved = load_scene(scene)
    assert (saved.family, saved.cameras.size) == ("3drae", WIDE)
    assert main(["render", str(scene), "--frames", "3", "--steps", "5", "--out", str(video), *model]) == 0
    frames, _ = read_video_frames(video)
    assert len(frames) == 3 and frames.shape[-2] / frames.shape[-1] == pytest.approx(WIDE[0] / WIDE[1])
    assert main(["render", str(scene), "--frames", "3", "--out", str(depth), *model, "--depth"]) == 0
    assert np.load(depth)["depths"].shape == (3, *WIDE)
    assert main(["leave-out", capture, "--every", "2", "--out", str(tmp_path / "sheet.png"), *model]) == 0
    assert "dB  rendered\n" in capsys.readouterr().out
    assert main(["info", str(scene)]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "3drae"
    assert main(["render", str(scene), "--out", str(video), "--checkpoint", str(folder / "small.safetensors")]) == 2
    assert "'small' is a model of family 'scenetok'" in capsys.readouterr().err
    scenetok = ["--checkpoint", str(folder / "small.safetensors")]
    assert main(["encode", capture, "--out", str(scene), *scenetok]) == 0
    assert main(["render", str(scene), "--frames", "3", "--out", str(depth), *scenetok, "--depth"]) == 2
    assert "has no point maps of its own" in capsys.readouterr().err
