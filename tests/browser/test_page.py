"""The pack on the page, in headless Chromium. Pictures of it lie in output/browser."""

import json

import pytest

from tests.engine.workflows import NOTE, WORKFLOWS

pytestmark = pytest.mark.browser

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


def test_the_main_workflow_runs(page):
    page.drop("encode_render", open_workflow("encode_render"))
    kind, detail = page.queue()
    assert kind == "execution_success", detail
    page.page.wait_for_timeout(2000)
    page.screenshot("encode_render_done")


def test_the_template_browser_lists_the_workflows(page):
    page.page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.page.get_by_role("dialog").first
    dialog.wait_for()
    dialog.get_by_text("scenetok", exact=False).first.click()
    dialog.get_by_text("encode_render", exact=False).first.wait_for()
    page.page.wait_for_timeout(1500)
    page.screenshot("templates", fit=False)
    page.page.reload()  # front ends differ in how the dialog is closed
    page.wait_until_ready()


def test_nothing_is_printed_that_a_stock_page_does_not_print(page, stock_errors):
    """Runs last: what all tests before it made the page print counts."""
    assert [error for error in page.errors if error not in stock_errors] == []
