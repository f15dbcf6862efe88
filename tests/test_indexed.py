"""Evaluation indices of real captures, with the small captures of every format."""

import json
import math

import pytest
import torch

from scenetok_core.types import Views
from tests import small, videos
from tests.captures import NAMES, write_camera_folder, write_colmap_text
from training.data.dl3dv import open_dl3dv
from training.data.videos import open_captures
from training.evaluate import main
from training.indexed import IndexBenchmark, IndexEntry, SceneNames, read_index

SIDE = small.IMAGE
ENTRY = {"context": [0, 2], "target": [1]}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    write_camera_folder(folder / "first")
    write_colmap_text(folder / "second")
    return folder


def test_an_index_names_frames_and_scenes_to_skip(tmp_path):
    entries = {"a": {**ENTRY, "overlap": 0.5}, "b": None}
    assert read_index(write(tmp_path / "index.json", entries)) == {"a": IndexEntry((0, 2), (1,)), "b": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no readable JSON"),
        ([ENTRY], "object from scene names to frames, got a list"),
        ({}, "names no scene to measure"),
        ({"a": None}, r"names no scene to measure \(1 entries"),
        ({"a": [0, 1]}, "scene a must be .* or null"),
        ({"a": {"context": [0]}}, "'target' of scene a must be a list of frame numbers"),
        ({"a": {"context": [], "target": [1]}}, "'context' of scene a"),
        ({"a": {"context": [0, -1], "target": [1]}}, "'context' of scene a"),
        ({"a": {"context": [0, True], "target": [1]}}, "'context' of scene a"),
        ({"a": {"context": [0], "target": ["1"]}}, "'target' of scene a"),
    ],
)
def test_a_broken_index_is_explained(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_index(write(tmp_path / "index.json", content))


def test_a_missing_index_is_explained(tmp_path):
    with pytest.raises(ValueError, match="no readable JSON"):
        read_index(tmp_path / "none.json")


def test_the_frames_are_those_of_the_index(data):
    index = {"first": IndexEntry((2, 0), (1,)), "skipped": None, "second": IndexEntry((0,), (2, 1))}
    benchmark = IndexBenchmark("test", index, open_captures(data), SIDE)
    assert len(benchmark) == 2
    first, second = benchmark.cases()
    assert first.inputs.cameras.names == (NAMES[2], NAMES[0]) and first.targets.cameras.names == (NAMES[1],)
    assert second.targets.cameras.names == (NAMES[2], NAMES[1])
    assert first.inputs.rgb.shape == (2, 3, SIDE, SIDE)
    assert (first.name, first.seed, second.name, second.seed) == ("first", 0, "second", 2)
    assert benchmark.figures() == {"scenes_skipped_by_index": 1, "scenes_unreadable": 0}


def test_scenes_that_cannot_be_read_are_left_out_and_named(data):
    index = {
        "missing": IndexEntry((0,), (1,)),
        "../elsewhere": IndexEntry((0,), (1,)),
        "first": IndexEntry((0,), (3,)),
        "second": IndexEntry((0,), (1,)),
    }
    benchmark = IndexBenchmark("test", index, open_captures(data), SIDE)
    assert [case.name for case in benchmark.cases()] == ["second"]
    reasons = benchmark.left_out()
    assert set(reasons) == {"missing", "../elsewhere", "first"}
    assert reasons["missing"] == reasons["../elsewhere"] == "not in the data"
    assert "asks for frame 3, counted from 0, and there are 3" in reasons["first"]
    entry = IndexEntry((0,), (1,))
    first_only = IndexBenchmark("test", {"first": entry, "second": entry}, open_captures(data), SIDE, 1)
    assert [case.name for case in first_only.cases()] == ["first"]


class Named:
    """`Videos` of which only the names matter."""

    def __init__(self, *names):
        self.names = names

    def open(self, name):
        raise PermissionError(f"no key to {name}")


def test_scenes_are_found_by_the_names_that_published_indices_give_them():
    names = SceneNames(["1K/aa", "1K/bb", "2K/bb", "cc", "dd_1", "1K/cc"])
    found = {name: names.find(name) for name in ("1K/aa", "aa", "aa_1", "1K/bb", "2K/bb_1", "cc", "cc_1", "dd_1")}
    assert found == {
        "1K/aa": "1K/aa", "aa": "1K/aa", "aa_1": "1K/aa", "1K/bb": "1K/bb", "2K/bb_1": "2K/bb", "cc": "cc",
        "cc_1": "cc", "dd_1": "dd_1",
    }  # fmt: skip
    for name in ("ee", "dd", "aa_2", "K/aa", ""):
        with pytest.raises(ValueError, match="not in the data"):
            names.find(name)
    with pytest.raises(ValueError, match="several scenes in the data are called 'bb': 1K/bb, 2K/bb"):
        names.find("bb_1")


def test_scenes_of_dl3dv_are_measured_by_the_keys_of_its_index_for_wan(tmp_path):
    videos.write_dl3dv(tmp_path)
    index = {"aa_1": IndexEntry((0, 5), (2,)), "bb_1": IndexEntry((1,), (3,))}
    benchmark = IndexBenchmark("test", index, open_dl3dv(tmp_path, SIDE), SIDE)
    assert [case.name for case in benchmark.cases()] == ["1K/aa", "1K/bb"]
    assert benchmark.left_out() == {}


def test_files_that_cannot_be_opened_leave_their_scene_out():
    benchmark = IndexBenchmark("test", {"a": IndexEntry((0,), (1,))}, Named("a", "b"), SIDE)
    with pytest.raises(ValueError, match=r"a: no key to a\. The data hold 2 scenes, such as 'a'"):
        list(benchmark.cases())
    assert benchmark.left_out() == {"a": "no key to a"}


def test_no_readable_scene_is_an_error(data):
    benchmark = IndexBenchmark("test", {"missing": IndexEntry((0,), (1,))}, open_captures(data), SIDE)
    with pytest.raises(ValueError, match="none of the 1 scenes of test can be read; missing: not in the data"):
        list(benchmark.cases())


class Memory:
    """A `PosedVideo` of another origin."""

    name, latents = "memory", None

    def __init__(self):
        self.views = small.views(6)
        self.cameras = self.views.cameras

    def frames(self, indices, size):
        assert size == SIDE
        return self.views[list(indices)]


class Memories:
    """`Videos` of another origin."""

    names = ("memory",)

    def __init__(self):
        self.video = Memory()

    def open(self, name):
        return self.video


def test_any_source_of_posed_videos_will_do_and_consecutive_frames_are_a_path():
    memories = Memories()
    index = {
        "memory": IndexEntry((0, 5), (1, 2, 3)),
        "unknown": IndexEntry((0,), (1,)),
    }
    benchmark = IndexBenchmark("test", index, memories, SIDE)
    (case,) = benchmark.cases()
    assert benchmark.left_out() == {"unknown": "not in the data"}
    assert case.path is not None
    path = case.path()
    assert isinstance(path, Views) and torch.equal(path.rgb, memories.video.views.rgb[1:4])
    for target in ((1, 3, 5), (1, 2), (3, 2, 1), (2, 2, 2)):
        assert not IndexEntry((0,), target).is_path


def test_an_index_is_evaluated_from_the_command_line(data, tmp_path, capsys):
    entries = {"first": ENTRY, "absent": ENTRY, "second": {"context": [0, 2], "target": [0, 1, 2]}, "null": None}
    index, target, report = write(tmp_path / "re10k.json", entries), tmp_path / "out.json", tmp_path / "out.md"
    options = ["--json", str(target), "--checkpoint", str(small.checkpoint(tmp_path)), "--markdown", str(report)]
    assert main(["--index", str(index), "--data", str(data), *options]) == 0
    figures = json.loads(target.read_text())
    assert (figures["protocol"], figures["scenes"], figures["targets"]) == ("re10k", 2, 4)
    assert (figures["scenes_unreadable"], figures["scenes_skipped_by_index"]) == (1, 1)
    assert all(math.isfinite(value) for value in figures.values() if not isinstance(value, str))
    assert {"posterior_mean_psnr", "nearest_psnr", "permutation_max_difference", "sample_flicker"} < set(figures)
    assert "posterior_mean_gap_closed" not in figures  # nobody knows the depth
    for text in (report.read_text(), capsys.readouterr().out):
        assert "- absent: not in the data" in text
        assert "- pose offsets: need a world" in text
