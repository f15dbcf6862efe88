"""Run a workflow on a ComfyUI server from a script: Python's standard library only, one file to copy.

python scripts/api_client.py my_capture.zip --url http://127.0.0.1:8188 --set SceneTok_CameraTrajectory.preset=orbit

uploads the capture (a .zip, or a folder with pictures and transforms.json), queues workflows/api/encode_render.json on
it, shows progress, and downloads what was saved: the video and the scene file.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import mimetypes
import os
import socket
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Progress = Callable[[str, int, int], None]  # title of the node, done, of

WORKFLOW = Path(__file__).resolve().parents[1] / "workflows" / "api" / "encode_render.json"
_TIMEOUT_S = 60.0
_SILENCE_S = 5.0  # without a message, the history is asked
_PAUSE_S = 0.05
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10  # opcodes of RFC 6455
_ENDS = ("execution_success", "execution_error", "execution_interrupted")


class ApiError(RuntimeError):
    """The server refused a prompt, a node failed, or the prompt was cancelled."""


class Client:
    """Talks to one ComfyUI server; use as a context manager, which holds the websocket open."""

    def __init__(self, url: str = "http://127.0.0.1:8188") -> None:
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex

    def __enter__(self) -> Client:
        self._socket = WebSocket(f"{self.url}/ws?clientId={self.client_id}")
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def get(self, path: str, **query: str) -> bytes:
        """The body of a GET request."""
        return self._ask(f"{path}?{urllib.parse.urlencode(query)}" if query else path)

    def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """The JSON answer of a POST request, empty when there is none. Raises `ApiError` with what the server says."""
        answer = self._ask(path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.loads(answer) if answer.startswith(b"{") else {}

    def upload(self, file: Path, subfolder: str = "") -> str:
        """Send a file into the input folder, in place of an older one; its path there."""
        boundary, kind = uuid.uuid4().hex, mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        fields = {"type": "input", "subfolder": subfolder, "overwrite": "true"}
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n'
        body = f"{head}Content-Type: {kind}\r\n\r\n".encode() + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        stored = json.loads(self._ask("/upload/image", body, headers))
        return "/".join(filter(None, (stored["subfolder"].replace("\\", "/"), stored["name"])))

    def upload_capture(self, place: Path) -> str:
        """Send a .zip, or a folder with its camera file and pictures; the name for Load Views."""
        if place.is_file():
            return self.upload(place)
        for file in sorted(path for path in place.rglob("*") if path.is_file()):
            self.upload(file, (Path(place.name) / file.relative_to(place).parent).as_posix())
        return place.name

    def queue(self, prompt: Mapping[str, Json]) -> str:
        """Queue an API-format prompt; its id. Raises `ApiError` when the server refuses all or some of it."""
        answer = self.post("/prompt", {"prompt": prompt, "client_id": self.client_id})
        if answer.get("node_errors"):
            if "prompt_id" in answer:  # the server would run the rest of it
                self.cancel(answer["prompt_id"])
            raise ApiError(_refusal(answer))
        return answer["prompt_id"]

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or stop it when it runs; others are not touched."""
        self.post("/queue", {"delete": [prompt_id]})
        self.post("/interrupt", {"prompt_id": prompt_id})

    def message(self, silence_s: float = _SILENCE_S) -> Json | None:
        """The server's next message, {"type", "data"}; None when there is none for `silence_s` seconds."""
        text = self._socket.receive(silence_s)
        return None if text is None else json.loads(text)

    def history(self, prompt_id: str) -> Json | None:
        """What the server keeps of a prompt that has ended; None before."""
        return json.loads(self.get(f"/history/{prompt_id}")).get(prompt_id)

    def queued(self, prompt_id: str) -> bool:
        """Whether a prompt waits or runs."""
        lists = json.loads(self.get("/queue"))
        return any(entry[1] == prompt_id for entries in lists.values() for entry in entries)

    def follow(
        self,
        prompt_id: str,
        prompt: Mapping[str, Json],
        progress: Progress | None = None,
        silence_s: float = _SILENCE_S,
    ) -> Json:
        """Wait for the end of a prompt; the outputs by node id. After `silence_s` seconds without news, it asks.

        Raises:
            ApiError: a node failed, or the prompt was cancelled.
        """
        ended = False
        while True:
            message = self.message(_PAUSE_S if ended else silence_s)
            kind, data = ("", {}) if message is None else (message["type"], message.get("data") or {})
            mine = data.get("prompt_id") == prompt_id
            if mine and kind == "progress" and progress is not None:
                progress(_title(prompt, data["node"]), data["value"], data["max"])
            ended = ended or (mine and kind in _ENDS)
            if ended or message is None:  # the history follows the last message, which may get lost
                waits = self.queued(prompt_id)
                entry = self.history(prompt_id)
                if entry is not None:
                    return _outputs(entry)
                if not waits and not ended:
                    raise ApiError("the prompt was taken out of the queue")

    def download(self, outputs: Mapping[str, Json], folder: Path) -> list[Path]:
        """Fetch every file that nodes saved in the output folder; previews stay on the server."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for item in _saved_files(outputs):
            target = folder / Path(item["filename"]).name
            target.write_bytes(self.get("/view", **item))
            files.append(target)
        return files

    def _ask(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            raise ApiError(_refusal(json.loads(text)) if text.startswith("{") else f"{error}: {text[:200]}") from error


class WebSocket:
    """As much of RFC 6455 as ComfyUI needs: text messages of the server, and answers to its pings."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        host, secure = parts.hostname or "127.0.0.1", parts.scheme == "https"
        self._socket = socket.create_connection((host, parts.port or (443 if secure else 80)), _TIMEOUT_S)
        if secure:
            self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=host)
        self._buffer, self._message, self._opcode = b"", b"", _TEXT
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.splitlines()[0]:
            raise ConnectionError(f"{parts.netloc} opens no websocket: {head.splitlines()[0].decode()}")

    def receive(self, timeout_s: float) -> str | None:
        """The next text message; None when nothing comes for `timeout_s` seconds."""
        while self._wait(timeout_s):
            final, opcode, payload = self._frame()
            if opcode >= _CLOSE:
                self._answer(opcode, payload)
                continue
            self._message, self._opcode = self._message + payload, opcode or self._opcode
            if final:
                message, self._message = self._message, b""
                if self._opcode == _TEXT:  # else a preview picture
                    return message.decode()
        return None

    def close(self) -> None:
        """Say goodbye and end the connection."""
        with contextlib.suppress(OSError):
            self._send(_CLOSE, b"")
        self._socket.close()

    def _wait(self, timeout_s: float) -> bool:
        """Whether a frame begins within `timeout_s` seconds."""
        self._socket.settimeout(timeout_s)
        try:
            if not self._buffer:
                self._more()
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(_TIMEOUT_S)
        return True

    def _answer(self, opcode: int, payload: bytes) -> None:
        if opcode == _CLOSE:
            raise ConnectionError("the server closed the connection")
        if opcode == _PING:
            self._send(_PONG, payload)

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._take(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self._take(2 if length == 126 else 8), "big")
        return bool(first & 0x80), first & 0x0F, self._take(length)

    def _send(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)  # clients must
        hidden = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._socket.sendall(bytes((0x80 | opcode, 0x80 | len(payload))) + mask + hidden)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server ended the connection")
        self._buffer += data


