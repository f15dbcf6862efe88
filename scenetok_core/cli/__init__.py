"""Command line: `python -m scenetok_core COMMAND`, such as `encode` and `render`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import convert, download, encode, estimate, info, leave_out, render, verify

_COMMANDS = {
    "estimate": (estimate, "photographs or a video without poses -> cameras"),
    "encode": (encode, "posed pictures -> scene tokens"),
    "render": (render, "scene tokens + camera path -> video"),
    "leave-out": (leave_out, "score renderings of views that were not encoded"),
    "convert": (convert, "released checkpoint -> safetensors with its configuration"),
    "info": (info, "what a checkpoint or scene file holds"),
    "download": (download, "released weights -> a folder"),
    "verify": (verify, "released weights: hash, load, and a reconstruction in figures"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input prints one line on standard error."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scenetok_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (command, purpose) in _COMMANDS.items():
        subparser = commands.add_parser(name, help=purpose)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser
