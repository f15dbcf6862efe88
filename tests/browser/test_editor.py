"""The camera path editor in headless Chromium. Pictures of it lie in output/browser."""

import json

import pytest

from tests.browser.editor import COUNT_PROMPTS, HANDLE, Editor
from tests.engine.workflows import WORKFLOWS

pytestmark = pytest.mark.browser

VIEWS = 8  # of the example
POINT = {"position": [-0.1, 1.45, -1.0], "look_at": [-0.65, 1.15, -0.93]}


@pytest.fixture(scope="module")
def opened(page):
    return Editor.open(page, json.loads((WORKFLOWS / "path_editor.json").read_text(encoding="utf-8")))


@pytest.fixture
def editor(opened):
    """With the cameras of a run, a path of three keys, and the view that a new editor has."""
    if opened.comfy.page.locator(".st-empty").is_visible():
        opened.fill()
    opened.write([{"view": 0}, POINT, {"view": 7}])
    return opened


def test_it_invites_to_run_and_then_shows_cameras_with_their_pictures(opened):
    assert opened.comfy.page.get_by_text("Run once to see the input cameras").is_visible()
    pictures = []
    opened.comfy.page.on("response", lambda answer: "type=temp" in answer.url and pictures.append(answer.status))
    opened.comfy.screenshot("path_editor_empty", fit=False)
    opened.fill()
    assert pictures == [200] * VIEWS
    assert opened.comfy.page.locator(".st-label").count() == len(opened.keys)
    colours = opened.picture().resize((200, 150)).getcolors(30_000)
    assert len(colours) > 500, "the viewport is empty"
    assert opened.status.startswith("the path stays in")
    opened.comfy.screenshot("path_editor", fit=False)


def test_a_dragged_key_changes_the_prompt_and_undo_restores_it(editor):
    before, nodes = editor.text, editor.comfy.page.evaluate("() => app.graph.nodes.length")
    editor.drag(editor.place(1), (-40, 25))
    assert editor.text == editor.sent != before
    (x, y, z), old = editor.keys[1]["position"], POINT["position"]
    assert y == old[1] and (x, z) != (old[0], old[2])
    assert editor.keys[1]["look_at"] == POINT["look_at"]
    assert editor.status.startswith("Changed")
    editor.press("Control+z")
    assert json.loads(editor.text) == json.loads(before)
    editor.press("Control+y")
    assert editor.keys[1]["position"] == [x, y, z]
    assert editor.comfy.page.evaluate("() => app.graph.nodes.length") == nodes


def test_shift_lifts_a_key_and_its_handle_turns_it(editor):
    page = editor.comfy.page
    start = editor.place(1)
    page.keyboard.down("Shift")
    editor.drag(start, (0, -30))
    page.keyboard.up("Shift")
    x, y, z = editor.keys[1]["position"]
    assert (x, z) == (POINT["position"][0], POINT["position"][2]) and y > POINT["position"][1]
    editor.drag(editor.find(HANDLE), (50, 0))
    assert editor.keys[1]["position"] == [x, y, z]
    assert editor.keys[1]["look_at"] != POINT["look_at"]


def test_keys_are_added_deleted_and_ordered(editor):
    page = editor.comfy.page
    page.locator(".st-keys [data-key='0']").click()
    editor.press("Alt+ArrowRight")
    assert editor.keys == [POINT, {"view": 0}, {"view": 7}]
    editor.press("Delete")
    assert editor.keys == [POINT, {"view": 7}]
    editor.click("add")
    assert len(editor.keys) == 3 and editor.keys[2].keys() == {"position", "look_at"}
    first, last = (editor.box(f".st-keys [data-key='{i}']") for i in (0, 2))
    editor.drag((first["x"] + 8, first["y"] + 8), (last["x"] - first["x"], 0))
    assert editor.keys[2] == POINT
    page.get_by_label("FOV").fill("40")
    page.keyboard.press("Tab")
    assert editor.keys[2] == {**POINT, "fov": 40}
    page.get_by_label("Speed").fill("50")
    page.keyboard.press("Tab")
    assert editor.keys[2] == {**POINT, "fov": 40, "speed": 20}
    page.get_by_label("Speed").fill("")
    page.keyboard.press("Tab")
    assert editor.keys[2] == {**POINT, "fov": 40}


