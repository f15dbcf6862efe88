"""Help pages, locale and tooltips: they belong to the nodes that there are, and say what is so."""

import ast
import json
import re
import urllib.request

import pytest
from PIL import Image

from scenetok_core.trajectories import PRESETS, modifier_options, preset_options
from scripts.help_pictures import ASSETS, LARGEST_BYTES, needed, parts_of, read_graph
from scripts.make_locale import LOCALE, locale_text
from scripts.make_workflow import ROOT, definitions_of
from tests.test_nodes import NODES

PAGES = ROOT / "web" / "docs"
REPOSITORY = "https://github.com/scenetok/comfyui-scenetok/blob/main/"
MOST_BYTES, WIDEST = 1_200_000, 640
PICTURE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)\n\n\*[^*]+\*\n")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
MESSAGE = re.compile(r"^- \*([^*]+)\*: ", re.MULTILINE)
ELLIPSIS = "..."


def page(node_id):
    return (PAGES / f"{node_id}.md").read_text("utf-8")


def tables(text):
    """First cells of every table, by the first cell of its heading."""
    found = {}
    for lines in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        heading, _, *rows = (line.split("|")[1].strip() for line in lines.splitlines())
        found.setdefault(heading, []).extend(rows)
    return found


def quoted(cells):
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def string_parts():
    """Every piece of text in the sources, between the values of formatted strings."""
    for folder in ("scenetok_core", "nodes"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


@pytest.fixture(scope="module")
def sources():
    return "\0".join(string_parts())


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_node_has_a_page_and_nothing_else_lies_there():
    assert {path.stem for path in PAGES.glob("*.md")} == NODES
    assert {path.name for path in PAGES.iterdir()} == {f"{name}.md" for name in NODES} | {"assets"}


def test_every_page_has_a_picture_with_a_caption_and_every_picture_a_page():
    used = {name: PICTURE.findall(page(name)) for name in NODES}
    assert [name for name, pictures in used.items() if f"assets/{name}.jpg" not in pictures] == []
    assert {picture for pictures in used.values() for picture in pictures} == {
        f"assets/{path.name}" for path in ASSETS.iterdir()
    }


def test_the_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in ASSETS.iterdir()}
    assert {name: size for name, size in sizes.items() if size > LARGEST_BYTES} == {}
    assert sum(sizes.values()) <= MOST_BYTES
    assert {name for name in sizes if Image.open(ASSETS / name).width > WIDEST} == set()


def test_pages_begin_with_one_sentence_and_say_how_to_use_the_node():
    for name in NODES:
        first, *_ = page(name).split("\n\n")
        assert re.fullmatch(r"[A-Z][^!\[]*\.", first), name
        assert "**Use it** " in page(name), name
        assert re.search(r"/workflows/\w+\.json\)", page(name)), name


@pytest.mark.parametrize("name", sorted(NODES))
def test_links_lead_to_files_of_the_repository(name):
    for link in LINK.findall(page(name)):
        assert link.startswith(REPOSITORY), link
        path, _, anchor = link.removeprefix(REPOSITORY).partition("#")
        assert (ROOT / path).is_file(), link
        assert not anchor or anchor in anchors(ROOT / path), link


def test_inputs_and_outputs_of_the_tables_are_the_nodes_own(object_info):
    for name in NODES:
        found, info = tables(page(name)), object_info[name]
        assert set(found) <= {"input", "output", "preset", "key"}, name
        inputs = definitions_of(info)
        assert [each for each in quoted(found.get("input", [])) if each not in inputs] == [], name
        assert [each for each in quoted(found.get("output", [])) if each not in info["output_name"]] == [], name


def test_the_settings_of_presets_are_inputs(object_info):
    name = "SceneTok_CameraTrajectory"
    table = page(name).partition("| preset |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| ([\w, ]+) \| (`.+`) \|$", table, re.MULTILINE))
    assert {preset for told in rows for preset in told.split(", ")} == {*PRESETS, "every one"}
    for told, settings in rows.items():
        wanted = modifier_options() if told == "every one" else preset_options(told.split(", ")[0])
        assert set(quoted([settings])) - {"frames", "limit_to_seen", "keyframes"} == set(wanted) - {"cameras"}, told


@pytest.mark.parametrize("name", sorted(NODES))
def test_messages_are_those_of_the_code(name, sources):
    told = MESSAGE.findall(page(name))
    parts = [part.strip() for message in told for part in message.split(ELLIPSIS)]
    assert bool(told) == ("**Messages**" in page(name))
    assert [part for part in parts if part not in sources] == []


def test_every_picture_is_made_by_its_node():
    graph, pictures = read_graph()
    assert set(pictures) == NODES
    prompt = {name: {"inputs": node} for name, node in graph.items()}
    for name, rows in pictures.items():
        shown = needed(prompt, (part for row in rows for part, _ in parts_of(row)))
        assert name.removeprefix("SceneTok_") in {graph[part]["node"] for part in shown}, name
    assert set(graph) == needed(
        prompt, (part for rows in pictures.values() for row in rows for part, _ in parts_of(row))
    )


def test_the_graph_of_the_pictures_sets_inputs_that_there_are(object_info):
    for node in read_graph()[0].values():
        info = object_info.get(node["node"]) or object_info[f"SceneTok_{node['node']}"]
        assert node.keys() - {"node"} <= definitions_of(info).keys()


def test_the_server_has_the_pages_and_their_pictures(comfy):
    name = min(NODES)
    for path in (f"{name}.md", f"assets/{name}.jpg"):
        with urllib.request.urlopen(f"{comfy.url}/extensions/scenetok/docs/{path}") as answer:
            assert answer.read() == (PAGES / path).read_bytes()


def test_the_locale_is_up_to_date(object_info):
    """`python -m scripts.make_locale` writes it."""
    assert LOCALE.read_text("utf-8") == locale_text(object_info)


def test_the_server_offers_the_locale(comfy):
    with urllib.request.urlopen(f"{comfy.url}/i18n") as answer:
        assert json.load(answer)["en"]["nodeDefs"] == json.loads(LOCALE.read_text("utf-8"))


def test_texts_that_a_message_would_change_are_left_to_the_server(object_info):
    keyframes = json.loads(LOCALE.read_text("utf-8"))["SceneTok_PathEditor"]["inputs"]["keyframes"]
    assert "{" in definitions_of(object_info["SceneTok_PathEditor"])["keyframes"][1]["tooltip"]
    assert keyframes == {"name": "keyframes"}


def upper_end(tooltip):
    """The second number of a range such as (0 to 20 million); None where there is none."""
    found = re.search(r"-?[\d.]+ to (-?[\d.]+)( million)?", tooltip)
    return float(found[1]) * (1e6 if found[2] else 1) if found else None


def test_tooltips_of_numbers_tell_their_range(object_info):
    for name in NODES:
        for key, (kind, options) in definitions_of(object_info[name]).items():
            counted = re.search(r"\(0 = first", options["tooltip"])
            if kind in ("INT", "FLOAT") and not key.endswith("seed") and not counted:
                assert upper_end(options["tooltip"]) == options["max"], (name, key)


def test_nodes_are_found_by_other_words():
    """Read in the sources, as older versions of ComfyUI drop them."""
    for path in (ROOT / "nodes").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "io.Schema":
                options = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
                assert any("search_aliases" in option for option in options), f"{path.name}:{call.lineno}"
