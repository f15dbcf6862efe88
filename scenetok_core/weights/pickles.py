"""Tensors out of pickled files (`.ckpt`, `.pt`, `.pth`, `.bin`), without running anything that such a file asks for.

Training tools store more than tensors: callbacks, loop states, settings. torch's `weights_only` reads files without
such objects. Others are read here: every class or function that a file names is replaced by an inert placeholder,
except the few that tensors are made of, and of these only descriptions are kept until it is known which are wanted.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

PICKLED = frozenset({".ckpt", ".pt", ".pth", ".bin"})
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LONGEST_REASON = 120


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The named tensors of a pickled checkpoint, on the CPU: its `state_dict` where it has one, else its own entries.

    Raises:
        ValueError: missing or damaged file, or one without named tensors.
    """
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    try:
        tensors = _read(path)
    except Exception as error:  # a damaged pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]
        raise ValueError(f"{path.name} is damaged or no checkpoint ({reason}); download or copy it again") from error
    if not tensors:
        raise ValueError(f"{path.name} holds no named tensors; choose the checkpoint of a model")
    return tensors


def _read(path: Path) -> dict[str, Tensor]:
    zipped = zipfile.is_zipfile(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        if not zipped:
            raise ValueError("not written by torch 1.6 or newer, or cut short") from error
    else:
        return {k: v.detach() for k, v in _entries(content) if isinstance(v, Tensor)}
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(found) != 1:
            raise ValueError("a zip archive, but not one that torch wrote")
        folder = found[0].removesuffix("data.pkl")
        order = folder + "byteorder"
        if order in archive.namelist() and archive.read(order).decode() != sys.byteorder:
            raise ValueError("written on a machine with another byte order")
        with archive.open(found[0]) as file:
            content = _InertUnpickler(file, folder).load()
        return {k: v.load(archive) for k, v in _entries(content) if isinstance(v, _Stored)}


def _entries(content: Any) -> list[tuple[str, Any]]:
    tensors = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    return [(k, v) for k, v in tensors.items() if isinstance(k, str)] if isinstance(tensors, Mapping) else []


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies in the archive."""

    entry: str
    dtype: torch.dtype
    offset: int = 0  # this and the stride in elements
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()

    def load(self, archive: zipfile.ZipFile) -> Tensor:
        data = bytearray(archive.read(self.entry))
        values = torch.frombuffer(data, dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)
        return torch.as_strided(values, self.size, self.stride, self.offset)  # refuses what lies outside


class _Placeholder:
    """Stands for an object of any other class: takes whatever a pickle does to it and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Placeholder:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def _ignore(self, *_: object) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _ignore


class _InertUnpickler(pickle.Unpickler):
    """Reads the object tree of torch's zip format.

    What a pickle can reach is made anew for every file, so a file that sets attributes on it changes nothing that
    outlives the reading.
    """

    def __init__(self, file: IO[bytes], folder: str) -> None:
        super().__init__(file)
        self._folder = folder

        def tensor(storage: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> object:
            if not isinstance(storage, _Stored):
                return _Placeholder()
            return _Stored(storage.entry, storage.dtype, offset, tuple(size), tuple(stride))

        def parameter(value: object, *_: object) -> object:
            return value

        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): tensor,
            ("torch._utils", "_rebuild_parameter"): parameter,
        }

    def find_class(self, module: str, name: str) -> Any:
        """What a file may use under this name; nothing is ever imported for it."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        return self._known.get((module, name)) or type("Placeholder", (_Placeholder,), {})

    def persistent_load(self, pid: Any) -> object:
        """The storage of a tensor: ("storage", type, key, location, elements)."""
        _, dtype, key, *_ = pid
        return _Stored(f"{self._folder}data/{key}", dtype) if isinstance(dtype, torch.dtype) else _Placeholder()
