"""Released weights: which files there are, where they are published, and how they get into a folder.

An interrupted download leaves one hidden file beside its target, whose name holds the server's mark of the version it
belongs to (ETag or Last-Modified). The next one goes on from there, unless the published file has changed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from ..encoders import ENCODERS, FILES
from ..files import replacing

DownloadProgress = Callable[[int, int | None], None]  # (bytes there, bytes in all or None where the server is silent)
_BLOCK = 2**18  # bytes
_LONGEST_ETAG = 128  # characters; it becomes part of a file name
_BY_SIZE = "size-"
_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


@dataclass(frozen=True)
class KnownFile:
    """A published file: at `url`, or in the hub repository `repo` under its own name.

    Attributes:
        name: file name, without folders.
        kind: network weights of SceneTok, or an autoencoder or 2-D encoder that some models need.
        licence: of the weights, as their publisher states it.
        url: http(s) address.
        repo: owner/name on the hub.
        size: bytes; None where nobody has recorded it.
        sha256: 64 hex digits; None where nobody has recorded it.
        folder: in which the file lies with others that it belongs to; empty: in none.

    Raises:
        ValueError: a name or folder that is no plain file name, another address than http(s), or not exactly one
            source.
    """

    name: str
    kind: Literal["model", "autoencoder", "encoder"]
    licence: str
    url: str | None = None
    repo: str | None = None
    size: int | None = None
    sha256: str | None = None
    folder: str = ""

    def __post_init__(self) -> None:
        for name in (self.name, self.folder or self.name):
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"file name must be letters, digits, '_', '.' and '-', got {name!r}")
        if (self.url is None) == (self.repo is None):
            raise ValueError(f"{self.name} needs an address or a hub repository, got {self.url!r} and {self.repo!r}")
        if self.url is not None and urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"{self.name} needs an http or https address, got {self.url!r}")

    @property
    def path(self) -> str:
        """Where the file lies in a folder of weights, with slashes."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


def _shared(name: str, token: str) -> KnownFile:
    """A file of the method's authors, who share each under a token of its own."""
    url = f"https://nextcloud.mpi-klsb.mpg.de/index.php/s/{token}/download"
    return KnownFile(name, "model", "not stated (their code: MIT)", url=url)


def _encoder(repo: str) -> tuple[KnownFile, ...]:
    """The files of a 2-D encoder, in a folder named like its hub repository."""
    folder = repo.rpartition("/")[2]
    return tuple(KnownFile(name, "encoder", "Apache-2.0", repo=repo, folder=folder) for name in FILES)


KNOWN_FILES = (
    _shared("va-videodc_re10k.ckpt", "6Y7EsosfbnpcRxj"),
    _shared("va-videodc_dl3dv.ckpt", "aYBX7atFNKkmdSE"),
    _shared("va-wan_dl3dv.ckpt", "X7yzk7QANtwawPc"),
    _shared("va-videodc_re10k_scene.ckpt", "zEsw8ttT9E6Ge3C"),
    _shared("scenegen_shift1_re10k.ckpt", "3XrHrKQR8diodAa"),
    _shared("scenegen_shift4_re10k.ckpt", "GNbPMdd6gWtM56k"),
    _shared("scenegen_shift12_re10k.ckpt", "oDDgXYwDXijQo6a"),
    KnownFile(
        "vavae-imagenet256-f16d32-dinov2.pt", "autoencoder", "MIT", repo="hustvl/vavae-imagenet256-f16d32-dinov2"
    ),
    KnownFile("latents_stats.pt", "autoencoder", "MIT", repo="hustvl/vavae-imagenet256-f16d32-dinov2"),
    KnownFile(
        "F32T4C128_AE.safetensors",
        "autoencoder",
        "Apache-2.0 (of Open-Sora)",
        repo="hpcai-tech/Open-Sora-v2-Video-DC-AE",
    ),
    KnownFile("Wan2.2_VAE.pth", "autoencoder", "Apache-2.0", repo="Wan-AI/Wan2.2-TI2V-5B"),
    *(file for spec in ENCODERS.values() for file in _encoder(spec.repo)),
)


class _DroppedError(Exception):
    """The connection failed; another attempt may succeed."""


class _RefusedError(ValueError):
    """Another attempt would fail as well."""


