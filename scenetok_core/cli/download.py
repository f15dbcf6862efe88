"""`download`: released weights -> a folder."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ..weights.downloads import KNOWN_FILES, KnownFile, address_of, download, known_file, known_folder, published_size
from .common import MODEL_FOLDER, bar, in_bytes, writing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "name", help="a known file, with or without its suffix, or a folder of files; list shows them all"
    )
    parser.add_argument(
        "--folder", type=Path, default=MODEL_FOLDER, help=f"where it goes (default {MODEL_FOLDER.as_posix()})"
    )


def run(arguments: argparse.Namespace) -> None:
    """Fetch a known file, or list them all."""
    if arguments.name == "list":
        _list_files(arguments.folder)
        return
    file = known_file(arguments.name)
    files = known_folder(arguments.name) if file is None else (file,)
    if not files:
        known = ", ".join(dict.fromkeys(file.folder or file.name for file in KNOWN_FILES))
        raise ValueError(f"no known file {arguments.name!r}; choose list, or one of {known}")
    for file in files:
        _fetch(file, arguments.folder)


def _fetch(file: KnownFile, folder: Path) -> None:
    path = folder / file.path
    if path.exists():
        print(f"{path}: already there")
        return
    size = published_size(file)
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    print(f"{file.path} from {address_of(file)}")
    print(f"size     {in_bytes(size)} ({in_bytes(shutil.disk_usage(existing).free)} free on this disk)")
    print(f"licence  {file.licence}")
    print(f"folder   {path.parent.absolute()}")
    with writing(path), bar("download", "B") as progress:
        download(file, folder, progress=progress)
    print(f"{path}: {in_bytes(path.stat().st_size)}")


def _list_files(folder: Path) -> None:
    for file in KNOWN_FILES:
        there = "there" if (folder / file.path).exists() else "missing"
        print(f"{file.path:42} {file.kind:12} {in_bytes(file.size):>8}  {there:8} {file.licence}")
    print(f"folder: {folder.absolute()}")
