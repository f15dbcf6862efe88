"""A ComfyUI page in headless Chromium: opening it, graphs, prompts, and the errors it prints."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, Route, sync_playwright

Json = dict[str, Any]

SCREENSHOTS = Path(__file__).resolve().parents[2] / "output" / "browser"
_FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
]
_READY = """() => window.app?.graph && window.app?.extensionManager
    && window.LiteGraph?.registered_node_types?.KSampler"""
_SETTINGS = {
    "Comfy.TutorialCompleted": True,  # a fresh profile opens the template browser
    "Comfy.InstalledVersion": "99.0.0",  # and tells what is new
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # small titles vanish
}
# A busy machine may miss the end of an animation: a veil over the loading page or a closed dialog would stay.
_NO_MOTION = """document.addEventListener("DOMContentLoaded", () => {
    const style = document.createElement("style");
    style.textContent = "*, *::before, *::after { animation: none !important; transition: none !important; }";
    document.head.append(style);
});"""
_CONTEXTS = """(() => {
    window.contexts = []; // of WebGL, all that were made
    const { getContext } = HTMLCanvasElement.prototype;
    HTMLCanvasElement.prototype.getContext = function (kind, ...options) {
        const context = getContext.call(this, kind, ...options);
        if (String(kind).startsWith("webgl") && context && !contexts.includes(context)) contexts.push(context);
        return context;
    };
})();"""
_DROP = """([name, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name, { type: "application/json" }));
    return data;
}"""
_PLACES = """title => {
    const { scale } = app.canvas.ds;
    return app.graph.nodes.map(node => {
        const shown = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
        const [width, least] = node.computeSize();
        const [w, h] = shown ? [shown.width / scale, shown.height / scale]
            : [Math.max(node.size[0], width), Math.max(node.size[1], least) + title];
        return [String(node.id), [node.pos[0], node.pos[1] - title, node.pos[0] + w, node.pos[1] - title + h]];
    });
}"""
_CUT_NOTES = """() => [".comfy-markdown", ".widget-markdown"]
    .flatMap(name => [...document.querySelectorAll(`${name}, ${name} *`)])
    .filter(part => ["auto", "scroll", "hidden"].includes(getComputedStyle(part).overflowY))
    .filter(part => part.clientHeight && part.scrollHeight > part.clientHeight + 1)
    .map(part => [part.className, part.scrollHeight, part.clientHeight])"""
_TITLE_HEIGHT = 30  # of nodes
_QUEUE = """() => new Promise(resolve => {
    for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
        app.api.addEventListener(kind, event => resolve([kind, JSON.stringify(event.detail)]), { once: true });
    app.extensionManager.command.execute("Comfy.QueuePrompt");
})"""
_CHANGING = re.compile(r"127\.0\.0\.1:\d+|[-.][\w-]{8}\.(?=js|css)|:\d+:\d+")  # ports, hashes of builds, positions

_ELSEWHERE = re.compile(r"https?://(?!127\.0\.0\.1)")


class BrowserMissingError(RuntimeError):
    """No Chromium on this machine; the message says what to install."""


def find_chromium() -> str:
    """The browser: `CHROMIUM`, else the one on the path.

    Raises:
        BrowserMissingError: there is none.
    """
    named = os.environ.get("CHROMIUM")
    found = named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise BrowserMissingError("no Chromium: install it (Debian: apt install chromium) or set CHROMIUM to its path")
    return found


@dataclass
class ComfyPage:
    """A page of a running server."""

    page: Page
    url: str
    name: str  # of its screenshots
    errors: list[str] = field(default_factory=list)  # on the console and uncaught, without what changes between runs

    @classmethod
    def open(cls, page: Page, url: str, name: str, settings: Json) -> ComfyPage:
        """Load the page and wait until nodes are known; only the server is reached."""
        opened = cls(page, url, name)
        page.on("pageerror", lambda error: opened.note(f"uncaught: {error}"))
        page.on("console", opened.hear)
        page.route("**/*", lambda route: opened.guard(route))
        page.request.post(f"{url}/api/settings", data={**_SETTINGS, **settings})
        page.add_init_script(_NO_MOTION)
        page.add_init_script(_CONTEXTS)
        page.goto(url, wait_until="domcontentloaded")
        opened.wait_until_ready()
        return opened

    def wait_until_ready(self) -> None:
        """Wait until the page knows the nodes."""
        self.page.wait_for_function(_READY, timeout=120_000)

    def hear(self, message: ConsoleMessage) -> None:
        """Remember what the console shows in red."""
        if message.type == "error":
            self.note(message.text)

    def note(self, text: str) -> None:
        """Remember an error, unless it is about a host that `guard` keeps the page from."""
        if _ELSEWHERE.search(text):
            return
        self.errors.append(_CHANGING.sub("", text.splitlines()[0])[:200])

    def guard(self, route: Route) -> None:
        """Let requests to the server pass, and no others."""
        if route.request.url.startswith((self.url, self.url.replace("http", "ws", 1), "data:", "blob:")):
            route.continue_()
        else:
            route.abort()

    def drop(self, name: str, workflow: Json) -> None:
        """Drop a workflow's file on the canvas, as a person would."""
        data = self.page.evaluate_handle(_DROP, [f"{name}.json", json.dumps(workflow)])
        self.page.dispatch_event("#graph-canvas", "drop", {"dataTransfer": data})
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]))
        self.page.wait_for_timeout(500)

    def places(self) -> dict[str, tuple[float, float, float, float]]:
        """Left, top, right and bottom of every node with its title, as large as the page draws it."""
        return {node_id: tuple(place) for node_id, place in self.page.evaluate(_PLACES, _TITLE_HEIGHT)}

    def cut_notes(self) -> list[list[str | int]]:
        """Notes that would have to be scrolled: part, its height, the room for it."""
        return self.page.evaluate(_CUT_NOTES)

    def load(self, prompt: Json) -> None:
        """Show an API prompt as a graph."""
        self.page.evaluate("async prompt => { await app.loadApiJson(prompt, 'prompt'); }", prompt)
        self.page.wait_for_timeout(500)

    def prompt(self) -> Json:
        """The API prompt that the page would send now."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def queue(self) -> tuple[str, str]:
        """Press Run and wait: how it ended, and the details as JSON."""
        kind, detail = self.page.evaluate(_QUEUE)
        return kind, detail

    def close_dialogs(self) -> None:
        """Close what the page shows above the graph."""
        for _ in range(5):
            if not self.page.get_by_role("dialog").count():
                return
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(300)

    def screenshot(self, name: str, fit: bool = True) -> Path:
        """Save a picture of the page; `fit`: show all nodes."""
        if fit:
            self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
            self.page.wait_for_timeout(1200)
        path = SCREENSHOTS / f"{self.name}_{name}.png"
        self.page.screenshot(path=path)
        return path


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser.

    Raises:
        BrowserMissingError: there is none on this machine.
    """
    executable = find_chromium()
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=executable, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()
