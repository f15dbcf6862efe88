"""Fixtures around a real ComfyUI that runs for the whole session."""

import importlib.util
import json
import os
import urllib.request
from pathlib import Path

import pytest

from scenetok_core.weights.checkpoints import save_checkpoint
from tests import small
from tests.engine import ComfyServer, EngineMissingError, find_comfy, run_prompt
from tests.engine.workflows import WORKFLOWS, edited
from tests.served import FRAMES, STEPS, write_capture

PACK = Path(__file__).resolve().parents[1]
PACK_NAME = "scenetok"
collect_ignore = [] if importlib.util.find_spec("playwright") else ["browser"]  # `make test-browser` installs it


def pytest_collection_modifyitems(items):
    """`-m "not engine"` leaves out what needs a ComfyUI, on systems where none is installed."""
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()):
            item.add_marker("engine")


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A ComfyUI that may be started or imported."""
    try:
        return find_comfy(tmp_path_factory.mktemp("engine"))
    except EngineMissingError as missing:
        # Elsewhere the rest of the suite is still worth running; here a skip would hide every node test.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))


@pytest.fixture(scope="session")
def comfy(engine, tmp_path_factory):
    """A ComfyUI server with this pack and small models: `small`, `other` and `generator`."""
    server = ComfyServer(engine, tmp_path_factory.mktemp("comfy"), {PACK_NAME: PACK})
    models = server.folder("models", PACK_NAME)
    small.checkpoint(models)
    small.generator_checkpoint(models)
    other = small.config("other")
    save_checkpoint(models / "other.safetensors", small.state(other, seed=1), other)
    with server:
        yield server


@pytest.fixture
def run(comfy):
    """Runs an API-format prompt on the server and returns everything it gave (`engine.Run`)."""

    def go(prompt, **options):
        return run_prompt(comfy.url, prompt, **options)

    return go


@pytest.fixture
def capture(comfy):
    folder = comfy.folder("input", "room")
    if not (folder / "transforms.json").exists():
        write_capture(folder)
    return "room"


@pytest.fixture
def object_info(comfy):
    with urllib.request.urlopen(f"{comfy.url}/object_info") as answer:
        return json.load(answer)


@pytest.fixture
def prompt(capture):
    shipped = json.loads((WORKFLOWS / "api" / "encode_render.json").read_text())
    return edited(
        shipped,
        SceneTok_LoadModel={"model": "small.safetensors"},
        SceneTok_LoadViews={"capture": capture},
        SceneTok_CameraTrajectory={"frames": FRAMES},
        SceneTok_RenderTrajectory={"steps": STEPS},
    )
