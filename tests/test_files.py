"""File names and text files that are the same on every system."""

import signal

import pytest
import torch

from scenetok_core.captures import open_capture, write_cameras_json, write_transforms
from scenetok_core.files import check_portable, replacing, with_slashes, write_text
from scenetok_core.pictures.sheets import save_image
from tests import small
from tests.captures import write_realestate
from training.config import MUON, OptimConfig
from training.ema import Ema
from training.optim import SkippingOptimizer
from training.state import Trained, load_state, save_state
from training.stopping import stop_requests


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("CON", "device"),
        ("scenes/nul.safetensors", "device"),
        ("Aux .txt", "device"),
        ("runs\\COM7\\x", "device"),
        ("what?", "'?'"),
        ("a:stream", "':'"),
        ("C:\\x", "':'"),
        ("tab\tx", "tab|\\\\t"),
        ("x.", "dot or space"),
        ("folder /x", "dot or space"),
        ("\u00e9" * 101, "longer than 200 bytes"),
    ],
)
def test_names_that_not_every_system_takes_are_refused(name, fault):
    with pytest.raises(ValueError, match=rf"^prefix .*({fault}).*choose another one$"):
        check_portable(name, "prefix")


@pytest.mark.parametrize(
    "name", ["console", "com10", "nulls/x.y", ".hidden", "a b", "../x", "caf\u00e9", "x" * 200, "%year%"]
)
def test_other_names_are_taken(name):
    check_portable(name, "prefix")


def test_both_kinds_of_slashes_part_a_path():
    assert with_slashes("captures\\room/images\\0.png") == "captures/room/images/0.png"


def test_text_is_written_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "new folder" / "x.txt", "one\ntwo\r\n\u00e9")
    assert (tmp_path / "new folder" / "x.txt").read_bytes() == b"one\ntwo\r\n\xc3\xa9"


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "x").write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), replacing(tmp_path / "x") as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("x", "old")]


@pytest.mark.parametrize(
    ("file", "write", "more"),
    [("transforms.json", write_transforms, [(16, 16)]), ("cameras.json", write_cameras_json, [])],
)
def test_a_capture_written_with_names_of_windows_opens_everywhere(tmp_path, file, write, more):
    views = small.views(2)
    for i, picture in enumerate(views.rgb):
        save_image(tmp_path / "images" / f"{i}.png", picture)
    write(tmp_path / file, views.cameras, ["images\\0.png", "images\\1.png"], *more)
    assert b"\\" not in (tmp_path / file).read_bytes()
    capture = open_capture(tmp_path / file)
    assert capture.names == ("0.png", "1.png")
    assert torch.allclose(capture.load().rgb, views.rgb, atol=1 / 255)


def test_camera_files_with_windows_line_ends_and_byte_order_mark(tmp_path):
    write_realestate(tmp_path)
    (path,) = tmp_path.glob("*.txt")
    before = open_capture(tmp_path).cameras
    text = path.read_text(encoding="utf-8")
    path.write_text("\ufeff" + text, encoding="utf-8", newline="\r\n")
    assert path.read_bytes().count(b"\r\n") == text.count("\n") > 0
    assert torch.equal(open_capture(tmp_path).cameras.c2w, before.c2w)


@pytest.mark.skipif(not hasattr(signal, "SIGBREAK"), reason="only Windows has Ctrl+Break")
def test_control_break_asks_for_a_stop():
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGBREAK)  # type: ignore[attr-defined]
    assert stop.is_set()


def trained():
    model = torch.nn.Linear(64, 64)
    return Trained(model, Ema(model, 0.9), SkippingOptimizer(model, OptimConfig()))


def test_a_resumed_run_does_not_hang_on_the_state_it_came_from(tmp_path):
    """Windows deletes no file that is mapped, and old states are deleted while a run goes on."""
    first, second = trained(), trained()
    first.model(torch.rand(4, 64)).sum().backward()
    first.optimizer.step()
    fingerprint = {MUON: False}
    path = save_state(tmp_path, first, {}, fingerprint, keep=1)
    load_state(path, second, fingerprint)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name
