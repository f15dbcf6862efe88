"""`scripts/api_client.py` against a real ComfyUI server: uploads, progress, downloads, cancelling, several at once."""

import ast
import json
import shutil
import socket
import struct
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scenetok_core.pictures.video import read_video_frames
from scenetok_core.weights.checkpoints import load_scene
from scripts import api_client
from tests.served import FRAMES, STEPS, write_capture

SETTINGS = {
    "SceneTok_LoadModel.model": "small.safetensors",
    "SceneTok_CameraTrajectory.frames": FRAMES,
    "SceneTok_RenderTrajectory.steps": STEPS,
}
MINUTE_S = 60


def call(comfy, capture, out, *more, **settings):
    given = [f"{name}={value}" for name, value in {**SETTINGS, **settings}.items()]
    options = [word for setting in given for word in ("--set", setting)]
    return api_client.main([str(capture), "--url", comfy.url, "--out", str(out), *options, *more])


def shipped(**settings):
    prompt = json.loads(api_client.WORKFLOW.read_text(encoding="utf-8"))
    return api_client.changed(prompt, {**SETTINGS, "SceneTok_LoadViews.capture": "room", **settings})


def test_it_needs_nothing_but_python():
    tree = ast.parse(Path(api_client.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
def test_a_capture_goes_up_and_video_and_scene_come_down(comfy, tmp_path, capsys, packed):
    folder = tmp_path / f"caf\u00e9 {packed}"
    write_capture(folder)
    capture = Path(shutil.make_archive(str(folder), "zip", folder)) if packed else folder
    assert call(comfy, capture, tmp_path / "out", **{"SceneTok_RenderTrajectory.seed": 11 + packed}) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"uploaded {capture.name}"
    assert [line for line in told if line.startswith("Render Trajectory: ")][-1].split()[2::2] == ["6", "6"]
    video, scene = sorted((tmp_path / "out").iterdir(), key=lambda path: path.suffix)
    assert len(read_video_frames(video)[0]) == FRAMES
    assert load_scene(scene).preset == "small"


def test_refusals_and_failures_are_told(comfy, capture, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert call(comfy, tmp_path / "empty.zip", tmp_path) == 1
    assert "SceneTok_LoadViews: no cameras in" in capsys.readouterr().err
    assert call(comfy, tmp_path / "empty.zip", tmp_path, **{"SceneTok_CameraTrajectory.frames": 0}) == 1
    assert "Value 0 smaller than min of 1" in capsys.readouterr().err
    assert call(comfy, tmp_path / "empty.zip", tmp_path, **{"SceneTok_Nonsense.frames": 0}) == 1
    assert "'SceneTok_Nonsense.frames' fits 0 nodes" in capsys.readouterr().err
    assert call(comfy, tmp_path / "absent.zip", tmp_path) == 1
    assert "absent.zip" in capsys.readouterr().err


def test_prompts_of_several_clients_at_once_all_finish_each_with_its_own_files(comfy, capture):
    def work(seed):
        prompt = shipped(**{"SceneTok_RenderTrajectory.seed": 100 + seed, "SaveVideo.filename_prefix": f"many/{seed}"})
        with api_client.Client(comfy.url) as client:
            outputs = client.follow(client.queue(prompt), prompt)
            return [item["filename"] for item in api_client._saved_files(outputs) if item["filename"].endswith(".mp4")]

    with ThreadPoolExecutor(6) as pool:
        files = list(pool.map(work, range(6), timeout=MINUTE_S))
    assert files == [[f"{seed}_00001_.mp4"] for seed in range(6)]


def test_cancelled_prompts_waiting_or_running_leave_the_server_usable(comfy, capture):
    with api_client.Client(comfy.url) as client:
        long = shipped(**{"SceneTok_RenderTrajectory.steps": 1000, "SceneTok_CameraTrajectory.frames": 60})
        last = shipped(**{"SceneTok_RenderTrajectory.seed": 5})
        running, waiting, after = client.queue(long), client.queue(long), client.queue(last)
        client.cancel(waiting)
        asked = threading.Event()

        def cancel(title, done, total):
            if not asked.is_set():
                asked.set()
                client.cancel(running)

        with pytest.raises(api_client.ApiError, match="the prompt was cancelled"):
            client.follow(running, long, cancel)
        assert asked.is_set()
        outputs = client.follow(after, last)
        assert outputs
        with pytest.raises(api_client.ApiError, match="taken out of the queue"):
            client.follow(waiting, long, silence_s=0.2)
        client.cancel(after)  # has ended: touches nothing
        assert client.follow(client.queue(last), last) is not None


def test_only_the_named_prompt_is_cancelled(comfy, capture):
    with api_client.Client(comfy.url) as client:
        prompt = shipped(**{"SceneTok_RenderTrajectory.seed": 6})
        running = client.queue(prompt)
        client.cancel("another")
        assert client.follow(running, prompt)


@pytest.fixture
def ends():
    """A server's end of a connection, and a websocket on the other one."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened = []

    def greet():
        server, _ = listener.accept()
        while b"\r\n\r\n" not in server.recv(65536):
            pass
        server.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + frame(1, b"first"))
        opened.append(server)

    greeter = threading.Thread(target=greet)
    greeter.start()
    client = api_client.WebSocket(f"http://127.0.0.1:{listener.getsockname()[1]}/ws?clientId=1")
    greeter.join()
    yield opened[0], client
    client.close()
    for end in (*opened, listener):
        end.close()


def frame(opcode, payload, final=True):
    size = len(payload)
    if size >= 126:
        length = struct.pack(">BH", 126, size) if size < 2**16 else struct.pack(">BQ", 127, size)
    else:
        length = bytes([size])
    return bytes([0x80 * final | opcode]) + length + payload


def test_frames_of_every_length_and_kind_are_read(ends):
    server, client = ends
    assert client.receive(1) == "first"
    for size in (0, 125, 126, 2**16):
        server.sendall(frame(2, b"picture") + frame(1, b"x" * size))
        assert client.receive(1) == "x" * size


def test_a_message_in_pieces_with_a_ping_and_a_pause_between_is_one(ends):
    server, client = ends
    client.receive(1)
    server.sendall(frame(1, b"one ", final=False) + frame(9, b"ping"))
    assert client.receive(0.05) is None
    masked = server.recv(100)
    assert masked[:2] == bytes([0x8A, 0x84])
    assert bytes(byte ^ masked[2 + i % 4] for i, byte in enumerate(masked[6:])) == b"ping"
    server.sendall(frame(0, b"message"))
    assert client.receive(1) == "one message"


def test_a_lost_connection_is_an_error(ends):
    server, client = ends
    client.receive(1)
    server.sendall(frame(8, b""))
    with pytest.raises(ConnectionError, match="closed the connection"):
        client.receive(1)
