"""Captures in the input folder of a real ComfyUI server: what is offered, uploaded and refused."""

import json
import os
import shutil
import time
import urllib.request
import zipfile

import pytest

from tests.captures import write_colmap_text, write_realestate
from tests.engine.workflows import edited
from tests.served import VIEW, upload, write_capture


def offered_captures(comfy):
    with urllib.request.urlopen(f"{comfy.url}/object_info/SceneTok_LoadViews") as answer:
        info = json.load(answer)["SceneTok_LoadViews"]
    return info["input"]["required"]["capture"][1]["options"]


@pytest.fixture
def cluttered(comfy):
    """An input folder that has cameras, pictures and other files directly inside; removed afterwards."""
    root = comfy.folder("input")
    before = set(root.iterdir())
    write_capture(root)
    (root / "transforms.json").rename(root / "my_walk.json")
    (root / "notes.json").write_text('{"frames": 48}')
    (root / "caption.txt").write_text("a room")
    write_colmap_text(root)
    write_realestate(root / "estate")
    yield root
    for path in set(root.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_cameras_directly_in_the_input_folder_hide_nothing(comfy, capture, cluttered):
    (cluttered / "estate" / "lonely.txt").write_text((cluttered / "estate" / "clip.txt").read_text())
    write_capture(cluttered / "deep" / "down")
    (cluttered / "deep" / "down" / "val.json").write_text((cluttered / "my_walk.json").read_text())
    offered = offered_captures(comfy)
    expected = {capture, "my_walk.json", "sparse/0", "estate/clip.txt", "deep/down", "deep/down/val.json"}
    assert expected <= set(offered)
    assert not {".", "images", "notes.json", "caption.txt", "estate", "estate/lonely.txt", "sparse"} & set(offered)
    assert len(set(offered)) == len(offered)


@pytest.mark.parametrize("name", ["my_walk.json", "sparse/0", "estate"])
def test_what_lies_in_the_input_folder_can_be_loaded(run, prompt, cluttered, name):
    load = {VIEW: prompt[VIEW], "9": {"class_type": "PreviewImage", "inputs": {"images": [VIEW, 0]}}}
    done = run(edited(load, SceneTok_LoadViews={"capture": name}))
    assert done.status == "execution_success", done.error


def test_dl3dv_scenes_are_offered_and_loaded(comfy, run, prompt):
    scene = comfy.folder("input", "dl3dv", "1K", "0a1b")
    write_capture(scene)
    (scene / "images").rename(scene / "images_4")
    assert "dl3dv/1K/0a1b" in offered_captures(comfy)
    load = {VIEW: prompt[VIEW], "9": {"class_type": "PreviewImage", "inputs": {"images": [VIEW, 0]}}}
    done = run(edited(load, SceneTok_LoadViews={"capture": "dl3dv/1K/0a1b"}))
    assert done.status == "execution_success", done.error
    shutil.rmtree(scene.parents[1])


def test_only_files_of_the_capture_make_it_load_again(run, prompt, cluttered):
    load = {VIEW: prompt[VIEW], "9": {"class_type": "PreviewImage", "inputs": {"images": [VIEW, 0]}}}
    load = edited(load, SceneTok_LoadViews={"capture": "my_walk.json"})
    run(load)
    (cluttered / "unrelated.png").write_bytes(b"")
    stamp = time.time() + 5
    os.utime(cluttered / "notes.json", (stamp, stamp))
    assert run(load).executed == []
    os.utime(cluttered / "images" / "001.png", (stamp, stamp))
    assert VIEW in run(load).executed
    os.utime(cluttered / "my_walk.json", (stamp, stamp))
    assert VIEW in run(load).executed


def test_captures_and_models_are_offered_by_name(object_info, comfy, capture):
    assert capture in offered_captures(comfy)
    assert "small.safetensors" in object_info["SceneTok_LoadModel"]["input"]["required"]["model"][1]["options"]


def test_an_uploaded_zip_is_a_capture(comfy, run, prompt, tmp_path):
    write_capture(tmp_path / "kitchen")
    archive = tmp_path / "kitchen.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted((tmp_path / "kitchen").rglob("*.*")):
            target.write(path, path.relative_to(tmp_path))
    upload(comfy, archive)
    done = run(edited(prompt, SceneTok_LoadViews={"capture": "kitchen.zip"}))
    assert done.status == "execution_success", done.error


def test_folders_of_a_zip_may_be_separated_by_backslashes(comfy, run, prompt, tmp_path):
    write_capture(tmp_path / "cellar")
    archive = tmp_path / "cellar.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted((tmp_path / "cellar").rglob("*.*")):
            target.writestr(str(path.relative_to(tmp_path)).replace("/", "\\"), path.read_bytes())
    upload(comfy, archive)
    done = run(edited(prompt, SceneTok_LoadViews={"capture": "cellar.zip"}))
    assert done.status == "execution_success", done.error


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, None], ids=["deflate", "lzma", "cut"])
def test_zips_that_cannot_be_unpacked_are_refused(comfy, run, prompt, tmp_path, method):
    archive = tmp_path / f"broken_{method}.zip"
    with zipfile.ZipFile(archive, "w", method or zipfile.ZIP_STORED) as target:
        target.writestr("transforms.json", bytes(range(256)) * 8)
    data = bytearray(archive.read_bytes())
    start = 30 + len("transforms.json")  # of the member's data
    data[start : start + 16] = b"\xff" * 16
    archive.write_bytes(data if method else data[:100])
    upload(comfy, archive)
    error = run(edited(prompt, SceneTok_LoadViews={"capture": archive.name})).error
    assert f"{archive.name} is" in error
    assert "pack it again" in error


def test_the_page_is_given_the_upload_button(comfy):
    with urllib.request.urlopen(f"{comfy.url}/extensions") as answer:
        assert "/extensions/scenetok/js/upload.js" in json.load(answer)


@pytest.mark.parametrize("name", ["../../evil.txt", "..\\evil.txt", "C:\\evil.txt", "room/con.json", "NUL/x.json"])
def test_a_zip_that_writes_elsewhere_is_refused(comfy, run, prompt, tmp_path, name):
    archive = tmp_path / f"evil_{abs(hash(name))}.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr(name, "gotcha")
    upload(comfy, archive)
    assert "unsafe path" in run(edited(prompt, SceneTok_LoadViews={"capture": archive.name})).error


def test_pictures_outside_the_input_folder_are_refused_whether_they_exist_or_not(comfy, run, prompt):
    folder = comfy.folder("input", "thief")
    write_capture(folder)
    text = (folder / "transforms.json").read_text().replace("images/000.png", "../../secret.png")
    (folder / "transforms.json").write_text(text)
    steal = edited(prompt, SceneTok_LoadViews={"capture": "thief"})
    missing = run(steal).error
    (comfy.base / "secret.png").write_bytes((folder / "images" / "001.png").read_bytes())
    assert "'../../secret.png'" in missing
    assert "is not inside" in missing
    assert run(steal).error == missing


def test_a_linked_capture_folder_stays_usable(comfy, run, prompt, tmp_path):
    write_capture(tmp_path / "large")
    (comfy.folder("input") / "linked").symlink_to(tmp_path / "large", target_is_directory=True)
    done = run(edited(prompt, SceneTok_LoadViews={"capture": "linked"}))
    assert done.status == "execution_success", done.error
