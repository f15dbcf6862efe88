"""A real ComfyUI for tests and the demo: find it, start it headless, talk to it over HTTP and its websocket."""

from __future__ import annotations

from .client import ComfyClient, Event, Preview, PromptRejectedError, Run, run_prompt
from .server import ComfyServer, Engine, EngineMissingError, find_comfy

__all__ = [
    "ComfyClient",
    "ComfyServer",
    "Engine",
    "EngineMissingError",
    "Event",
    "Preview",
    "PromptRejectedError",
    "Run",
    "find_comfy",
    "run_prompt",
]