def changed(prompt: Mapping[str, Json], settings: Mapping[str, Any]) -> dict[str, Json]:
    """A copy of a prompt with other inputs, {"SceneTok_LoadViews.capture": "room"}: class or id of a node, input.

    Raises:
        ValueError: no such node, or several of that class.
    """
    result: dict[str, Json] = json.loads(json.dumps(prompt))
    for name, value in settings.items():
        node, _, key = name.rpartition(".")
        found = [one for number, one in result.items() if node in (number, one["class_type"])]
        if len(found) != 1:
            known = ", ".join(f"{number} ({one['class_type']})" for number, one in result.items())
            raise ValueError(f"{name!r} fits {len(found)} nodes, expected one of {known}")
        found[0]["inputs"][key] = value
    return result


def _title(prompt: Mapping[str, Json], node: str) -> str:
    return prompt[node].get("_meta", {}).get("title", prompt[node]["class_type"]) if node in prompt else node


def _refusal(answer: Json) -> str:
    """The reasons in an answer of the server."""
    faults = [fault for node in answer.get("node_errors", {}).values() for fault in node["errors"]]
    faults = faults or [answer.get("error", answer)]
    return "; ".join(f"{fault.get('message')} {fault.get('details', '')}".strip() for fault in faults)


def _outputs(entry: Json) -> Json:
    """The outputs of an entry of the history. Raises `ApiError` for a prompt that did not succeed."""
    for kind, data in entry.get("status", {}).get("messages", []):
        if kind == "execution_error":
            raise ApiError(f"{data['node_type']}: {data['exception_message'].strip()}")
        if kind == "execution_interrupted":
            raise ApiError("the prompt was cancelled")
    return entry["outputs"]


def _saved_files(outputs: Mapping[str, Json]) -> Iterator[dict[str, str]]:
    for node in outputs.values():
        for value in node.values():
            for item in value if isinstance(value, list) else ():
                if isinstance(item, dict) and item.get("type") == "output":
                    yield {key: item[key] for key in ("filename", "subfolder", "type")}


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def run(options: argparse.Namespace) -> None:
    """Upload, queue, follow, download."""
    prompt = json.loads(options.workflow.read_text(encoding="utf-8"))
    with Client(options.url) as client:
        settings = dict(map(_setting, options.set))
        if options.capture is not None:
            settings["SceneTok_LoadViews.capture"] = client.upload_capture(options.capture)
            print(f"uploaded {settings['SceneTok_LoadViews.capture']}")
        prompt = changed(prompt, settings)
        prompt_id = client.queue(prompt)
        try:
            outputs = client.follow(
                prompt_id, prompt, lambda title, done, total: print(f"{title}: {done} of {total}", flush=True)
            )
        except KeyboardInterrupt:
            client.cancel(prompt_id)
            raise
        for file in client.download(outputs, options.out):
            print(f"wrote {file}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Run a workflow on a ComfyUI server and fetch what it saved.")
    parser.add_argument("capture", nargs="?", type=Path, help=".zip or folder to upload (default: the example's)")
    parser.add_argument("--url", default="http://127.0.0.1:8188", help="of the server (default %(default)s)")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="in API format (default: encode_render)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="another input (repeatable)"
    )
    parser.add_argument("--out", type=Path, default=Path("output", "api"), help="folder for the files")
    try:
        run(parser.parse_args(arguments))
    except (ApiError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
