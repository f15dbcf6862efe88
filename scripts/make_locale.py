"""Write what the nodes say into `locales/en`, for the page and for translators: `python -m scripts.make_locale`.

Names and tooltips are read from a running ComfyUI with the pack: the nodes' schemas are the only place where they are
written.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from scenetok_core.files import write_text
from scripts.make_workflow import ROOT, definitions_of
from tests.engine import ComfyServer, find_comfy
from tests.engine.workflows import Json

LOCALE = ROOT / "locales" / "en" / "nodeDefs.json"
_SYNTAX = set("{}@|")  # which the page's messages give a meaning; it shows such texts as the server tells them


def plain(texts: Mapping[str, str | None]) -> Json:
    """Those of `texts` that mean the same as a message of the page."""
    return {key: text for key, text in texts.items() if text and not _SYNTAX & set(text)}


def node_texts(info: Json) -> Json:
    """What a node says, by the keys that the page looks for; outputs by their numbers."""
    inputs = {name: definition[1] if len(definition) > 1 else {} for name, definition in definitions_of(info).items()}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        **plain({"display_name": info["display_name"], "description": info["description"]}),
        "inputs": {name: plain({"name": name, "tooltip": told.get("tooltip")}) for name, told in inputs.items()},
        "outputs": {str(i): plain({"name": name, "tooltip": text}) for i, (name, text) in enumerate(outputs)},
    }


def locale_text(infos: Mapping[str, Json]) -> str:
    """The file, from the answer of `/object_info`."""
    texts = {name: node_texts(infos[name]) for name in sorted(infos) if name.startswith("SceneTok_")}
    return json.dumps(texts, indent=2, ensure_ascii=True) + "\n"


def main() -> int:
    """Run the command line; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="scenetok_locale_") as folder:
        engine = find_comfy(Path(folder))
        server = ComfyServer(engine, Path(folder) / "base", {"scenetok": ROOT}, ("--cpu",))
        with server, urllib.request.urlopen(f"{server.url}/object_info") as answer:
            text = locale_text(json.load(answer))
    LOCALE.parent.mkdir(parents=True, exist_ok=True)
    write_text(LOCALE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