def known_file(name: str) -> KnownFile | None:
    """The known file of this name, which may lack its suffix; None when there is none."""
    return next((file for file in KNOWN_FILES if name in (file.path, Path(file.path).with_suffix("").as_posix())), None)


def known_folder(name: str) -> tuple[KnownFile, ...]:
    """The known files that lie together in a folder of this name."""
    return tuple(file for file in KNOWN_FILES if file.folder == name) if name else ()


def address_of(file: KnownFile) -> str:
    """Where the file is fetched from; a hub file's address follows `HF_ENDPOINT`."""
    if file.repo is None:
        return str(file.url)
    from huggingface_hub import hf_hub_url

    return hf_hub_url(file.repo, file.name)


def published_size(file: KnownFile, *, timeout: float = 10.0) -> int | None:
    """Bytes of the file: as recorded, as in the hub's local cache, or as its server answers within `timeout` seconds.

    None when the server does not say or cannot be reached: `download` tells why.
    """
    if file.size is not None:
        return file.size
    cached = _cached(file)
    if cached is not None:
        return cached.stat().st_size
    try:
        _check_online(file)
        with _open(address_of(file), timeout, "HEAD") as response:
            return _length(response.headers)
    except (OSError, HTTPException, ValueError):
        return None


def download(
    file: KnownFile,
    folder: str | Path,
    *,
    progress: DownloadProgress | None = None,
    attempts: int = 5,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Fetch a file into `folder`, or take it from the hub's local cache; one that is there already stays as it is.

    Args:
        file: what to fetch.
        folder: where to; made when missing.
        progress: called with the bytes there and in all after each block. What it raises ends the download, and the
            next one goes on from there.
        attempts: connections in a row that may fail without having brought anything new.
        pause: seconds before another connection, times the number that have failed.
        timeout: seconds without an answer after which a connection counts as failed.

    Returns:
        The file's path: `folder / file.path`, whole.

    Raises:
        ValueError: the file cannot be had from its address, the disk lacks room for it, or what came has another size
            or SHA-256 than recorded (it is deleted); with the address and the folder, to fetch it by hand.
        OSError: the folder cannot be written.
    """
    target = Path(folder) / file.path
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        cached = _cached(file)
        if cached is not None:
            _copy(file, cached, target)
            return target
        _check_online(file)
        partial = _receive(file, target.parent, progress or (lambda done, total: None), attempts, pause, timeout)
        try:
            _verify(file, partial)
        except ValueError:
            partial.unlink()
            raise
        partial.replace(target)
    except _RefusedError as error:
        raise ValueError(
            f"cannot download {file.name}: {error}. To fetch it by hand, save {address_of(file)} as {target.absolute()}"
        ) from error
    return target


def _cached(file: KnownFile) -> Path | None:
    """The file in the hub's local cache."""
    if file.repo is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(file.repo, file.name)
    return Path(path) if isinstance(path, str) else None


def _copy(file: KnownFile, source: Path, target: Path) -> None:
    _check_room(target.parent, source.stat().st_size)
    with replacing(target) as copy:
        shutil.copyfile(source, copy)
        _verify(file, copy)


def _check_online(file: KnownFile) -> None:
    if file.repo is None:
        return
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _RefusedError(f"HF_HUB_OFFLINE is set, and the cache {constants.HF_HUB_CACHE} does not hold it")


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise _RefusedError(f"{folder} has {free / 1e9:.2f} GB free, {size / 1e9:.2f} GB are still to come")


def _verify(file: KnownFile, path: Path) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise _RefusedError(f"got {size} bytes, expected {file.size}; what came was deleted")
    if file.sha256 is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.sha256:
        raise _RefusedError(f"got SHA-256 {digest.hexdigest()}, expected {file.sha256}; what came was deleted")


def _receive(
    file: KnownFile, folder: Path, progress: DownloadProgress, attempts: int, pause: float, timeout: float
) -> Path:
    """The whole file under its hidden name, after as many connections as it takes."""
    for partial in _partials(file, folder):
        if _mark(file, partial).startswith(_BY_SIZE):  # enough between two connections, too little between two days
            partial.unlink()
    most = failed = 0
    while True:
        try:
            return _continue(file, folder, progress, timeout)
        except _DroppedError as error:
            held = max((partial.stat().st_size for partial in _partials(file, folder)), default=0)
            failed = 0 if held > most else failed + 1
            most = max(most, held)
            if failed >= attempts:
                raise _RefusedError(f"{error}, {failed} times in a row") from error
            time.sleep(pause * failed)


def _continue(file: KnownFile, folder: Path, progress: DownloadProgress, timeout: float) -> Path:
    """One connection: the rest of the file, or all of it."""
    partial = next(iter(_partials(file, folder)), None)
    start = partial.stat().st_size if partial is not None else 0
    mark = _mark(file, partial) if partial is not None else ""
    wanted = {"Range": f"bytes={start}-"} if start else {}
    if start and not mark.startswith(_BY_SIZE):
        wanted["If-Range"] = mark
    try:
        with _connection():
            response = _open(address_of(file), timeout, **wanted)
    except HTTPError as error:
        if partial is None or error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _RefusedError(f"the server answers {error.code} {error.reason}") from error
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return partial
        partial.unlink()
        raise _DroppedError("the server refuses to continue") from error
    with response:
        if partial is not None and response.status == HTTPStatus.PARTIAL_CONTENT:
            if not _continues(response.headers, start, mark):
                partial.unlink()
                raise _DroppedError("the published file has changed")
        else:
            partial, start = _begin(file, folder, response.headers), 0
        _write(file, response, partial, start, progress)
    return partial


def _begin(file: KnownFile, folder: Path, headers: Message) -> Path:
    """Forget older parts; the hidden name of the version that these headers announce."""
    for partial in _partials(file, folder):
        partial.unlink()
    etag = headers.get("ETag", "")
    strong = etag.startswith('"') and len(quote(etag, safe="")) <= _LONGEST_ETAG
    mark = etag if strong else headers.get("Last-Modified") or f"{_BY_SIZE}{_length(headers)}"
    return folder / f".{file.name}.{quote(mark, safe='')}.download"


def _partials(file: KnownFile, folder: Path) -> list[Path]:
    return sorted(folder.glob(f".{file.name}.*.download"))


def _mark(file: KnownFile, partial: Path) -> str:
    """The mark of the version that a part belongs to."""
    return unquote(partial.name[len(f".{file.name}.") : -len(".download")])


def _continues(headers: Message, start: int, mark: str) -> bool:
    """Whether the answer to a range request starts where it should, in the version of `mark`."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if span is None or int(span[1]) != start:
        return False
    if mark.startswith(_BY_SIZE):
        return mark == f"{_BY_SIZE}{span[2]}"
    return headers.get("ETag" if mark.startswith('"') else "Last-Modified", mark) == mark


def _write(file: KnownFile, response: HTTPResponse, partial: Path, start: int, progress: DownloadProgress) -> None:
    rest = _length(response.headers)
    total = file.size if rest is None else start + rest
    if file.size not in (None, total):
        raise _RefusedError(f"the server offers {total} bytes, expected {file.size}: another file than the known one")
    if total is not None:
        _check_room(partial.parent, total - start)
    done = start
    with partial.open("r+b" if start else "wb") as content:
        content.seek(start)
        progress(done, total)
        while block := _block(response):
            content.write(block)
            done += len(block)
            progress(done, total)
    if total is not None and done < total:
        raise _DroppedError(f"the connection ended after {done} of {total} bytes")


def _block(response: HTTPResponse) -> bytes:
    with _connection():
        return response.read1(_BLOCK)


def _length(headers: Message) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


@contextmanager
def _connection() -> Iterator[None]:
    """Tell failures of the line and of a busy server from all others."""
    try:
        yield
    except HTTPError as error:
        if error.code not in _BUSY and error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        raise _DroppedError(f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise _DroppedError(f"the connection failed ({getattr(error, 'reason', None) or error})") from error


def _open(url: str, timeout: float, method: str = "GET", **headers: str) -> HTTPResponse:
    request = Request(url, headers={"User-Agent": "scenetok", **headers}, method=method)
    response = urlopen(request, timeout=timeout)
    fault = None
    if urlsplit(response.url).scheme not in {"https", urlsplit(url).scheme}:
        fault = f"it leads to {response.url}, which is less safe"
    elif response.headers.get_content_type() == "text/html":
        fault = "its address answers with a web page"
    if fault is not None:
        response.close()
        raise _RefusedError(fault)
    return response
