"""`python -m scenetok_core encode | render | leave-out | info`: what it writes, prints and answers to bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenetok_core import DepthHead, SceneTok, make_trajectory
from scenetok_core.camera import fit_image
from scenetok_core.cli import main
from scenetok_core.depth import colour_depth
from scenetok_core.pictures.video import read_video_frames
from scenetok_core.weights.checkpoints import load_scene, save_checkpoint
from tests import small
from tests.test_leave_out import LEAVE_OUT_SCORES

ROOT = Path(__file__).resolve().parents[1]
CAPTURE = ROOT / "workflows" / "example_capture" / "transforms.json"
VIEWS = len(json.loads(CAPTURE.read_text())["frames"])
FRAMES, STEPS, FPS = 5, 2, 12.0
BAD_INPUT = 2
BARS = ("read:", "encode:", "render:")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a model, tokens it made, another model, and files that are neither."""
    folder = tmp_path_factory.mktemp("cli")
    small.checkpoint(folder, "model.safetensors")
    other = small.config("other")
    save_checkpoint(folder / "other.safetensors", small.state(other, seed=1), other)
    small.checkpoint(folder, "bare.safetensors", context_autoencoder="va-vae")
    (folder / "damaged.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:200])
    (folder / "folder.mp4").mkdir()
    (folder / "broken.json").write_text('{"frames": [')
    assert encode(folder, out="scene.safetensors") == 0
    return folder


def encode(folder, *options, model="model.safetensors", out="x.safetensors", capture=CAPTURE):
    return main(["encode", str(capture), "--checkpoint", str(folder / model), "--out", str(folder / out), *options])


def render(folder, *options, model="model.safetensors", scene="scene.safetensors", out="x.mp4"):
    files = [str(folder / scene), "--checkpoint", str(folder / model), "--out", str(folder / out)]
    return main(["render", *files, "--frames", str(FRAMES), "--steps", str(STEPS), "--fps", str(FPS), *options])


def leave(folder, *options, capture=CAPTURE):
    return main(["leave-out", str(capture), "--checkpoint", str(folder / "model.safetensors"), *options])


def messages(text):
    """Lines on standard error that are no progress bars."""
    return [line for line in text.replace("\r", "\n").splitlines() if line and not line.startswith(BARS)]


def test_encode_writes_a_scene_and_says_what_it_holds(files, capsys):
    assert (
        encode(files, "--every", "2", "--reference", "1", "--scene-scale", "0.5", out="new folder/half.safetensors")
        == 0
    )
    scene = load_scene(files / "new folder" / "half.safetensors")
    assert scene.tokens.shape == (small.TOKENS, small.TOKEN_DIM)
    assert (scene.preset, scene.scene_scale) == ("small", 0.5)
    assert scene.meta["views_given"] == VIEWS / 2
    assert torch.equal(scene.reference_c2w, scene.cameras.c2w[scene.meta["views_used"].index(1)])
    printed = capsys.readouterr()
    assert f"{small.TOKENS} tokens x {small.TOKEN_DIM} from 4 of {VIEWS // 2} views" in printed.out
    assert "scene scale 0.5" in printed.out
    assert messages(printed.err) == []


def test_tokens_may_be_drawn_from_their_posterior(files):
    tokens = {}
    for name, options in {
        "mean": (),
        "seed": ("--seed", "1"),
        "one": ("--sample", "--seed", "1"),
        "two": ("--sample",),
    }.items():
        assert encode(files, *options, out=f"{name}.safetensors") == 0
        tokens[name] = load_scene(files / f"{name}.safetensors").tokens
    assert torch.equal(tokens["mean"], tokens["seed"])
    for one, other in (("mean", "one"), ("mean", "two"), ("one", "two")):
        assert not torch.allclose(tokens[one], tokens[other], atol=0.01)


def test_render_writes_a_video_and_a_seed_decides_it(files, capsys):
    outputs = [files / name for name in ("first.mp4", "again.mp4", "other.mp4")]
    for path, seed in zip(outputs, ("3", "3", "4"), strict=True):
        assert render(files, "--seed", seed, "--trajectory", "orbit", out=path.name) == 0
    (first, fps), (again, _), (other, _) = (read_video_frames(path) for path in outputs)
    assert (len(first), fps) == (FRAMES, FPS)
    assert torch.equal(first, again) and not torch.equal(first, other)
    printed = capsys.readouterr()
    assert f"{FRAMES} frames {small.IMAGE}x{small.IMAGE}" in printed.out
    told = messages(printed.err)
    assert len(told) == 3 and len(set(told)) == 1
    assert told[0].startswith("warning: the path leaves what the input cameras saw in 4 of 5 frames (1-4)")


def test_the_solver_is_an_option(files):
    videos = {}
    for name, options in {"model": [], "euler": ["--solver", "euler"], "ab2": ["--solver", "ab2"]}.items():
        assert render(files, *options, out=f"{name}.mp4") == 0
        videos[name] = read_video_frames(files / f"{name}.mp4")[0]
    assert torch.equal(videos["model"], videos["euler"]) and not torch.equal(videos["model"], videos["ab2"])


def test_depth_is_rendered_as_values_and_as_colours(files, capsys):
    model = SceneTok.load(files / "model.safetensors")
    small.depth_head(files / "head.safetensors", model)
    small.depth_head(files / "foreign.safetensors", SceneTok.load(files / "other.safetensors"))
    head, scene = DepthHead.load(files / "head.safetensors", model), load_scene(files / "scene.safetensors")
    assert render(files, "--depth", str(files / "head.safetensors"), out="depth.npz") == 0
    path = make_trajectory("follow", scene.cameras, FRAMES)
    expected = head.render(scene, path, steps=STEPS)
    with np.load(files / "depth.npz") as stored:
        assert list(stored) == ["depths"] and np.array_equal(stored["depths"], expected[:, 0].numpy())
    assert render(files, "--depth", str(files / "head.safetensors"), out="depth.mp4") == 0
    shown, _ = read_video_frames(files / "depth.mp4")
    shown = fit_image(shown, (small.IMAGE, small.IMAGE))  # small pictures are enlarged for the video
    brightness = torch.stack([frames.sum(1).flatten() for frames in (shown, colour_depth(expected))])
    assert float(torch.corrcoef(brightness)[0, 1]) > 0.9
    capsys.readouterr()
    for options, out, message in (
        (["--depth", "foreign.safetensors"], "x.npz", "is a depth head for model 'other'"),
        (["--depth", "head.safetensors", "--guidance", "2"], "x.npz", "--guidance is not used with --depth"),
        (["--depth", "head.safetensors"], "x.png", "--out must end in .mp4 or .npz"),
        ([], "x.npz", "--out must end in .mp4, got 'x.npz'"),
    ):
        given = [str(files / option) if option.endswith(".safetensors") else option for option in options]
        assert render(files, *given, out=out) == BAD_INPUT
        assert message in capsys.readouterr().err
        assert not (files / out).exists()


def test_info_describes_a_checkpoint(files, capsys):
    assert main(["info", str(files / "model.safetensors")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["config"]["name"] == "small"
    assert told["parameters"] == sum(weight.numel() for weight in small.state().values())
    assert len(told["model_hash"]) == 16


def test_info_describes_a_scene(files, capsys):
    assert main(["info", str(files / "scene.safetensors")]) == 0
    told, scene = json.loads(capsys.readouterr().out), load_scene(files / "scene.safetensors")
    assert told["tokens"] == [small.TOKENS, small.TOKEN_DIM]
    assert (told["preset"], told["model_hash"]) == ("small", scene.model_hash)
    assert (told["active"], told["views"]) == (small.TOKENS, small.config().context_views)
    assert told["scene_scale"] == scene.scene_scale


def orbit(folder, *settings, **files):
    return render(folder, "--trajectory", "orbit", "--set", *settings, **files)


def keyframes(folder, *settings, **files):
    return render(
        folder, "--trajectory", "keyframes", *(part for setting in settings for part in ("--set", setting)), **files
    )


def test_options_of_the_path_are_used(files, capsys):
    turns = {}
    for degrees in ("0", "120"):
        assert orbit(files, f"degrees={degrees}", out=f"turn {degrees}.mp4") == 0
        turns[degrees] = read_video_frames(files / f"turn {degrees}.mp4")[0]
    assert not torch.equal(turns["0"], turns["120"])
    keys = '[{"view": 2}, {"view": 0, "fov": 40}]'
    (files / "keys.json").write_text(keys)
    assert keyframes(files, f"keys={keys}", "loop=true", out="text.mp4") == 0
    assert keyframes(files, f"keys={files / 'keys.json'}", "loop=true", out="file.mp4") == 0
    assert keyframes(files, "loop=false", out="inputs.mp4") == 0
    text, file, inputs = (read_video_frames(files / f"{name}.mp4")[0] for name in ("text", "file", "inputs"))
    assert torch.equal(text, file) and not torch.equal(text, inputs)
    assert orbit(files, "easing=ease-in", "--set", "degrees=120", out="eased.mp4") == 0
    assert not torch.equal(read_video_frames(files / "eased.mp4")[0], turns["120"])
    assert all(line.startswith("warning: the path leaves") for line in messages(capsys.readouterr().err))


def test_leave_out_prints_scores_beside_baselines_and_writes_a_sheet(files, capsys):
    assert leave(files, "--every", "2", "--out", str(files / "sheets" / "sheet.png")) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == f"PSNR of {VIEWS // 2 - 1} left-out views, from {VIEWS // 2} inputs ({VIEWS} views in all)"
    assert [line.split("dB  ")[1] for line in lines[1:-1]] == LEAVE_OUT_SCORES
    assert all(float(line.split()[0]) > 3 for line in lines[1:-1])
    assert Image.open(files / "sheets" / "sheet.png").width > (VIEWS // 2) * small.IMAGE
    assert messages(printed.err) == []


def test_help_says_how_reference_counts(capsys):
    with pytest.raises(SystemExit):
        main(["encode", "--help"])
    assert "counted from 0 among the views that --every leaves" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda at: encode(at, model="absent.safetensors"), "no such file"),
        (lambda at: encode(at, model="damaged.safetensors"), "damaged or no safetensors file"),
        (lambda at: encode(at, model="scene.safetensors"), "a saved scene, not a model"),
        (lambda at: encode(at, capture=at / "nowhere"), "no such capture"),
        (lambda at: encode(at, capture=at), "no cameras in"),
        (lambda at: encode(at, capture=at / "broken.json"), "broken.json"),
        (lambda at: encode(at, "--reference", str(VIEWS)), f"between 0 and {VIEWS - 1}, got {VIEWS}"),
        (lambda at: encode(at, "--scene-scale", "-1"), "scene scale must be"),
        (lambda at: encode(at, "--weights", "elsewhere", model="bare.safetensors"), " or elsewhere"),
        (lambda at: render(at, model="bare.safetensors"), f" or {Path('models/scenetok')}"),
        (lambda at: render(at, scene="absent.safetensors"), "no such file"),
        (lambda at: render(at, scene="model.safetensors"), "a model checkpoint, not a scene"),
        (lambda at: render(at, model="other.safetensors"), "these tokens were made by model 'small'"),
        (lambda at: render(at, "--frames", "0"), "at least 1 frame, got 0"),
        (lambda at: render(at, "--steps", "0"), "sampling.steps must be positive, got 0"),
        (lambda at: render(at, "--fps", "0"), "fps must be a positive number"),
        (lambda at: encode(at, "--every", "0"), "--every must be at least 1, got 0"),
        (lambda at: encode(at, "--every", "-2", model="absent.safetensors"), "--every must be at least 1, got -2"),
        (lambda at: encode(at, model="absent.safetensors", out="x.bin"), "--out must end in .safetensors, got 'x.bin'"),
        (lambda at: render(at, scene="absent.safetensors", out="x.avi"), "--out must end in .mp4, got 'x.avi'"),
        (
            lambda at: encode(at, out="model.safetensors/x.safetensors"),
            "model.safetensors is no folder that takes new files",
        ),
        (lambda at: render(at, out="broken.json/new/x.mp4"), "broken.json is no folder"),
        (lambda at: render(at, out="folder.mp4"), "folder.mp4 is a folder"),
        (lambda at: render(at, out="x" * 300 + ".mp4"), "File name too long"),
        (lambda at: encode(at, "--device", "teapot"), "device 'teapot' is not usable"),
        (lambda at: render(at, "--device", "meta"), "device 'meta' is not usable"),
        (lambda at: render(at, "--device", "cuda:99"), "device 'cuda:99' is not usable"),
        (
            lambda at: render(at, "--set", "degrees=9"),
            "no option of trajectory 'follow'; it takes name=value of smooth",
        ),
        (lambda at: orbit(at, "degrees"), "--set 'degrees' is no option of trajectory 'orbit'"),
        (lambda at: orbit(at, "degrees=wide"), "orbit.degrees must be float, got 'wide'"),
        (lambda at: orbit(at, "degrees=NaN"), "orbit.degrees must be a finite number"),
        (lambda at: orbit(at, "reference=1.5"), "orbit.reference must be int, got 1.5"),
        (lambda at: orbit(at, "focus_distance=-1"), "focus_distance must be a positive"),
        (lambda at: keyframes(at, "keys=absent.json"), "keyframes.keys must be a JSON list or a file of one"),
        (lambda at: keyframes(at, 'keys=[{"view": 99}]'), "keyframe 0: view must be"),
        (lambda at: keyframes(at, f"keys={at / 'broken.json'}"), "keyframes are not valid JSON"),
        (lambda at: leave(at, "--every", "1"), "--every must be at least 2, got 1"),
        (lambda at: leave(at, "--every", "2", "--scene-scale", "0"), "scene scale must be"),
        (lambda at: leave(at, "--every", "99"), "leaves no view between two inputs"),
        (lambda at: leave(at, "--every", "2", "--out", str(at / "x.mp4")), "--out must end in .png or .jpg or .webp"),
        (lambda at: main(["info", str(at / "absent.safetensors")]), "no such file"),
        (lambda at: main(["info", str(CAPTURE)]), "transforms.json is damaged or no safetensors file"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(files, capsys, command, message):
    before = sorted(files.rglob("*"))
    assert command(files) == BAD_INPUT
    printed = capsys.readouterr()
    (line,) = messages(printed.err)
    assert line.startswith("error: ") and message in line
    assert printed.out == ""
    assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["decode"],
        ["render", "scene.safetensors", "--trajectory", "teleport"],
        ["render", "scene.safetensors", "--solver", "heun"],
    ],
)
def test_wrong_usage_is_explained(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == BAD_INPUT
    assert "usage: python -m scenetok_core" in capsys.readouterr().err


def test_the_module_hands_the_exit_code_to_the_shell(tmp_path):
    command = [sys.executable, "-m", "scenetok_core", "info", str(tmp_path / "absent.safetensors")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert done.stderr == f"error: no such file: {tmp_path / 'absent.safetensors'}\n"


def test_paths_that_the_output_cannot_show_do_not_stop_it(files):
    """As on Windows, where a pipe takes the letters of one code page."""
    out = files / "\u90e8\u5c4b.safetensors"
    given = ["encode", str(CAPTURE), "--checkpoint", str(files / "model.safetensors"), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "scenetok_core", *given],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u90e8\u5c4b.safetensors" in done.stdout
    assert load_scene(out).preset == "small"
