"""The folder of ``jaxff coarse-grain``: which results are there, and what they were made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxff.cli.console import say
from jaxff.data.archive import write_atomic

__all__ = ["Folder"]

_STEPS = {"map": "map", "samples": "simulate"}


class Folder:
    """Results, each with a JSON file that says what it was made with.

    Args:
        path: The folder, made if need be.
        fresh: Whether results are made again.

    Raises:
        FileExistsError: If a file has its name.
    """

    def __init__(self, path: Path, fresh: bool = False):
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"{path}: the output is a folder, but a file has this name")
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.fresh = path, fresh

    def has(self, name: str, settings: Mapping[str, Any], files: tuple[str, ...]) -> bool:
        """Whether a result is there and need not be made.

        Raises:
            ValueError: If it was made with other settings, and nobody said to make it anew.
        """
        if self.fresh or not self._is_there(name, files):
            return False
        self._check(name, settings)
        say(f"{name} is there already: {self.path / files[0]}")
        return True

    def require(self, name: str, settings: Mapping[str, Any], files: tuple[str, ...]) -> None:
        """Refuse to go on without a result of an earlier step.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If it was made with other settings.
        """
        if not self._is_there(name, files):
            step = _STEPS.get(name.rpartition("_")[2], "fit")
            raise FileNotFoundError(
                f"{self.path / files[0]}: not there yet: run jaxff coarse-grain with --only "
                f"{step}, or without --only"
            )
        self._check(name, settings)

    def note(self, name: str, settings: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Write what a result was made with, after it is there."""
        self.write(f"{name}.json", {"settings": settings, **content})

    def content(self, name: str) -> dict[str, Any]:
        """What was noted of a result, without its settings."""
        record = json.loads((self.path / f"{name}.json").read_text("utf-8"))
        return {key: value for key, value in record.items() if key != "settings"}

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Write a record as JSON, in full or not at all."""
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomic(self.path / name, lambda stream: stream.write(text.encode()))

    def _is_there(self, name: str, files: tuple[str, ...]) -> bool:
        return all((self.path / each).is_file() for each in (f"{name}.json", *files))

    def _check(self, name: str, settings: Mapping[str, Any]) -> None:
        place = self.path / f"{name}.json"
        made = json.loads(place.read_text("utf-8"))["settings"]
        asked = json.loads(json.dumps(settings))
        odd = [key for key in {**made, **asked} if made.get(key) != asked.get(key)]
        if odd:
            key, was, now = _first_difference(odd[0], made.get(odd[0]), asked.get(odd[0]))
            raise ValueError(
                f"{place}: made with other settings: {key} was {was!r}, is now {now!r}; --fresh "
                "makes it anew, another output keeps both"
            )


def _first_difference(key: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """Where two settings differ, within their tables."""
    if isinstance(was, dict) and isinstance(now, dict):
        inner = next(k for k in {**was, **now} if was.get(k) != now.get(k))
        return _first_difference(f"{key}.{inner}", was.get(inner), now.get(inner))
    return key, was, now
