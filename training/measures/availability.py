"""What a measure needs that may not be at hand. Nothing here, nor any measure, downloads anything."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import torch

EVAL_EXTRA = "pip install -e '.[eval]' in the folder of this repository"


class UnavailableError(RuntimeError):
    """A measure cannot be taken here; the message says what to install."""


def require_module(name: str, install: str = EVAL_EXTRA) -> ModuleType:
    """Import a module.

    Args:
        name: of the module.
        install: the remedy for the message.

    Raises:
        UnavailableError: it, or a module that it imports, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(f"needs the package {error.name or name}: {install}") from error


def require_hub_file(name: str, fetch: str) -> Path:
    """A weights file in torch's cache.

    Args:
        name: of the file.
        fetch: Python code that downloads it, for the message.

    Raises:
        UnavailableError: it is not there.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        raise UnavailableError(f"needs the weights {name} in {path.parent}: python -c '{fetch}' downloads them")
    return path
