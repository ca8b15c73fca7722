"""Units of work and their part files.

A run is cut into units (a block of time steps times a block of members). Each finished unit
is a part file, placed atomically in a folder beside the output, under a plan that says what
run it belongs to. A killed run finds its parts again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from climdown.errors import OutputError, ResumeError
from climdown.files import place_text, placed


@dataclass(frozen=True)
class Unit:
    """A block of time steps times a block of members, both half-open."""

    index: int
    time_start: int
    time_stop: int
    member_start: int
    member_stop: int

    @property
    def times(self) -> slice:
        return slice(self.time_start, self.time_stop)

    @property
    def members(self) -> range:
        return range(self.member_start, self.member_stop)

    @property
    def fields(self) -> int:
        """Number of fields in the unit."""
        return (self.time_stop - self.time_start) * len(self.members)


def plan_units(times: int, members: int, fields_per_unit: int) -> tuple[Unit, ...]:
    """Cut a run into units of at most `fields_per_unit` fields, members kept together first."""
    member_block = min(members, fields_per_unit)
    time_block = max(1, fields_per_unit // member_block)
    units: list[Unit] = []
    for t in range(0, times, time_block):
        for m in range(0, members, member_block):
            stop_t, stop_m = min(t + time_block, times), min(m + member_block, members)
            units.append(Unit(len(units), t, stop_t, m, stop_m))
    return tuple(units)


class PartStore:
    """The part files of one run, in a hidden folder beside its output."""

    def __init__(self, folder: Path, units: tuple[Unit, ...]) -> None:
        self.folder = folder
        self.units = units

    @classmethod
    def open(
        cls,
        output: Path,
        *,
        times: int,
        members: int,
        fields_per_unit: int,
        identity: Mapping[str, Any],
        discard: bool,
    ) -> PartStore:
        """Begin a run, or take up the one whose parts lie there.

        An interrupted run keeps the units it was cut into, whatever `fields_per_unit` says now.

        Args:
            identity: everything that decides the result; JSON values.
            discard: throw away parts of another run instead of refusing.

        Raises:
            ResumeError: parts of another run lie there.
            OutputError: the folder cannot be made.
        """
        folder = parts_folder(output)
        plan = folder / "plan.json"
        identity = json.loads(json.dumps(identity))
        if plan.is_file():
            stored = _read_plan(plan)
            if stored is not None and stored[0] == identity:
                return cls(folder, plan_units(times, members, stored[1]))
            if stored is None and not discard:
                raise ResumeError(f"{plan} is damaged; remove the folder {folder}")
            if stored is not None and not discard:
                raise ResumeError(
                    f"{folder} holds parts of another run "
                    f"({_difference(stored[0], identity)}); repeat its command to "
                    "finish it, or give --overwrite to discard them"
                )
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            entries = {"identity": identity, "fields_per_unit": fields_per_unit}
            place_text(plan, json.dumps(entries, indent=1))
        except OSError as error:
            raise OutputError(f"cannot write beside {output}: {error.strerror}") from None
        return cls(folder, plan_units(times, members, fields_per_unit))

    def done(self, unit: Unit) -> bool:
        """Whether the unit's part is there."""
        return self._path(unit).is_file()

    def write(self, unit: Unit, values: npt.NDArray[np.float32]) -> None:
        """Place a part, shape (time, member, variable, ny, nx), atomically.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        with placed(self._path(unit)) as temporary, temporary.open("wb") as stream:
            np.save(stream, values)

    def read(self, unit: Unit) -> npt.NDArray[np.float32]:
        """A part, mapped into memory.

        Raises:
            ResumeError: its file is damaged.
        """
        path = self._path(unit)
        try:
            values: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            raise ResumeError(f"{path} is damaged; remove it and run again") from None
        return values

    def member(self, member: int, variable: int, part: slice) -> npt.NDArray[np.float32]:
        """A member's fields of one variable over a block of times, shape (time, ny, nx)."""
        blocks = []
        for unit in self.units:
            first, last = max(part.start, unit.time_start), min(part.stop, unit.time_stop)
            if member in unit.members and first < last:
                steps = slice(first - unit.time_start, last - unit.time_start)
                blocks.append(self.read(unit)[steps, member - unit.member_start, variable])
        return np.concatenate(blocks)

    def remove(self) -> None:
        """Delete the parts, after they have been joined."""
        shutil.rmtree(self.folder)

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"unit-{unit.index:06d}.npy"


def parts_folder(output: Path) -> Path:
    """Where the parts of an output lie."""
    return output.with_name(f".{output.name}.parts")


def _read_plan(path: Path) -> tuple[dict[str, Any], int] | None:
    """The identity and fields per unit of a plan; None if it is damaged."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        identity, fields = plan["identity"], plan["fields_per_unit"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    valid = isinstance(identity, dict) and isinstance(fields, int) and fields > 0
    return (identity, fields) if valid else None


def _difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Which entries differ, for the message."""
    names = [k for k in wanted if stored.get(k) != wanted[k]]

    def show(name: str) -> str:
        old, new = str(stored.get(name)), str(wanted[name])
        return f"{name}: {old} then, {new} now" if len(old) + len(new) < 60 else f"other {name}"

    return "; ".join(show(name) for name in names) or "other options"
