"""Graphs with several editors, as scripts on the page."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.browser.page import Json

EDITOR = "SceneTok_PathEditor"

_ADD = """kind => {
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    const place = app.graph.nodes.length - 1;
    node.pos = [720 * (place % 5), 900 * Math.floor(place / 5)];
    return node.id;
}"""
_OVERVIEW = """() => {
    app.canvas.ds.scale = 0.24;
    app.canvas.ds.offset = [800, 500];
    app.canvas.setDirty(true, true);
}"""
_TEXTS = """kind => app.graph.nodes.filter(node => node.type === kind)
    .map(node => node.widgets.find(widget => widget.name === "keyframes").value)"""
_PASTE = """kind => {
    app.canvas.selectItems([app.graph.nodes.find(node => node.type === kind)]);
    app.canvas.copyToClipboard();
    app.canvas.pasteFromClipboard();
}"""
_WRAP = """kind => {
    const node = app.graph.nodes.find(node => node.type === kind);
    app.graph.convertToSubgraph(new Set([node]));
}"""
_ENTER = """() => {
    const holder = app.graph.nodes.find(node => node.isSubgraphNode?.());
    app.canvas.openSubgraph(holder.subgraph, holder);
}"""


def empty(page: Page) -> None:
    """A graph without nodes."""
    page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("() => app.graph.nodes.length === 0")


def add(page: Page, kind: str = EDITOR) -> int | str:
    """Add a node; returns its id."""
    return page.evaluate(_ADD, kind)


def overview(page: Page) -> None:
    """Show what `add` has added, up to 4 rows of 5 nodes."""
    page.evaluate(_OVERVIEW)


def texts(page: Page) -> list[str]:
    """What the editors of the graph hold."""
    return page.evaluate(_TEXTS, EDITOR)


def copy_and_paste(page: Page, kind: str = EDITOR) -> None:
    """Copy the first node of a kind and paste it."""
    page.evaluate(_PASTE, kind)


def wrap(page: Page, kind: str = EDITOR) -> None:
    """Make a subgraph of a node and show what is in it."""
    page.evaluate(_WRAP, kind)
    page.evaluate(_ENTER)


def give(page: Page, scene: Json) -> None:
    """Let all editors have the answer of a run."""
    script = """([kind, scene]) => app.graph.nodes.filter(node => node.type === kind)
        .forEach(node => node.onExecuted({ path_editor: [scene] }))"""
    page.evaluate(script, [EDITOR, scene])


def remove_all(page: Page) -> None:
    """Delete all nodes."""
    page.evaluate("() => [...app.graph.nodes].forEach(node => app.graph.remove(node))")
