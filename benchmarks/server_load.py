"""Many prompts for one ComfyUI server: `python -m benchmarks.server_load --json FILE`.

Queues the main workflow many times, some of them with bad input, and cancels some at random, half of these while they
wait and half while they run. All others must finish, and the server's memory must return to where it was after the
first prompt. The exit status tells.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from scenetok_core.files import write_text
from scripts.api_client import WORKFLOW, ApiError, Client, Json, changed
from tests.engine import ComfyServer, find_comfy

ROOT = Path(__file__).resolve().parents[1]
BAD: tuple[dict[str, Any], ...] = (  # by turns refused at once and failing when the node runs
    {"SceneTok_CameraTrajectory.frames": 0},
    {"SceneTok_EncodeViews.reference": 999},
    {"SceneTok_LoadViews.capture": "../../etc"},
    {"SceneTok_CameraTrajectory.preset": "keyframes", "SceneTok_CameraTrajectory.keyframes": "[{]"},
    {"SceneTok_LoadModel.model": "absent.safetensors"},
)
_MIB = 2**20
_MOST_GROWTH = 1.1
_SETTLE_S = 2.0
_SILENCE_S = 5.0
_SEED = "SceneTok_RenderTrajectory.seed"


@dataclass
class Load:
    """What became of the prompts, and the server's memory in MiB."""

    finished: int = 0
    cancelled: int = 0
    failed: int = 0  # with an error of a node
    refused: int = 0  # before they were queued
    lost: list[str] = field(default_factory=list)  # should have finished, with what became of them
    first_mib: float = 0.0  # resident, after the first prompt
    most_mib: float = 0.0  # resident, seen after any prompt
    last_mib: float = 0.0  # resident, after all
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was lost and the memory came back."""
        return not self.lost and self.last_mib <= _MOST_GROWTH * self.first_mib


def put_load(server: ComfyServer, prompt: Mapping[str, Json], good: int, cancelled: int, bad: int, seed: int) -> Load:
    """Run one prompt, then `good` and `bad` ones at once, of the good ones `cancelled` are cancelled.

    Args:
        server: running, with nothing in its queue.
        prompt: the main workflow in API format, which must succeed.
        good: number of prompts that can succeed.
        cancelled: how many of them to cancel.
        bad: number of prompts that cannot.
        seed: of what is cancelled, and of the order.
    """
    dice, load = random.Random(seed), Load()
    with Client(server.url) as client:
        client.follow(client.queue(prompt), prompt)
        load.first_mib = load.most_mib = _resident_mib(server)
        began = time.monotonic()
        ids, broken = _queue_all(client, prompt, good, bad, dice, load)
        chosen = dice.sample(ids, cancelled)
        running = set(chosen[::2])
        for prompt_id in chosen[1::2]:
            client.cancel(prompt_id)
        _watch(client, server, load, running)
        load.seconds = time.monotonic() - began
        for prompt_id in (*ids, *broken):
            _count(client, prompt_id, load, may_end=prompt_id in chosen or prompt_id in broken)
    time.sleep(_SETTLE_S)
    load.last_mib = _resident_mib(server)
    return load


def _queue_all(
    client: Client, prompt: Mapping[str, Json], good: int, bad: int, dice: random.Random, load: Load
) -> tuple[list[str], list[str]]:
    """Ids of prompts that can succeed, and of those that cannot but were not refused; in mixed order."""
    kinds = [*[None] * good, *(BAD[i % len(BAD)] for i in range(bad))]
    dice.shuffle(kinds)
    ids: list[str] = []
    broken: list[str] = []
    for number, fault in enumerate(kinds):
        settings = {_SEED: 1000 + number, **(fault or {})}
        try:
            (broken if fault else ids).append(client.queue(changed(prompt, settings)))
        except ApiError:
            if fault is None:
                raise
            load.refused += 1
    return ids, broken


def _watch(client: Client, server: ComfyServer, load: Load, running: set[str]) -> None:
    """Wait until the queue is empty; cancel those in `running` as soon as they make progress."""
    while True:
        message = client.message(_SILENCE_S)
        if message is None or message["type"] == "status":
            queue = json.loads(client.get("/queue"))
            if not any(queue.values()):
                return
            load.most_mib = max(load.most_mib, _resident_mib(server))
        elif message["type"] == "progress" and message["data"]["prompt_id"] in running:
            running.discard(message["data"]["prompt_id"])
            client.cancel(message["data"]["prompt_id"])


def _count(client: Client, prompt_id: str, load: Load, may_end: bool) -> None:
    entry = client.history(prompt_id)
    kinds = [kind for kind, _ in entry["status"]["messages"]] if entry else []
    if "execution_success" in kinds:
        load.finished += 1
    elif entry is None or "execution_interrupted" in kinds:
        load.cancelled += 1
    else:
        load.failed += 1
    if "execution_success" not in kinds and not may_end:
        load.lost.append(f"{prompt_id}: {kinds or 'not in the history'}")


def _resident_mib(server: ComfyServer) -> float:
    assert server.process is not None, "the server runs"
    return machine.resident_of_process(server.process.pid) / _MIB


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Many prompts for one ComfyUI server.")
    parser.add_argument("--prompts", type=int, default=50, help="that can succeed (default %(default)s)")
    parser.add_argument("--cancelled", type=int, default=10, help="of them (default %(default)s)")
    parser.add_argument("--bad", type=int, default=5, help="prompts with bad input (default %(default)s)")
    parser.add_argument("--frames", type=int, default=48, help="of each path (default %(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="of sampling (default 0: the model's own)")
    parser.add_argument("--seed", type=int, default=0, help="of what is cancelled and when")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    settings = {"SceneTok_CameraTrajectory.frames": options.frames, "SceneTok_RenderTrajectory.steps": options.steps}
    prompt = changed(json.loads(WORKFLOW.read_text(encoding="utf-8")), settings)
    arguments = () if torch.cuda.is_available() else ("--cpu",)
    with tempfile.TemporaryDirectory(prefix="scenetok_load_") as folder:
        engine = find_comfy(Path(folder))
        with ComfyServer(engine, Path(folder) / "base", {"scenetok": ROOT}, arguments) as server:
            load = put_load(server, prompt, options.prompts, options.cancelled, options.bad, options.seed)
    for name, value in asdict(load).items():
        print(f"{name:<12} {value:.1f}" if isinstance(value, float) else f"{name:<12} {value}")
    if options.json is not None:
        facts = {"machine": machine.describe(torch.device("cpu")), "settings": vars(options) | {"json": None}}
        write_text(options.json, json.dumps({**facts, **asdict(load)}, indent=1) + "\n")
    print("passed" if load.passed else "FAILED")
    return 0 if load.passed else 1


if __name__ == "__main__":
    sys.exit(main())
