"""The path editor as a node among others: empty, copied, in a subgraph, after a reload, many at once, deleted."""

import json

import pytest

from tests.browser import graphs
from tests.browser.editor import COUNT_PROMPTS, Editor
from tests.engine.workflows import WORKFLOWS

pytestmark = pytest.mark.browser

MANY = 20  # editors; Chromium keeps 16 WebGL contexts
ALIVE = "() => contexts.filter(context => !context.isContextLost()).length"
REMOVE = """kind => {
    app.graph.remove(app.graph.nodes.find(node => node.type === kind));
    return counted.sent;
}"""
LISTEN = """() => {
    window.given = null;
    app.api.addEventListener("executed", ({ detail }) => (window.given = detail.output.path_editor?.[0] ?? given));
}"""
COLOURS = """() => [...document.querySelectorAll(".st-view canvas")].map(canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
})"""
OTHER_MODEL = """() => {
    const render = app.graph.nodes.find(node => node.type === "SceneTok_RenderTrajectory");
    const loader = LiteGraph.createNode("SceneTok_LoadModel");
    app.graph.add(loader);
    loader.pos = [render.pos[0], render.pos[1] - 400];
    loader.widgets.find(widget => widget.name === "model").value = "small.safetensors";
    loader.connect(0, render, 0);
}"""

FIRST_MODEL = """() => {
    const [load, render] = ["LoadModel", "RenderTrajectory"].map(
        name => app.graph.nodes.find(node => node.type === `SceneTok_${name}`));
    load.connect(0, render, 0);
}"""


@pytest.fixture
def editor(page):
    return Editor.open(page, json.loads((WORKFLOWS / "path_editor.json").read_text(encoding="utf-8")))


@pytest.fixture
def scene(editor):
    """What a run of the node gave."""
    page = editor.comfy.page
    page.evaluate(LISTEN)
    editor.click("update")
    editor.until(lambda: page.evaluate("() => given !== null"))
    page.locator(".st-empty").wait_for(state="hidden")
    return page.evaluate("() => given")


def test_an_empty_editor_says_what_to_do_next(page):
    graphs.empty(page.page)
    node = graphs.add(page.page)
    invitation, run = page.page.locator(".st-empty div"), page.page.get_by_text("Run this node")
    page.page.get_by_text("Connect cameras, and images").wait_for()
    assert not run.is_visible()
    views = graphs.add(page.page, "SceneTok_LoadViews")
    page.page.evaluate(
        "([from, to]) => app.graph.getNodeById(from).connect(1, app.graph.getNodeById(to), 0)", [views, node]
    )
    run.wait_for()
    assert "connect images, too" in invitation.inner_text()


def test_the_help_lists_mouse_and_keys_and_closes_again(editor):
    editor.click("help")
    shown = editor.comfy.page.locator(".st-help")
    assert shown.is_visible()
    for key in ("right-drag", "Shift+drag", "Alt+Left", "Ctrl+Z"):
        assert key in shown.inner_text()
    view, last = editor.box(), shown.locator("span").last.bounding_box()
    assert last["y"] + last["height"] <= view["y"] + view["height"], "the help does not fit"
    editor.comfy.screenshot("path_editor_help", fit=False)
    editor.press("Escape")
    assert not shown.is_visible()


def test_a_copy_has_the_path_and_leaves_that_of_the_original_alone(editor, scene):
    page, before = editor.comfy.page, editor.text
    graphs.copy_and_paste(page)
    page.wait_for_function("() => document.querySelectorAll('.st-editor').length === 2")
    editor.until(lambda: graphs.texts(page) == [before, before])
    graphs.give(page, scene)
    page.locator("[data-preset=Orbit]:enabled").first.evaluate("button => button.click()")
    editor.until(lambda: graphs.texts(page).count(before) == 1)
    editor.settle()
    assert graphs.texts(page).count(before) == 1


def test_a_reload_keeps_the_path_and_has_nothing_to_undo(editor, scene):
    page = editor.comfy.page
    page.locator(".st-keys [data-key='0']").click()
    page.get_by_label("FOV").fill("37.25")
    page.keyboard.press("Tab")
    changed = editor.text
    assert '"fov":37.25' in changed
    saved = "() => Object.values({ ...localStorage, ...sessionStorage }).some(value => value.includes(':37.25'))"
    page.wait_for_function(saved)
    page.reload()
    editor.comfy.wait_until_ready()
    editor.until_text(changed)
    assert page.locator("[data-action=undo]").is_disabled()
    page.locator(".st-keys [data-key='0']").click()
    editor.press("Control+z")
    assert editor.text == changed
    editor.click("update")
    editor.until(lambda: editor.status.startswith("the path"))


def test_it_works_inside_a_subgraph(editor):
    page = editor.comfy.page
    graphs.wrap(page)
    page.wait_for_function("() => app.canvas.graph !== app.graph || !app.canvas.graph.isRootGraph")
    editor.click("update")
    editor.until(lambda: page.locator(".st-label").count() == 4)
    page.locator(".st-empty").wait_for(state="hidden")
    editor.comfy.screenshot("path_editor_subgraph")


def test_many_editors_share_one_context_and_free_it(page, editor, scene):
    graphs.empty(page.page)
    editor.until(lambda: page.page.evaluate(ALIVE) == 0)
    for _ in range(MANY):
        graphs.add(page.page)
    graphs.overview(page.page)
    graphs.give(page.page, scene)
    editor.until(lambda: [count > 100 for count in page.page.evaluate(COLOURS)] == [True] * MANY)
    page.screenshot("path_editor_many", fit=False)
    assert page.page.evaluate(ALIVE) == 1
    graphs.remove_all(page.page)
    editor.until(lambda: page.page.evaluate(ALIVE) == 0)
    assert page.page.locator(".st-editor").count() == 0


def test_a_draft_that_fails_says_so_and_ends_the_live_view_until_it_is_switched_on_again(editor, scene):
    page = editor.comfy.page
    assert not editor.is_on("live"), "the live view is off at first"
    page.evaluate(OTHER_MODEL)
    editor.click("live")
    editor.until(lambda: editor.status.startswith("Live draft stopped: these tokens were made by"))
    assert not editor.is_on("live")
    editor.comfy.screenshot("path_editor_live_error", fit=False)
    editor.comfy.close_dialogs()
    page.evaluate(FIRST_MODEL)
    editor.click("live")
    page.locator(".st-live").wait_for(state="visible", timeout=60_000)


def test_a_deleted_editor_asks_for_no_more_drafts(editor, scene):
    page = editor.comfy.page
    editor.click("live")
    page.locator(".st-live").wait_for(state="visible", timeout=60_000)
    page.evaluate(COUNT_PROMPTS)
    x, y = editor.middle()
    editor.drag((x + 60, y + 90), (25, 0))
    sent = page.evaluate(REMOVE, graphs.EDITOR)
    page.wait_for_timeout(1500)  # more than the camera has to rest
    assert page.evaluate("() => counted.sent") == sent
