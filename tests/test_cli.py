"""`python -m scenetok_core encode | render | info`: what it writes, prints and answers to bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scenetok_core.checkpoints import load_scene, save_checkpoint
from scenetok_core.cli import main
from scenetok_core.video import read_video_frames
from tests import small

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
    (folder / "damaged.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:200])
    (folder / "broken.json").write_text('{"frames": [')
    assert encode(folder) == 0
    return folder


def encode(folder, *options, model="model.safetensors", out="scene.safetensors", capture=CAPTURE):
    return main(["encode", str(capture), "--checkpoint", str(folder / model), "--out", str(folder / out), *options])


def render(folder, *options, model="model.safetensors", scene="scene.safetensors", out="path.mp4"):
    files = [str(folder / scene), "--checkpoint", str(folder / model), "--out", str(folder / out)]
    return main(["render", *files, "--frames", str(FRAMES), "--steps", str(STEPS), "--fps", str(FPS), *options])


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


def test_render_writes_a_video_and_a_seed_decides_it(files, capsys):
    outputs = [files / name for name in ("first.mp4", "again.mp4", "other.mp4")]
    for path, seed in zip(outputs, ("3", "3", "4"), strict=True):
        assert render(files, "--seed", seed, "--trajectory", "orbit", out=path.name) == 0
    (first, fps), (again, _), (other, _) = (read_video_frames(path) for path in outputs)
    assert (len(first), fps) == (FRAMES, FPS)
    assert torch.equal(first, again) and not torch.equal(first, other)
    printed = capsys.readouterr()
    assert f"{FRAMES} frames {small.IMAGE}x{small.IMAGE}" in printed.out
    assert messages(printed.err) == []


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


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda at: encode(at, model="absent.safetensors", out="x"), "no such file"),
        (lambda at: encode(at, model="damaged.safetensors", out="x"), "damaged or no safetensors file"),
        (lambda at: encode(at, model="scene.safetensors", out="x"), "a saved scene, not a model"),
        (lambda at: encode(at, capture=at / "nowhere", out="x"), "no such capture"),
        (lambda at: encode(at, capture=at, out="x"), "no cameras in"),
        (lambda at: encode(at, capture=at / "broken.json", out="x"), "broken.json"),
        (lambda at: encode(at, "--reference", str(VIEWS), out="x"), f"between 0 and {VIEWS - 1}, got {VIEWS}"),
        (lambda at: encode(at, "--scene-scale", "-1", out="x"), "scene scale must be"),
        (lambda at: render(at, scene="absent.safetensors", out="x"), "no such file"),
        (lambda at: render(at, scene="model.safetensors", out="x"), "a model checkpoint, not a scene"),
        (lambda at: render(at, model="other.safetensors", out="x"), "these tokens were made by model 'small'"),
        (lambda at: render(at, "--frames", "0", out="x"), "at least 1 frame, got 0"),
        (lambda at: render(at, "--steps", "0", out="x"), "at least one latent and one step"),
        (lambda at: render(at, "--fps", "0", out="x"), "fps must be a positive number"),
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


@pytest.mark.parametrize("arguments", [[], ["decode"], ["render", "scene.safetensors", "--trajectory", "teleport"]])
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
