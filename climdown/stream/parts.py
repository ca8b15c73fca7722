"""Units of work and their part files.

The fields of a run are numbered, time step by time step and member by member. What has been
sampled lies in part files, each a stretch of consecutive fields, in a folder beside the output,
under a plan that says what run it belongs to. A killed run finds its parts again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from climdown.arrays import Float32, Index
from climdown.errors import OutputError, ResumeError
from climdown.files import parts_folder, place_text, placed, remove_folder
from climdown.stream.seals import is_usable, seal

# A unit is about so large: a parallel file system suffers from many small files.
UNIT_BYTES = 64 << 20
_NAME = re.compile(r"unit-(\d+)-(\d+)\.npy")


@dataclass(frozen=True)
class Unit:
    """Consecutive fields of a run, half-open, cut into batches that are sampled together."""

    batches: tuple[slice, ...]

    @property
    def fields(self) -> int:
        """Number of fields in the unit."""
        return int(self.batches[-1].stop - self.batches[0].start)


def plan_units(
    missing: Sequence[slice], members: int, batch_size: int, field_bytes: int
) -> Iterator[Unit]:
    """Cut stretches of fields into units of about `UNIT_BYTES`, each of whole batches.

    A batch holds all members of some time steps, or some members of one, wherever it lies: it is
    the same batch, with the same bits, however the run is cut into units.

    Args:
        missing: stretches of fields that are not there yet.
        field_bytes: of one field with all its variables.
    """
    most = max(1, UNIT_BYTES // field_bytes)
    for stretch in missing:
        batches: list[slice] = []
        for batch in _batches(stretch, members, batch_size):
            if batches and batch.stop - batches[0].start > most:
                yield Unit(tuple(batches))
                batches = []
            batches.append(batch)
        yield Unit(tuple(batches))


def _batches(stretch: slice, members: int, size: int) -> Iterator[slice]:
    start = stretch.start
    while start < stretch.stop:
        stop = min(_end_of_batch(start, members, size), stretch.stop)
        yield slice(start, stop)
        start = stop


def _end_of_batch(field: int, members: int, size: int) -> int:
    """Where the batch ends that a field lies in."""
    if members <= size:
        together = size // members * members
        return (field // together + 1) * together
    step, member = divmod(field, members)
    return step * members + min((member // size + 1) * size, members)


class PartStore:
    """The part files of one run, in a hidden folder beside its output.

    Attributes:
        total: fields of the run.
        members: of its ensemble.
        key: a hash of the run's identity, part of the seal of every part.
    """

    def __init__(self, folder: Path, *, total: int, members: int, key: str) -> None:
        self.folder, self.total, self.members, self.key = folder, total, members, key
        self._open: tuple[int, int, Float32] | None = None
        self._intact: set[str] = set()

    @classmethod
    def open(
        cls,
        output: Path,
        *,
        times: int,
        members: int,
        identity: Mapping[str, Any],
        discard: bool,
    ) -> PartStore:
        """Begin a run, or take up the one whose parts lie there.

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
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        store = cls(folder, total=times * members, members=members, key=key)
        if plan.is_file():
            stored = _read_plan(plan)
            if stored == identity:
                store.remove_leftovers()
                return store
            if not discard:
                raise _refusal(folder, stored, identity)
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            place_text(plan, json.dumps({"identity": identity}, indent=1))
        except OSError as error:
            raise OutputError(f"cannot write beside {output}: {error.strerror}") from None
        return store

    def missing(self) -> list[slice]:
        """Stretches of fields that no intact part has, in order; damaged parts are removed."""
        self._remove_damaged()
        stretches, reached = [], 0
        for start, stop, _ in [*self._parts(), (self.total, self.total, None)]:
            if start > reached:
                stretches.append(slice(reached, start))
            reached = max(reached, stop)
        return stretches

    def write(self, start: int, values: Float32) -> None:
        """Place a part that begins with a field, shape (fields, variables, ny, nx).

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        path = self.folder / f"unit-{start:09d}-{start + len(values):09d}.npy"
        with placed(path) as temporary:
            with temporary.open("wb") as stream:
                np.save(stream, values)
            seal(temporary, self._key(path.name))
        self._intact.add(path.name)

    def member(self, member: int, variable: int, part: slice) -> Float32:
        """A member's fields of one variable over a block of times, shape (time, ny, nx).

        Raises:
            ResumeError: a part is damaged.
        """
        wanted = np.arange(part.start, part.stop) * self.members + member
        blocks = []
        while wanted.size:
            start, stop, values = self._holding(int(wanted[0]))
            here: Index = wanted[wanted < stop] - start
            blocks.append(values[here[0] : here[-1] + 1 : self.members, variable])
            wanted = wanted[here.size :]
        return np.concatenate(blocks)

    def remove(self) -> None:
        """Delete the parts, after they have been joined."""
        self._open = None
        remove_folder(self.folder)

    def remove_leftovers(self) -> None:
        """Remove what killed processes left half written; nobody else writes here."""
        for temporary in self.folder.rglob(".*.tmp"):
            temporary.unlink(missing_ok=True)

    def _remove_damaged(self) -> None:
        """Each part is checked once: what this process wrote needs no check."""
        for _, _, path in self._parts():
            if path.name in self._intact:
                continue
            if is_usable(path, self._key(path.name), otherwise="drawn"):
                self._intact.add(path.name)
            else:
                path.unlink()

    def _key(self, name: str) -> str:
        return f"{self.key} {name}"

    def _parts(self) -> list[tuple[int, int, Path]]:
        """The stretch of each part, in order, and its file."""
        names = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("unit-*.npy"))
        return sorted((int(m[1]), int(m[2]), path) for m, path in names if m is not None)

    def _holding(self, field: int) -> tuple[int, int, Float32]:
        """The part that holds a field: its stretch and its values, mapped into memory."""
        if self._open is None or not self._open[0] <= field < self._open[1]:
            start, stop, path = next(p for p in self._parts() if p[0] <= field < p[1])
            self._open = start, stop, _mapped(path, stop - start)
        return self._open


def _mapped(path: Path, fields: int) -> Float32:
    try:
        values: Float32 = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        raise ResumeError(f"{path} is damaged; run again, and it is drawn anew") from None
    if len(values) != fields:
        raise ResumeError(f"{path} is damaged; run again, and it is drawn anew")
    return values


def _read_plan(path: Path) -> dict[str, Any] | None:
    """The identity in a plan; None if it is damaged."""
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return identity if isinstance(identity, dict) else None


def _refusal(
    folder: Path, stored: Mapping[str, Any] | None, wanted: Mapping[str, Any]
) -> ResumeError:
    if stored is None:
        return ResumeError(f"{folder / 'plan.json'} is damaged; remove the folder {folder}")
    return ResumeError(
        f"{folder} holds parts of another run ({_difference(stored, wanted)}); repeat its command "
        "to finish it, or give --overwrite to discard them"
    )


def _difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Which entries differ, for the message."""
    names = [k for k in wanted if stored.get(k) != wanted[k]]

    def show(name: str) -> str:
        old, new = str(stored.get(name)), str(wanted[name])
        return f"{name}: {old} then, {new} now" if len(old) + len(new) < 60 else f"other {name}"

    return "; ".join(show(name) for name in names) or "other options"
