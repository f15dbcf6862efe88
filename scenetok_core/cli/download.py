"""`download`: released weights -> a folder."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ..downloads import KNOWN_FILES, address_of, download, known_file, published_size
from .common import MODEL_FOLDER, bar, in_bytes, writing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("name", help="a known file, with or without its suffix; or list, which shows them all")
    parser.add_argument(
        "--folder", type=Path, default=MODEL_FOLDER, help=f"where it goes (default {MODEL_FOLDER.as_posix()})"
    )


def run(arguments: argparse.Namespace) -> None:
    """Fetch a known file, or list them all."""
    if arguments.name == "list":
        _list_files(arguments.folder)
        return
    file = known_file(arguments.name)
    if file is None:
        known = ", ".join(file.name for file in KNOWN_FILES)
        raise ValueError(f"no known file {arguments.name!r}; choose list, or one of {known}")
    path = arguments.folder / file.name
    if path.exists():
        print(f"{path}: already there")
        return
    size = published_size(file)
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    print(f"{file.name} from {address_of(file)}")
    print(f"size     {in_bytes(size)} ({in_bytes(shutil.disk_usage(existing).free)} free on this disk)")
    print(f"licence  {file.licence}")
    print(f"folder   {arguments.folder.absolute()}")
    with writing(path), bar("download", "B") as progress:
        download(file, arguments.folder, progress=progress)
    print(f"{path}: {in_bytes(path.stat().st_size)}")


def _list_files(folder: Path) -> None:
    for file in KNOWN_FILES:
        there = "there" if (folder / file.name).exists() else "missing"
        print(f"{file.name:36} {file.kind:12} {in_bytes(file.size):>8}  {there:8} {file.licence}")
    print(f"folder: {folder.absolute()}")
