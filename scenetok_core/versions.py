"""Versions of values that are kept or handed on: older ones are brought up to date, newer ones refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Upgrade = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class NewerVersionError(ValueError):
    """Values that a newer version of this pack wrote."""


@dataclass(frozen=True)
class Versions:
    """The versions of one kind of value; the first is 1, also of values that name none."""

    what: str  # plural, for messages
    upgrades: tuple[Upgrade, ...] = ()  # from version 1 to 2, from 2 to 3, ...; each returns a new mapping

    @property
    def newest(self) -> int:
        """The version that this pack writes."""
        return 1 + len(self.upgrades)

    def upgrade(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """`data` in the newest version.

        Raises:
            NewerVersionError: a version that this pack does not know yet.
            ValueError: a version that is no whole number from 1.
        """
        version = data.get("version", 1)
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise ValueError(f"these {self.what} have version {version!r}, expected a whole number from 1")
        if version > self.newest:
            raise NewerVersionError(
                f"these {self.what} have version {version}, this pack reads up to {self.newest}; update the pack"
            )
        for step in self.upgrades[version - 1 :]:
            data = step(data)
        return data
