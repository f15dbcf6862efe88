"""Files that are either complete or absent, under names that every system takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_NAME = 200  # bytes: systems take 255, and counters, suffixes and temporary names come on top
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9])\s*(\..*)?", re.IGNORECASE)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block succeeds and is deleted when it fails.

    The content is on the disk before the name is, so that a power failure leaves the old file or the new one, too.
    Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with the line ends that it has, on every system; the file appears whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed while they wrote to `folder`, or to a folder in it, have left there."""
    for path in folder.glob("**/.*.partial"):
        path.unlink(missing_ok=True)


def with_slashes(text: str) -> str:
    """A path that people wrote on any system, with `/` between its parts."""
    return text.replace("\\", "/")


def check_portable(text: str, what: str) -> None:
    """Raise `ValueError` unless the relative path `text`, with either kind of slashes, can be written on every system.

    Windows keeps the names of its devices (`CON`, `nul.txt`, `com1`), some characters, and dots or spaces at the end of
    a name for itself; a colon would write into a hidden stream of another file. `what` names the path in the message.
    """
    for name in filter(None, with_slashes(text).split("/")):
        fault = _fault(name)
        if fault:
            raise ValueError(f"{what} {text!r}: the name {name!r} {fault}; choose another one")


def is_device(name: str) -> bool:
    """Whether a file of this name would be a device on Windows, with any suffix and in any case."""
    return _DEVICES.fullmatch(name) is not None


def _fault(name: str) -> str:
    if name in (".", ".."):
        return ""
    if found := _FORBIDDEN.search(name):
        return f"holds {found[0]!r}, which Windows does not take"
    if is_device(name):
        return "is that of a device on Windows"
    if name.endswith((".", " ")):
        return "ends with a dot or space, which Windows drops"
    if len(name.encode()) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} bytes"
    return ""
