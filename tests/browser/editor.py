"""The camera path editor on the page: what a person sees and does there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from playwright.sync_api import FloatRect

from tests.browser.page import ComfyPage, Json

HANDLE = (76, 201, 240)  # colour of the dot that turns a key
COUNT_PROMPTS = """() => {
    const counted = window.counted = { waiting: 0, most: 0, sent: 0 };
    const { fetch } = window;
    window.fetch = (address, options) => {
        if (options?.method === "POST" && String(address).endsWith("/prompt")) {
            counted.sent += 1;
            counted.most = Math.max(counted.most, counted.waiting += 1);
        }
        return fetch(address, options);
    };
    app.api.addEventListener("execution_success", () => (counted.waiting -= 1));
}"""
_NODE = "app.graph.nodes.find(node => node.type === 'SceneTok_PathEditor')"
_TEXT = f"{_NODE}.widgets.find(widget => widget.name === 'keyframes')"
_SHOW = f"""() => {{
    const node = {_NODE};
    app.canvas.deselectAll();
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [400 - node.pos[0], 130 - node.pos[1]];
    app.canvas.setDirty(true, true);
}}"""
_SETTLED = """() => [...document.querySelectorAll(".st-editor")].every(({ pathEditor: editor }) =>
    editor.text === editor.host.text && !editor.viewport?.frame
    && (editor.viewport?.textures ?? []).every(texture => texture.image?.complete))"""
_FRAMES = """count => new Promise(resolve => {
    const next = () => (count-- ? requestAnimationFrame(next) : resolve());
    next();
})"""
_KEY = """index => {
    const view = document.querySelector('.st-view'), box = view.getBoundingClientRect();
    const label = new DOMMatrix(getComputedStyle(document.querySelectorAll('.st-label')[index]).transform);
    const zoom = box.width / view.clientWidth;
    return [box.left + (label.e - 8) * zoom, box.top + (label.f + 20) * zoom];
}"""  # labels stand above and to the right of their keys


@dataclass
class Editor:
    """The editor of the workflow `path_editor`, in a page of its own size."""

    comfy: ComfyPage

    @classmethod
    def open(cls, comfy: ComfyPage, workflow: Json) -> Editor:
        """Drop the workflow and bring its editor to its own size."""
        comfy.drop("path_editor", workflow)
        comfy.page.evaluate(_SHOW)
        editor = cls(comfy)
        editor.settle()
        return editor

    def settle(self) -> None:
        """Wait until editors have read their texts, loaded their pictures and drawn."""
        self.comfy.page.evaluate(_FRAMES, 3)  # of the graph, which then moves the editor
        self.comfy.page.wait_for_function(_SETTLED)

    def fill(self) -> None:
        """Run the node alone, as the empty editor offers, and wait for the cameras."""
        self.comfy.page.get_by_text("Run this node").click()
        self.comfy.page.locator(".st-empty").wait_for(state="hidden", timeout=60_000)
        self.settle()

    @property
    def text(self) -> str:
        """What the node's input holds."""
        return self.comfy.page.evaluate(f"() => {_TEXT}.value")

    @property
    def keys(self) -> list[Json]:
        """The keys in the text."""
        return json.loads(self.text)["keys"]

    @property
    def sent(self) -> str:
        """The text in the prompt that the page would send."""
        (node,) = (node for node in self.comfy.prompt().values() if node["class_type"] == "SceneTok_PathEditor")
        return node["inputs"]["keyframes"]

    @property
    def status(self) -> str:
        """The line below the editor."""
        return self.comfy.page.locator(".st-status").inner_text()

    @property
    def time(self) -> str:
        """Frame and number of frames."""
        return self.comfy.page.locator(".st-number").inner_text()

    def is_on(self, action: str) -> bool:
        """Whether a button that stays pressed is."""
        return "st-on" in (self.comfy.page.locator(f"[data-action={action}]").get_attribute("class") or "")

    def write(self, keys: list[Json], **settings: bool | str) -> None:
        """Put keys into the node's input, as a script or an opened workflow would."""
        text = json.dumps({"version": 1, "keys": keys, **settings})
        self.comfy.page.evaluate(f"text => {{ {_TEXT}.value = text }}", text)
        self.settle()
        self.comfy.page.evaluate("() => document.querySelector('.st-editor').pathEditor.host.changed()")

    def press(self, *keys: str) -> None:
        """Keys of the keyboard, one after another."""
        for key in keys:
            self.comfy.page.keyboard.press(key)
        self.settle()

    def click(self, action: str) -> None:
        """A button of the editor."""
        self.comfy.page.locator(f".st-editor [data-action={action}], .st-editor [data-preset={action}]").click()
        self.settle()

    def place(self, index: int) -> tuple[float, float]:
        """Where a key is on the page."""
        x, y = self.comfy.page.evaluate(_KEY, index)
        return x, y

    def box(self, selector: str = ".st-view") -> FloatRect:
        """Where a part of the editor is on the page."""
        box = self.comfy.page.locator(selector).bounding_box()
        assert box is not None, f"{selector} is not shown"
        return box

    def middle(self) -> tuple[float, float]:
        """The middle of the viewport on the page."""
        box = self.box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, start: tuple[float, float], by: tuple[float, float]) -> None:
        """Drag what is at a place of the page."""
        mouse = self.comfy.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(start[0] + by[0], start[1] + by[1], steps=5)
        mouse.up()
        self.settle()

    def picture(self) -> Image.Image:
        """What the viewport shows."""
        return Image.open(io.BytesIO(self.comfy.page.locator(".st-view").screenshot())).convert("RGB")

    def find(self, colour: tuple[int, int, int]) -> tuple[float, float]:
        """The middle of what has a colour in the viewport, on the page."""
        pixels = np.asarray(self.picture(), dtype=int)
        rows, columns = (np.abs(pixels - colour).max(-1) <= 3).nonzero()
        assert len(rows), f"nothing of colour {colour} in the viewport"
        box = self.box()
        return box["x"] + float(columns.mean()), box["y"] + float(rows.mean())

    def until_text(self, text: str) -> None:
        """Wait until the page has a node with this text."""
        self.comfy.page.wait_for_function(f"text => {_NODE} && {_TEXT}.value === text", arg=text)

    def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until something holds."""
        for _ in range(int(seconds / 0.2)):
            if holds():
                return
            self.comfy.page.wait_for_timeout(200)
        said = self.comfy.page.locator(".st-status").all_inner_texts()
        raise AssertionError(f"still not so after {seconds} s; the status line says {said}")
