"""The pack on the page, in headless Chromium. Pictures of it lie in output/browser."""

import itertools
import json

import pytest

from tests.conftest import PACK, PACK_NAME
from tests.engine.workflows import NOTE, WORKFLOWS

pytestmark = pytest.mark.browser

HELP = PACK / "web" / "docs" / "SceneTok_RenderTrajectory.md"
SELECT = """kind => {
    const node = app.graph.nodes.find(node => node.type === kind);
    app.canvas.selectItems([node]);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [500 - node.pos[0], 200 - node.pos[1]];
    app.canvas.setDirty(true, true);
}"""
LOADED = (
    """() => [...document.querySelectorAll("[role=dialog] img")].every(image => image.complete && image.naturalWidth)"""
)
SLACK = 2  # pixels
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def open_workflow(name, folder=WORKFLOWS):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_dropped_workflow_sends_its_api_twin(page, name):
    """Nodes of ComfyUI itself may have further widgets that only the page knows."""
    page.drop(name, open_workflow(name))
    sent = {node_id: node for node_id, node in page.prompt().items() if node["class_type"] != NOTE}
    twin = open_workflow(name, WORKFLOWS / "api")
    assert sent.keys() == twin.keys()
    for node_id, node in twin.items():
        inputs = sent[node_id]["inputs"]
        if not node["class_type"].startswith("SceneTok_"):
            inputs = {key: value for key, value in inputs.items() if key in node["inputs"]}
        assert (sent[node_id]["class_type"], inputs) == (node["class_type"], node["inputs"])
    page.screenshot(name)
    check_layout(page, open_workflow(name)["groups"])


def apart(a, b):
    return a[2] <= b[0] + SLACK or b[2] <= a[0] + SLACK or a[3] <= b[1] + SLACK or b[3] <= a[1] + SLACK


def check_layout(page, groups):
    """Nothing lies on something else, every node but the note is in a group, the note need not be scrolled."""
    places = page.places()
    frames = {}
    for group in groups:
        left, top, width, height = group["bounding"]
        frames[group["title"]] = (left, top, left + width, top + height)
    for kind in (places, frames):
        assert [(a, b) for a, b in itertools.combinations(kind, 2) if not apart(kind[a], kind[b])] == []
    for node_id, (left, top, right, bottom) in places.items():
        around = [f for f in frames.values() if f[0] <= left and f[1] <= top and f[2] >= right and f[3] >= bottom]
        assert bool(around) or all(apart(frame, (left, top, right, bottom)) for frame in frames.values()), node_id
    assert sum(all(apart(frame, place) for frame in frames.values()) for place in places.values()) == 1
    assert page.cut_notes() == []


def test_the_main_workflow_runs(page):
    page.drop("encode_render", open_workflow("encode_render"))
    kind, detail = page.queue()
    assert kind == "execution_success", detail
    page.page.wait_for_timeout(2000)
    page.screenshot("encode_render_done")


def test_a_help_page_opens_with_its_picture(page):
    page.drop("encode_render", open_workflow("encode_render"))
    page.page.evaluate(SELECT, HELP.stem)
    page.page.get_by_test_id("info-button").click()
    page.page.get_by_text(HELP.read_text(encoding="utf-8").splitlines()[0]).last.wait_for()
    picture = f"/extensions/{PACK_NAME}/docs/assets/{HELP.stem}.jpg"
    page.page.wait_for_function(
        "address => [...document.images].some(image => image.src.endsWith(address) && image.naturalWidth > 0)",
        arg=picture,
    )
    page.screenshot("help", fit=False)


def test_the_template_browser_lists_the_workflows_with_their_pictures(page):
    pictures = {}
    page.page.on("response", lambda answer: pictures.update({answer.url.split("/")[-1].split("?")[0]: answer.status}))
    page.page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.page.get_by_role("dialog").first
    dialog.wait_for()
    dialog.get_by_text("scenetok", exact=False).first.click()
    for name in NAMES:
        card = dialog.get_by_text(name, exact=True).first
        card.scroll_into_view_if_needed()
        page.page.wait_for_function(LOADED)
        if name == NAMES[0]:
            page.screenshot("templates", fit=False)
    assert {name: pictures.get(f"{name}.jpg") for name in NAMES} == dict.fromkeys(NAMES, 200)
    page.page.reload()  # front ends differ in how the dialog is closed
    page.wait_until_ready()


def test_nothing_is_printed_that_a_stock_page_does_not_print(page, stock_errors):
    """Runs last: what all tests before it made the page print counts."""
    assert sorted({*page.errors} - stock_errors) == []
