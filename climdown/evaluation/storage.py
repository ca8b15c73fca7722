"""Sums of units of work in files, so that a killed evaluation goes on and shards merge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from climdown.errors import OutputError, ResumeError
from climdown.evaluation.states import States
from climdown.files import place_text, placed, remove_folder
from climdown.stream.seals import is_usable, seal


@dataclass(frozen=True)
class StateStore:
    """A folder with the sums of each unit of work of one evaluation.

    Attributes:
        key: a hash of what is evaluated.
    """

    folder: Path
    key: str

    @classmethod
    def open(cls, folder: Path, identity: Mapping[str, Any], *, discard: bool) -> StateStore:
        """Begin, or go on with what lies there.

        Raises:
            ResumeError: states of another evaluation lie there.
            OutputError: the folder cannot be made.
        """
        text = json.dumps(identity, sort_keys=True, indent=1)
        plan, store = folder / "evaluation.json", cls(folder, _hash(text))
        found = plan.read_text(encoding="utf-8") if plan.is_file() else None
        if found == text:
            return store
        if found is not None and not discard:
            raise ResumeError(
                f"{folder} holds states of another evaluation; repeat its command, name another "
                "folder with --states, or give --overwrite to discard them"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Without a plan what lies there was made just now, by another shard.
            for path in folder.glob("unit-*.npz") if found is not None else ():
                path.unlink(missing_ok=True)
            place_text(plan, text)
        except OSError as error:
            raise OutputError(f"cannot write {folder}: {error.strerror}") from None
        return store

    def has(self, unit: str) -> bool:
        """Whether the sums of a unit are there, and whole."""
        path = self._path(unit)
        return path.is_file() and is_usable(path, self._seal(unit), otherwise="computed")

    def write(self, unit: str, states: States) -> None:
        """Place the sums of a unit."""
        with placed(self._path(unit)) as temporary:
            with temporary.open("wb") as stream:
                np.savez(stream, **states.arrays())  # type: ignore[arg-type]
            seal(temporary, self._seal(unit))

    def read(self, unit: str) -> States:
        """The sums of a unit."""
        with np.load(self._path(unit), allow_pickle=False) as arrays:
            return States.from_arrays(arrays)

    def remove(self) -> None:
        """Delete all, when reports are written."""
        remove_folder(self.folder)

    def _path(self, unit: str) -> Path:
        return self.folder / f"unit-{unit}.npz"

    def _seal(self, unit: str) -> str:
        return f"{self.key} {unit}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
