"""The page in both of its modes: the engine's own front end, and the newest one with Nodes 2.0."""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import small
from tests.browser import graphs
from tests.browser.page import BrowserMissingError, ComfyPage, chromium
from tests.conftest import PACK, PACK_NAME
from tests.engine import ComfyServer

NEWEST = Path(os.environ.get("SCENETOK_FRONTEND", PACK / ".venv" / "frontend")) / "comfyui_frontend_package" / "static"

STOCK_PROMPT = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


@dataclass(frozen=True)
class Mode:
    """A front end and how it draws nodes."""

    name: str
    arguments: tuple[str, ...]  # of the server
    nodes_2: bool


MODES = (
    Mode("classic", (), False),
    Mode("nodes2", ("--front-end-root", str(NEWEST)), True),
)


@pytest.fixture(scope="session", params=MODES, ids=lambda mode: mode.name)
def mode(request):
    if request.param.nodes_2 and not NEWEST.is_dir():
        pytest.fail(f"no newest front end in {NEWEST}: run `make test-browser`, which installs it")
    return request.param


@pytest.fixture(scope="session")
def browser():
    try:
        with chromium() as opened:
            yield opened
    except BrowserMissingError as missing:
        pytest.fail(str(missing))


def _settings(mode):
    return {"Comfy.VueNodes.Enabled": mode.nodes_2}


def _pages(browser, engine, mode, base, packs, name):
    server = ComfyServer(engine, base, packs, ("--cpu", *mode.arguments))
    if packs:
        models = server.folder("models", PACK_NAME)
        small.checkpoint(models)
        small.generator_checkpoint(models)
    with server:
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        yield ComfyPage.open(page, server.url, name, _settings(mode))
        page.close()


@pytest.fixture(scope="session")
def page(browser, engine, mode, tmp_path_factory):
    """The page with this pack; open for the whole session."""
    yield from _pages(browser, engine, mode, tmp_path_factory.mktemp("pack"), {PACK_NAME: PACK}, mode.name)


@pytest.fixture(scope="session")
def stock_errors(browser, engine, mode, tmp_path_factory):
    """What a page without this pack prints while it does what the tests do with nodes of ComfyUI itself."""
    pages = _pages(browser, engine, mode, tmp_path_factory.mktemp("stock"), {}, f"{mode.name}_stock")
    for opened in pages:
        opened.load(STOCK_PROMPT)
        opened.queue()
        graphs.copy_and_paste(opened.page, "EmptyImage")
        opened.page.evaluate("() => app.graph.remove(app.graph.nodes.at(-1))")
        workflow = opened.page.evaluate("() => app.graph.serialize()")
        opened.drop("stock", {**workflow, "id": str(uuid.uuid4())})
        graphs.wrap(opened.page, "EmptyImage")
        opened.screenshot("subgraph")
        opened.drop("stock", workflow)
        opened.page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        opened.page.wait_for_timeout(5000)
        found = set(opened.errors)
    return found
