"""Preparing latents: what is stored, resuming, sharing the work, broken scenes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scenetok_core.autoencoders import build_autoencoder
from scenetok_core.captures import open_capture
from tests import videos
from tests.captures import assert_same_cameras, needs_links
from tests.test_autoencoders import small
from training.data.latents import PreparedVideos, read_manifest, write_scene
from training.data.videos import CaptureVideo
from training.prepare import Encoder, PrepareConfig, main, prepare, read_shard

ROOT = Path(__file__).resolve().parents[1]
PATCH = "patch-8"
MANY = 400  # scenes, so that a run can be killed before it is done
WAIT_SECONDS = 60


@pytest.fixture
def data(tmp_path):
    return videos.write_captures(tmp_path / "data")


def config(data, out="latents", **changes) -> PrepareConfig:
    plain = PrepareConfig(data, data.parent / out, PATCH, PATCH, image_size=videos.CROP, precision="fp32", mirror=True)
    return replace(plain, **changes)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def command(data, out, *more):
    options = ("--data", str(data), "--out", str(out), "--autoencoder", PATCH, "--size", str(videos.CROP))
    return [*options, "--device", "cpu", *more]


def test_stored_latents_are_those_of_encoding_the_pictures(data):
    report = prepare(config(data))
    assert (report.prepared, report.there, report.skipped, report.failed) == (3, 0, {}, False)
    prepared, encode = PreparedVideos(data.parent / "latents"), build_autoencoder(PATCH).encode
    assert prepared.names == tuple(f"scene{i}.safetensors" for i in range(3))
    manifest = prepared.manifest
    assert (manifest.scenes, manifest.image_size, manifest.mirrored) == (3, videos.CROP, True)
    assert manifest.context.autoencoder == PATCH and manifest.context.spec == build_autoencoder(PATCH).spec
    for scene, name in enumerate(prepared.names):
        video, truth = prepared.open(name), videos.expected(scene=scene)
        assert video.name == f"scene{scene}" and video.cameras.names[0] == "frame_00001.png"
        assert_same_cameras(video.cameras, truth.cameras)
        for mirrored, rgb in ((False, truth.rgb), (True, truth.rgb.flip(-1))):
            latents = encode(rgb[None])[0]
            torch.testing.assert_close(video.latents.context([4, 0], mirrored), latents[[4, 0]])
            torch.testing.assert_close(video.latents.target([2, 3], mirrored), latents[[2, 3]])
        with pytest.raises(ValueError, match="holds latents and no pictures"):
            video.frames([0], videos.CROP)


def test_targets_are_cut_to_whole_groups_and_clips(data):
    encoder, target = Encoder(config(data)), small("videodcae")
    encoder.target = target
    video = CaptureVideo("s", open_capture(data / "scene1").subset(range(11)))
    cameras, latents = encoder.encode(video)
    rgb = videos.expected(range(11), scene=1).rgb
    assert len(cameras) == len(latents["context"]) == 11
    whole = target.encode(rgb[None, :8])[0]
    torch.testing.assert_close(latents["target"], whole)
    mirrored = target.encode(rgb[None, :8].flip(-1))[0]
    torch.testing.assert_close(latents["target_mirrored"], mirrored)
    encoder.config = replace(encoder.config, clip_frames=4)
    clips = torch.cat([target.encode(clip[None])[0] for clip in rgb[:8].split(4)])
    torch.testing.assert_close(encoder.encode(video)[1]["target"], clips)
    assert (clips - whole).abs().max() > 1e-3, "this autoencoder sees a clip whole"
    with pytest.raises(ValueError, match="3 frames are too few for a group of 4"):
        encoder.encode(CaptureVideo("s", video.capture.subset(range(3))))


def test_half_precision_halves_the_files(data):
    sizes = {}
    for precision in ("bf16", "fp32"):
        prepare(config(data, precision, precision=precision, mirror=False))
        sizes[precision] = (data.parent / precision / "scene0.safetensors").stat().st_size
    assert sizes["bf16"] < 0.6 * sizes["fp32"]
    half = PreparedVideos(data.parent / "bf16").open("scene0.safetensors").context([0], False)
    assert half.dtype == torch.float32
    full = PreparedVideos(data.parent / "fp32").open("scene0.safetensors").context([0], False)
    torch.testing.assert_close(half, full, atol=4e-3, rtol=0)


def test_a_run_goes_on_where_it_stopped(data):
    out = data.parent / "latents"
    prepare(config(data))
    (out / "scene1.safetensors").unlink()
    (out / ".scene1.safetensors.1.partial").write_bytes(b"half")
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("scene*")}
    report = prepare(config(data))
    assert (report.prepared, report.there) == (1, 2)
    assert files(out) == ["manifest.json", "scene0.safetensors", "scene1.safetensors", "scene2.safetensors"]
    assert all((out / name).stat().st_mtime_ns == time for name, time in times.items())


@needs_links
def test_a_killed_shard_leaves_whole_scenes_and_can_be_resumed(tmp_path):
    scene, data, out = videos.write_capture(tmp_path / "scene"), tmp_path / "data", tmp_path / "latents"
    data.mkdir()
    for number in range(MANY):
        (data / f"{number:03}").symlink_to(scene, target_is_directory=True)
    arguments = command(data, out, "--shard", "1/2")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "training/prepare.py"), *arguments],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + WAIT_SECONDS
    while not list(out.glob("*.safetensors")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = PreparedVideos(out).names
    assert 0 < len(done) < MANY / 2
    for name in done:
        assert len(PreparedVideos(out).open(name).cameras) == videos.FRAMES
    for number in range(MANY):  # the rest is made quick
        if number >= 2 * len(done) + 4:
            (data / f"{number:03}").unlink()
    assert main(arguments) == 0
    assert PreparedVideos(out).names == tuple(f"{number:03}.safetensors" for number in range(1, 2 * len(done) + 4, 2))
    assert not list(out.glob(".*"))


def test_shards_share_the_scenes(data, monkeypatch):
    out = data.parent / "latents"
    assert main(command(data, out, "--shard", "0/2")) == 0
    assert files(out) == ["manifest.json", "scene0.safetensors", "scene2.safetensors"]
    assert read_manifest(out).scenes == 2
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command(data, out)) == 0
    assert read_manifest(out).scenes == 3
    assert main(command(data, out, "--shard", "6/7")) == 0, "a shard without scenes is no failure"


def test_every_data_set_of_pictures_can_be_prepared(tmp_path):
    for write, names in ((videos.write_realestate, "abc"), (videos.write_dl3dv, ("1K--aa", "1K--bb"))):
        data, out = write(tmp_path / write.__name__), tmp_path / f"{write.__name__}_latents"
        assert main(command(data, out)) == 0
        assert PreparedVideos(out).names == tuple(f"{name}.safetensors" for name in names)
    first = PreparedVideos(out)
    assert first.open(first.names[0]).name == "1K/aa"


def test_shards_are_read_strictly(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert read_shard(None) == (0, 1) and read_shard("3/8") == (3, 8)
    for text in ("3", "a/b", "-1/2", "1/2/3"):
        with pytest.raises(ValueError, match="--shard must be i/n"):
            read_shard(text)


def test_broken_scenes_are_listed_and_skipped(data, capsys):
    out = data.parent / "latents"
    (data / "scene1/images/frame_00005.png").write_bytes(b"no picture")
    (data / "scene2/images/frame_00002.png").unlink()
    assert main(command(data, out)) == 0
    skipped = json.loads((out / "skipped-0-of-1.json").read_text("utf-8"))
    assert set(skipped) == {"scene1", "scene2"}
    assert "frame_00005.png" in skipped["scene1"] and "1 of 12 pictures" in skipped["scene2"]
    assert PreparedVideos(out).names == ("scene0.safetensors",)
    assert "scenes prepared 1, there before 0, skipped 2" in capsys.readouterr().out
    for path in (data / "scene1", data / "scene2"):
        videos.write_capture(path)
    assert main(command(data, out)) == 0
    assert files(out) == ["manifest.json", "scene0.safetensors", "scene1.safetensors", "scene2.safetensors"]


def test_nothing_prepared_is_a_failure(data, tmp_path, caplog):
    for path in data.glob("*/images/frame_00001.png"):
        path.unlink()
    assert main(command(data, tmp_path / "out")) == 1
    assert main(command(tmp_path / "missing", tmp_path / "out")) == 2
    assert "no such folder" in caplog.text
    assert main(command(data, tmp_path / "other", "--weights", str(tmp_path), "--autoencoder", "va-vae")) == 2
    assert "vavae-imagenet256-f16d32-dinov2.pt" in caplog.text


def test_published_weights_are_looked_for_where_training_looks(data, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert main(command(data, tmp_path / "out", "--autoencoder", "va-vae")) == 2
    assert "put it into models/scenetok" in caplog.text.replace(os.sep, "/")


def test_one_folder_has_one_kind_of_latents(data):
    prepare(config(data))
    for changes, message in (
        ({"mirror": False}, "mirrored True, not False"),
        ({"precision": "bf16"}, "precision fp32, not bf16"),
        ({"image_size": 32}, "image_size 16, not 32"),
        ({"target_autoencoder": "patch-4"}, "target patch-8, not patch-4"),
    ):
        with pytest.raises(ValueError, match=f"{message}; choose another --out"):
            prepare(replace(config(data), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard": (2, 2)}, "--shard must be i/n"),
        ({"image_size": 20}, "--size must be a multiple of the 8 pixels of a cell of 'patch-8', got 20"),
        ({"context_autoencoder": "wan2.2"}, "must encode single pictures, but 'wan2.2' takes groups of 17"),
        ({"target_autoencoder": "videodcae", "image_size": 32, "clip_frames": 6}, "--clip must be a multiple of the 4"),
        ({"target_autoencoder": "jpeg"}, "unknown autoencoder 'jpeg'"),
    ],
)
def test_impossible_settings_are_refused(data, changes, message):
    with pytest.raises(ValueError, match=message):
        config(data, **changes)


def test_damaged_files_are_named(data):
    out = data.parent / "latents"
    prepare(config(data))
    path = out / "scene0.safetensors"
    latents = {"context": torch.zeros(3, 192, 2, 2), "context_mirrored": torch.zeros(3, 192, 2, 2)}
    write_scene(path, "short", videos.walk(), latents)
    with pytest.raises(ValueError, match=r"scene0.safetensors has 3 latents and 12 cameras"):
        PreparedVideos(out).open(path.name)
    write_scene(path, "unmirrored", videos.walk(3), {"context": latents["context"]})
    with pytest.raises(ValueError, match=r"scene0.safetensors lacks context_mirrored"):
        PreparedVideos(out).open(path.name)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"scene0.safetensors is damaged .*prepare it again"):
        PreparedVideos(out).open(path.name)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    (out / "manifest.json").write_text(json.dumps({**manifest, "format": "scenetok-latents-9"}))
    with pytest.raises(ValueError, match=r"manifest.json cannot be read .*scenetok-latents-1"):
        PreparedVideos(out)
    with pytest.raises(ValueError, match=r"no manifest.json in"):
        PreparedVideos(data)
