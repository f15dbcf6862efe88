"""Uploaded .zip files with a capture inside."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..scenetok_core.captures import CAMERA_SUFFIXES, PICTURE_SUFFIXES
from ..scenetok_core.files import is_device, with_slashes

_LARGEST_BYTES = 8 * 2**30
_MOST_FILES = 20_000
_KEPT = {*CAMERA_SUFFIXES, *PICTURE_SUFFIXES}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(archive: Path, temporary: Path) -> Path:
    """Unpack pictures and camera files of a .zip below `temporary`, once per version of the file.

    Returns:
        The folder with the capture: the only folder at the archive's top, or the top itself.

    Raises:
        ValueError: no .zip, one that would write elsewhere, or one that is too large.
    """
    stat = archive.stat()
    key = hashlib.sha256(f"{archive}{stat.st_mtime_ns}{stat.st_size}".encode()).hexdigest()[:16]
    target = temporary / "scenetok_captures" / key
    if not target.is_dir():
        partial = target.with_name(f"{key}.{os.getpid()}.partial")
        try:
            _extract(archive, partial)
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    entries = list(target.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else target


def _extract(archive: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as source:
            members = [member for member in source.infolist() if _wanted(member, archive)]
            if len(members) > _MOST_FILES or sum(member.file_size for member in members) > _LARGEST_BYTES:
                raise ValueError(
                    f"{archive.name} unpacks to more than {_MOST_FILES} files or {_LARGEST_BYTES // 2**30} GiB; put "
                    "the unpacked folder into the input folder instead"
                )
            for member in members:
                member.filename = with_slashes(member.filename)  # as some Windows programs separate folders
            target.mkdir(parents=True)
            source.extractall(target, members)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{archive.name} is damaged or no plain .zip file ({error}); pack it again") from error


def _wanted(member: zipfile.ZipInfo, archive: Path) -> bool:
    name = PurePosixPath(with_slashes(member.filename))
    elsewhere = name.is_absolute() or PureWindowsPath(name).drive or ".." in name.parts
    if elsewhere or any(map(is_device, name.parts)):
        raise ValueError(f"{archive.name} holds the unsafe path {member.filename!r}; pack the capture's folder itself")
    if member.compress_type not in _METHODS:
        raise ValueError(f"{archive.name} is not packed as a plain .zip file; pack it again with the usual method")
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return not member.is_dir() and not hidden and name.suffix.lower() in _KEPT
