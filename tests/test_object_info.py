"""What workflows rely on: ids, inputs, defaults and outputs stay; those of earlier releases mean what they meant."""

import copy
import json

import pytest

from scripts.snapshot_nodes import EARLIER, FILE_LISTS, SNAPSHOT, differences, snapshot
from tests.engine.workflows import is_widget, to_api

RECORDED = json.loads(SNAPSHOT.read_text("utf-8"))
OLD_WORKFLOWS = {
    f"{path.stem.removeprefix('workflows_')} {name}": stored
    for path in sorted(EARLIER.glob("workflows_*.json"))
    for name, stored in json.loads(path.read_text("utf-8")).items()
}
REMEDY = "if it is meant: python -m scripts.snapshot_nodes, and say in CHANGELOG.md what becomes of old workflows"


def test_nodes_are_as_recorded(object_info):
    changed = differences(RECORDED, snapshot(object_info))
    assert not changed, "\n".join([*changed, REMEDY])


def changed_sheet(change):
    node = copy.deepcopy(RECORDED["SceneTok_RenderTrajectory"])
    change(node)
    return differences({"SceneTok_X": RECORDED["SceneTok_RenderTrajectory"]}, {"SceneTok_X": node})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda node: node["inputs"][3].update(default=9), "input 'steps': default 0 -> 9"),
        (lambda node: node["inputs"][3].pop("max"), "input 'steps': max 1000 -> None"),
        (lambda node: node["inputs"][3].update(optional=True), "input 'steps': optional None -> True"),
        (lambda node: node["inputs"].pop(3), "input 'steps': gone"),
        (
            lambda node: node["inputs"].insert(3, {"name": "mood", "type": "INT"}),
            "input 'mood': new, in place 3: values in old workflows shift",
        ),
        (lambda node: node["inputs"].append({"name": "mood", "type": "INT"}), "input 'mood': new, last"),
        (lambda node: node["outputs"][0].update(type="MASK"), "outputs: images (IMAGE), "),
        (lambda node: node.update(output_node=True), "output_node: False -> True"),
    ],
)
def test_every_change_is_told_in_one_line(change, line):
    (told,) = changed_sheet(change)
    assert told.startswith(f"SceneTok_X, {line}")


def test_new_lost_and_reordered_are_told():
    kept = RECORDED["SceneTok_RenderTrajectory"]
    assert differences({"SceneTok_A": kept}, {"SceneTok_B": kept}) == ["SceneTok_A: gone", "SceneTok_B: new"]
    (told,) = changed_sheet(lambda node: node["inputs"].reverse())
    assert told.startswith("SceneTok_X, order of inputs: model, ")


def test_lists_of_files_are_no_part_of_the_record():
    inputs = {(node, entry["name"]): entry for node, info in RECORDED.items() for entry in info["inputs"]}
    assert {place for place in FILE_LISTS if set(inputs[place]) & {"options", "default"}} == set()
    assert {
        place for place, entry in inputs.items() if entry["type"] == "COMBO" and "options" not in entry
    } == FILE_LISTS


@pytest.mark.parametrize("name", OLD_WORKFLOWS)
def test_workflows_of_earlier_releases_mean_what_they_meant(object_info, name):
    """Values are stored in the order of the inputs, without names: an input put among them would shift them."""
    assert to_api(OLD_WORKFLOWS[name], object_info) == OLD_WORKFLOWS[name]["prompt"]


@pytest.mark.parametrize("name", OLD_WORKFLOWS)
def test_the_values_of_earlier_releases_are_still_allowed(object_info, name):
    refused = []
    for node in OLD_WORKFLOWS[name]["prompt"].values():
        groups = object_info[node["class_type"]]["input"]
        offered = {**groups.get("required", {}), **groups.get("optional", {})}
        missing = [key for key in groups.get("required", {}) if key not in node["inputs"]]
        refused += [f"{node['class_type']}: {key} is required now" for key in missing]
        for key, value in node["inputs"].items():
            kind, *more = offered[key]
            options = more[0] if more else {}
            if isinstance(value, list) or not is_widget(offered[key]) or (node["class_type"], key) in FILE_LISTS:
                continue
            choices = kind if isinstance(kind, list) else options.get("options")
            fits = value in choices if choices else options.get("min", value) <= value <= options.get("max", value)
            refused += [] if fits else [f"{node['class_type']}: {key}={value!r}"]
    assert refused == []


def test_an_input_put_among_others_would_be_seen(object_info):
    """Otherwise the two tests above could not fail."""
    stored = OLD_WORKFLOWS["0.1 encode_render"]
    changed = copy.deepcopy(object_info)
    before = changed["SceneTok_RenderTrajectory"]["input"]["required"]
    changed["SceneTok_RenderTrajectory"]["input"]["required"] = {"mood": ["INT", {}], **before}
    try:
        assert to_api(stored, changed) != stored["prompt"]
    except ValueError as error:
        assert "stores no value" in str(error)
