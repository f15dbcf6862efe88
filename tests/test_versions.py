"""What earlier versions of the pack wrote keeps opening, and what later ones write asks for an update."""

import json
from typing import Any

import pytest
import torch

from scenetok_core.points.fusion import PointCloud
from scenetok_core.trajectories.keys import read_keyed_path
from scenetok_core.types import Cameras, SceneTokens
from scenetok_core.versions import NewerVersionError, Versions
from scenetok_core.weights.checkpoints import load_scene
from scripts.snapshot_nodes import EARLIER

READERS = {
    "SCENE_CAMERAS": Cameras.from_dict,
    "SCENE_TOKENS": SceneTokens.from_dict,
    "SCENE_POINTS": PointCloud.from_dict,
}


def tensors(value) -> Any:
    """Recorded values with tensors in place of lists that say what they were."""
    if isinstance(value, dict) and set(value) == {"dtype", "values"}:
        return torch.tensor(value["values"], dtype=getattr(torch, value["dtype"]))
    return {key: tensors(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def recorded(version):
    return tensors(json.loads((EARLIER / f"values_{version}.json").read_text("utf-8")))


def check_cameras(cameras):
    assert cameras.c2w[:, 0, 3].tolist() == [0.0, 0.5]
    assert cameras.K[1].tolist() == [[0.75, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]
    assert (cameras.size, cameras.names, cameras.unit) == ((48, 64), ("a.png", "b.png"), "metric")


def check_scene(scene):
    assert scene.tokens[:, 0].tolist() == [1.5, 0.625, 0.375, -0.375]
    assert scene.mask is not None and scene.mask.tolist() == [True, True, False, True]
    assert (scene.scene_scale, scene.family, scene.preset) == (1.5, "scenetok", "scenetok-tiny")
    assert (scene.model_hash, scene.meta["title"]) == ("0123abcd", "A room")
    assert scene.reference_c2w[0, 3] == 0.25
    check_cameras(scene.cameras)


@pytest.mark.parametrize("version", [1])
def test_recorded_values_and_files_open(version):
    values = recorded(version)
    check_cameras(Cameras.from_dict(values["SCENE_CAMERAS"]))
    check_scene(SceneTokens.from_dict(values["SCENE_TOKENS"]))
    check_scene(load_scene(EARLIER / f"scene_{version}.safetensors"))
    points = PointCloud.from_dict(values["SCENE_POINTS"])
    assert (points.xyz[1].tolist(), points.rgb[0, 2], points.normals[1, 1]) == ([1.0, 0.25, 3.0], 0.5, -1.0)
    check_cameras(points.cameras)
    path = read_keyed_path(values["keyframes"])
    assert (path.entries[0], len(path.entries), path.easing) == ({"view": 0}, 2, "ease-in-out")


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(("version", "error"), [(2, NewerVersionError), ("2", ValueError), (0, ValueError)])
def test_versions_that_are_newer_or_none_are_refused(kind, version, error):
    """Also where a newer version has none of today's keys."""
    for values in (recorded(1)[kind], {}):
        message = "update the pack" if error is NewerVersionError else "expected a whole number from 1"
        with pytest.raises(error, match=f"version {version!r}.*{message}"):
            READERS[kind]({**values, "version": version})


def test_values_are_brought_up_to_date_step_by_step_and_left_alone():
    def renamed(data):
        return {**{key: value for key, value in data.items() if key != "fov"}, "degrees": data["fov"]}

    def halved(data):
        return {**data, "half": data["degrees"] / 2}

    versions = Versions("lenses", (renamed, halved))
    first, second, third = {"fov": 50}, {"version": 2, "degrees": 50}, {"version": 3, "half": 25}
    assert versions.newest == 3
    assert [versions.upgrade(data)["half"] for data in (first, second, third)] == [25, 25, 25]
    assert first == {"fov": 50}
    with pytest.raises(
        NewerVersionError, match="these lenses have version 4, this pack reads up to 3; update the pack"
    ):
        versions.upgrade({"version": 4})
