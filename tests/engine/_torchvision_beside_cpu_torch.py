"""Lets a CUDA build of torchvision be imported beside a CPU build of torch.

ComfyUI imports torchvision when it starts. The wheel on PyPI is built for CUDA on Linux: its compiled operators do not
load beside a CPU torch, and the import then fails with "operator torchvision::nms does not exist". `make venv` copies
this file and the `.pth` beside it into site-packages, where it declares the two operators that torchvision looks up
while it is imported. Where the builds match it does nothing. `torchvision.ops.nms` itself stays unusable.
"""

from __future__ import annotations

import importlib.machinery
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept_alive: list[Any] = []  # declarations vanish with their Library object


def _built_for_cuda(spec: ModuleSpec | None) -> bool:
    version_file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    if version_file is None or not version_file.is_file():
        return False
    return re.search(r"__version__ = '[^']*\+cu", version_file.read_text(encoding="utf-8")) is not None


class _DeclareOperators:
    """Import hook that acts once, just before torchvision is first imported, and never finds a module itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        if not _built_for_cuda(importlib.machinery.PathFinder.find_spec(name)):
            return None
        import torch

        if torch.version.cuda is None:
            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(operator + _SCHEMA)
            _kept_alive.append(library)
        return None


sys.meta_path.insert(0, _DeclareOperators())