def test_a_double_click_on_a_picture_adds_its_camera(editor):
    editor.click("Follow")
    assert editor.keys == [{"view": i} for i in range(VIEWS)]
    editor.comfy.page.locator(".st-keys [data-key='4']").dblclick()  # stands there: its picture is in the middle
    editor.press("Delete")
    assert {"view": 4} not in editor.keys
    editor.comfy.page.mouse.dblclick(*editor.middle())
    editor.until(lambda: {"view": 4} in editor.keys)
    editor.press("f")


def test_one_scrubs_plays_and_looks_through_the_camera(editor):
    assert editor.time == "1 / 48"
    shown = editor.picture().tobytes()
    editor.click("through")
    box = editor.box(".st-frame")
    assert box["width"] == pytest.approx(box["height"], abs=2)  # the pictures are square
    assert editor.picture().tobytes() != shown
    editor.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert editor.time == "2 / 48"
    editor.press("Space")
    editor.until(lambda: editor.time not in ("1 / 48", "2 / 48"))
    editor.press("Space")
    editor.comfy.screenshot("path_editor_camera", fit=False)
    editor.press("c")
    assert not editor.comfy.page.locator(".st-frame").is_visible()


def test_a_preset_is_a_path_of_keys_that_python_then_interpolates(editor):
    editor.click("Orbit")
    assert len(editor.keys) == 12
    assert json.loads(editor.text)["loop"] is True
    editor.press("u")
    editor.until(lambda: editor.status.startswith("the path leaves"))
    editor.comfy.screenshot("path_editor_orbit", fit=False)


def test_a_path_is_pasted_as_text_and_a_broken_one_refused(editor):
    area, before = editor.comfy.page.locator(".st-text textarea"), editor.text
    editor.click("text")
    assert area.input_value() == before
    area.fill('[{"place": 1}]')
    editor.click("apply")
    assert "key 0 has no view" in editor.status and editor.text == before
    area.fill('[{"view": 2}]')
    editor.click("apply")
    assert editor.text == '[{"view": 2}]' == editor.sent


def test_it_shows_the_same_after_another_workflow_was_open(editor):
    page, before = editor.comfy.page, editor.text
    page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("() => app.graph.nodes.length === 0")
    page.evaluate("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    page.wait_for_function("() => app.graph.nodes.length > 0")
    editor.until(lambda: page.locator(".st-label").count() == len(editor.keys))
    assert json.loads(editor.text) == json.loads(before)


def test_the_live_view_draws_the_camera_one_draft_at_a_time(editor):
    page = editor.comfy.page
    page.evaluate(COUNT_PROMPTS)
    editor.click("live")
    page.locator(".st-live").wait_for(state="visible", timeout=60_000)
    first = page.locator(".st-live img").get_attribute("src")
    x, y = editor.middle()
    for _ in range(4):
        editor.drag((x + 60, y + 90), (25, 0))
        page.wait_for_timeout(450)
    editor.until(lambda: page.evaluate("() => counted.waiting") == 0)
    counted = page.evaluate("() => counted")
    assert counted["sent"] >= 2 and counted["most"] == 1
    assert page.locator(".st-live img").get_attribute("src") != first
    editor.comfy.screenshot("path_editor_live", fit=False)
    page.evaluate("() => app.graph.nodes.find(node => node.type === 'SceneTok_RenderTrajectory').disconnectInput(2)")
    editor.drag((x + 60, y + 90), (25, 0))
    editor.until(lambda: "needs a Render Trajectory" in editor.status)
    editor.click("live")
    assert not page.locator(".st-live").is_visible()
