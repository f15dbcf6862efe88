"""HTTP and websocket client of a ComfyUI server."""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Json = dict[str, Any]
OnEvent = Callable[["ComfyClient", "Event"], Awaitable[None]]

_PREVIEW_IMAGE = 1
_END_OF_RUN = ("execution_success", "execution_error", "execution_interrupted")
_HISTORY_TRIES = 100
_HISTORY_PAUSE_S = 0.05


@dataclass(frozen=True)
class Event:
    """A text message of the websocket."""

    type: str
    data: Json


@dataclass(frozen=True)
class Preview:
    """A preview picture sent while a node runs."""

    image: bytes  # JPEG or PNG file


@dataclass(frozen=True)
class Run:
    """Everything a prompt gave: its messages in order, the previews and the entry in the history."""

    prompt_id: str
    events: tuple[Event, ...]
    previews: tuple[Preview, ...]
    history: Json = field(repr=False)

    @property
    def outputs(self) -> Json:
        """Node id -> what its `ui` listed."""
        return self.history.get("outputs", {})

    @property
    def status(self) -> str:
        """`execution_success`, `execution_error` or `execution_interrupted`."""
        return self.events[-1].type

    @property
    def error(self) -> str:
        """Message of the failed node, or an empty string."""
        return self.events[-1].data.get("exception_message", "") if self.status == "execution_error" else ""

    def of_type(self, kind: str) -> list[Json]:
        """The data of all messages of one type."""
        return [event.data for event in self.events if event.type == kind]

    @property
    def executed(self) -> list[str]:
        """Ids of the nodes that ran (cached ones did not), in order."""
        return [data["node"] for data in self.of_type("executing") if data.get("node")]


class PromptRejectedError(RuntimeError):
    """The server refused a prompt or some of its nodes; `node_errors` says why, by node id."""

    def __init__(self, answer: Json) -> None:
        self.node_errors: Json = answer.get("node_errors", {})
        super().__init__(json.dumps(answer)[:2000])


class ComfyClient:
    """One websocket connection; use as an async context manager."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client_id = uuid.uuid4().hex

    async def __aenter__(self) -> ComfyClient:
        self._session = aiohttp.ClientSession()
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        self._socket = await self._session.ws_connect(address, max_msg_size=0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._socket.close()
        await self._session.close()

    async def get_json(self, path: str) -> Any:
        """JSON answer of a GET request."""
        async with self._session.get(self.url + path) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Json]:
        """Status and JSON answer (empty if there is none) of a POST request."""
        async with self._session.post(self.url + path, json=body) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith("{") else {}

    async def interrupt(self) -> None:
        """Cancel the running prompt."""
        await self.post("/interrupt", {})

    async def queue(self, prompt: Mapping[str, Json]) -> str:
        """Queue an API-format prompt and return its id.

        Raises:
            PromptRejectedError: the server refused it, or accepted only some of its outputs.
        """
        status, answer = await self.post("/prompt", {"prompt": prompt, "client_id": self.client_id})
        if status != 200 or answer.get("node_errors"):
            raise PromptRejectedError(answer)
        return answer["prompt_id"]

    async def messages(self) -> AsyncIterator[Event | Preview]:
        """Messages of the websocket, as they come."""
        async for message in self._socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                content = json.loads(message.data)
                yield Event(content["type"], content.get("data") or {})
            elif (
                message.type == aiohttp.WSMsgType.BINARY and struct.unpack(">I", message.data[:4])[0] == _PREVIEW_IMAGE
            ):
                yield Preview(message.data[8:])

    async def follow(self, prompt_id: str, on_event: OnEvent | None = None) -> Run:
        """Collect messages until the prompt ends, then read its history; `on_event` sees every text message."""
        events: list[Event] = []
        previews: list[Preview] = []
        async for message in self.messages():
            if isinstance(message, Preview):
                previews.append(message)
                continue
            events.append(message)
            if on_event is not None:
                await on_event(self, message)
            if message.type in _END_OF_RUN and message.data.get("prompt_id") == prompt_id:
                break
        return Run(prompt_id, tuple(events), tuple(previews), await self._history(prompt_id))

    async def _history(self, prompt_id: str) -> Json:
        for _ in range(_HISTORY_TRIES):  # it is written just after the last message
            entries = await self.get_json(f"/history/{prompt_id}")
            if prompt_id in entries:
                return entries[prompt_id]
            await asyncio.sleep(_HISTORY_PAUSE_S)
        raise TimeoutError(f"prompt {prompt_id} ended but never reached the history")


def run_prompt(url: str, prompt: Mapping[str, Json], on_event: OnEvent | None = None, timeout_s: float = 120) -> Run:
    """Queue a prompt on the server at `url` and wait for its end.

    Raises:
        PromptRejectedError: the server refused it.
        TimeoutError: it did not end within `timeout_s` seconds.
    """

    async def go() -> Run:
        async with ComfyClient(url) as client:
            return await client.follow(await client.queue(prompt), on_event)

    return asyncio.run(asyncio.wait_for(go(), timeout_s))
