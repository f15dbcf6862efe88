"""The archive of the ComfyUI registry: its files are few and of known kinds, and the pack works from them alone."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import PurePosixPath
from urllib.parse import urlparse

import pytest
from PIL import Image

from scripts.snapshot_nodes import FILE_LISTS, snapshot
from tests.conftest import PACK, PACK_NAME
from tests.engine import ComfyServer, run_prompt
from tests.engine.workflows import WORKFLOWS, edited

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What may stand at the top of the archive, and the kinds of files in it.
KINDS = {
    "": {".md", ".py", ".toml", ".txt"},
    "checkpoints": {".safetensors"},
    "docs": {".jpg", ".md", ".png", ".svg", ".webp"},
    "locales": {".json"},
    "nodes": {".py"},
    "scenetok_core": {".py", ".typed"},
    "scripts": {".py"},
    "web": {".css", ".jpg", ".js", ".md", ".mjs", ".png", ".webp"},
    "workflows": {".jpg", ".json", ".mp4", ".png", ".safetensors"},
}
LICENCES = {"LICENSE"}
NEEDED = {"__init__.py", "LICENSE", "README.md", "pyproject.toml", "requirements.txt"}
PICTURE = re.compile(r"(?:!\[[^]]*\]\(|<img[^>]* src=\")([^):\"\s]+)")
LARGEST_MB = 10  # without checkpoints
PYPROJECT = tomllib.loads((PACK / "pyproject.toml").read_text("utf-8"))


def git_files(*options):
    try:
        listed = subprocess.run(["git", "ls-files", "-z", *options], cwd=PACK, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a git checkout ({error})")
    return {name for name in listed.decode().split("\0") if name and (PACK / name).is_file()}


@pytest.fixture(scope="module")
def archived():
    """Names in the archive: tracked files that `.comfyignore`, by gitignore's rules, does not name."""
    return git_files() - git_files("--cached", "--ignored", "--exclude-from=.comfyignore")


@pytest.fixture(scope="module")
def unpacked(archived, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / PACK_NAME
    for name in archived:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACK / name, folder / name)
    return folder


def test_every_file_is_of_a_known_kind(archived):
    assert archived >= NEEDED
    stray = []
    for path in map(PurePosixPath, archived):
        top = path.parts[0] if len(path.parts) > 1 else ""
        if path.name not in LICENCES and path.suffix not in KINDS.get(top, set()):
            stray.append(str(path))
    assert stray == [], "add it to .comfyignore, or its kind to this test"


def test_the_archive_is_small(archived):
    sizes = {name: (PACK / name).stat().st_size / 1e6 for name in archived if not name.startswith("checkpoints/")}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    assert sum(sizes.values()) < LARGEST_MB, f"largest: {largest}"


def test_no_rule_leaves_out_a_part_of_the_pack(archived):
    """Also what no test below needs: a module that only one node imports, a help page, a picture of the documents."""
    whole = tuple(f"{name}/" for name in KINDS if name not in ("", "docs", "scripts"))
    assert {name for name in git_files() if name.startswith(whole)} <= archived
    documents = [PACK / name for name in archived if name.endswith(".md")]
    shown = {
        (path.parent / picture).resolve().relative_to(PACK).as_posix()
        for path in documents
        for picture in PICTURE.findall(path.read_text("utf-8"))
    }
    assert shown and shown <= archived


def get(server, path):
    with urllib.request.urlopen(server.url + path) as answer:
        return json.load(answer)


def shipped_choices(object_info):
    """What comes with the pack in lists of files."""
    shipped = {path.name for path in (PACK / "checkpoints").iterdir()}
    found = {}
    for node, name in FILE_LISTS:
        kind, *more = object_info[node]["input"]["required"][name]
        choices = kind if isinstance(kind, list) else more[0]["options"]
        found[node, name] = {choice for choice in choices if choice in shipped or choice.startswith("example: ")}
    return found


def test_the_pack_works_from_its_archive_alone(comfy, engine, unpacked, object_info, tmp_path):
    """A ComfyUI of its own: the same nodes, scripts, templates and shipped files, and the main workflow runs."""
    with ComfyServer(engine, tmp_path, {PACK_NAME: unpacked}) as server:
        alone = get(server, "/object_info")
        assert snapshot(alone) == snapshot(object_info)
        assert shipped_choices(alone) == shipped_choices(object_info)
        assert all(shipped_choices(alone).values())
        ours = [name for name in get(comfy, "/extensions") if f"/{PACK_NAME}/" in name]
        assert ours == [name for name in get(server, "/extensions") if f"/{PACK_NAME}/" in name] != []
        templates = get(server, "/workflow_templates")[PACK_NAME]
        assert sorted(templates) == sorted(path.stem for path in WORKFLOWS.glob("*.json"))
        shipped = json.loads((unpacked / "workflows" / "api" / "encode_render.json").read_text())
        quick = edited(shipped, SceneTok_CameraTrajectory={"frames": 2}, SceneTok_RenderTrajectory={"steps": 1})
        done = run_prompt(server.url, quick)
        assert done.status == "execution_success", done.error


@pytest.mark.parametrize(("field", "ratio"), [("Icon", 1), ("Banner", 21 / 9)])
def test_the_pictures_of_the_registry_are_tracked_files_of_its_shapes(field, ratio):
    address = urlparse(PYPROJECT["tool"]["comfy"][field])
    owner, name, branch, *parts = address.path.strip("/").split("/")
    assert (address.netloc, branch) == ("raw.githubusercontent.com", "main")
    assert PYPROJECT["project"]["urls"]["Repository"] == f"https://github.com/{owner}/{name}"
    assert "/".join(parts) in git_files()
    width, height = Image.open(PACK.joinpath(*parts)).size
    assert width / height == pytest.approx(ratio, rel=0.01)
    assert field != "Icon" or max(width, height) <= 400


def test_the_registry_understands_the_classifiers():
    """It drops all accelerators when it does not know one of them, and all systems likewise."""
    systems = ("Microsoft", "POSIX", "MacOS", "OS Independent")
    accelerators = {
        "GPU :: NVIDIA CUDA",
        "GPU :: AMD ROCm",
        "GPU :: Intel Arc",
        "NPU :: Huawei Ascend",
        "GPU :: Apple Metal",
    }
    found = {"Operating System": [], "Environment": []}
    for classifier in PYPROJECT["project"]["classifiers"]:
        group, _, rest = classifier.partition(" :: ")
        found.setdefault(group, []).append(rest)
    assert found["Operating System"] and all(name.startswith(systems) for name in found["Operating System"])
    assert found["Environment"] and set(found["Environment"]) <= accelerators
