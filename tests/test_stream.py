"""Units, their plan and their parts: every field once, and nothing done twice or half."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown import stream
from climdown.arrays import Float32
from climdown.errors import OutputError, ResumeError
from climdown.stream import PartStore, plan_units
from climdown.stream.parts import UNIT_BYTES

IDENTITY = {"prior": "tiny", "seed": 0, "inputs": {"a.nc": "0123"}}
TIMES, MEMBERS = 5, 3


def begin(
    output: Path, *, identity: Mapping[str, Any] = IDENTITY, discard: bool = False
) -> PartStore:
    """A store of five times and three members."""
    return PartStore.open(output, times=TIMES, members=MEMBERS, identity=identity, discard=discard)


def numbered(start: int, stop: int) -> Float32:
    """Values 10 field + variable, shape (fields, 2, 2, 3)."""
    values = 10 * np.arange(start, stop)[:, None] + np.arange(2)
    return np.broadcast_to(values[..., None, None], (*values.shape, 2, 3)).astype(np.float32)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.nc"


@given(
    times=st.integers(1, 60),
    members=st.integers(1, 40),
    size=st.integers(1, 80),
    cuts=st.lists(st.integers(0, 2400), max_size=4),
    field_bytes=st.integers(1, UNIT_BYTES * 2),
)
@settings(max_examples=300, deadline=None)
def test_units_hold_every_missing_field_once_in_order(
    times: int, members: int, size: int, cuts: list[int], field_bytes: int
) -> None:
    total = times * members
    places = sorted({0, total, *(cut % (total + 1) for cut in cuts)})
    missing = [slice(a, b) for a, b in itertools.pairwise(places)][::2]
    units = tuple(plan_units(missing, members, size, field_bytes))
    batches = [batch for unit in units for batch in unit.batches]
    fields = [field for batch in batches for field in range(batch.start, batch.stop)]
    assert fields == [field for part in missing for field in range(part.start, part.stop)]
    assert sum(unit.fields for unit in units) == len(fields)
    assert all(1 <= batch.stop - batch.start <= size for batch in batches)
    for unit in units:
        assert len(unit.batches) == 1 or unit.fields * field_bytes <= UNIT_BYTES


@given(
    times=st.integers(1, 40),
    members=st.integers(1, 40),
    size=st.integers(1, 80),
    cut=st.integers(0, 1600),
)
@settings(max_examples=200, deadline=None)
def test_a_batch_is_the_same_however_the_run_is_cut(
    times: int, members: int, size: int, cut: int
) -> None:
    """So that a resumed run has the bits of one that was never stopped."""
    total = times * members
    (whole,) = plan_units([slice(0, total)], members, size, 1)
    # Runs stop between batches.
    stop = whole.batches[cut % len(whole.batches)].start
    if stop:
        done, rest = (
            plan_units([part], members, size, UNIT_BYTES)
            for part in (slice(0, stop), slice(stop, total))
        )
        assert [b for unit in (*done, *rest) for b in unit.batches] == list(whole.batches)


def test_a_batch_holds_all_members_of_some_steps_or_some_members_of_one() -> None:
    def batches(times: int, members: int, size: int) -> list[tuple[int, int]]:
        (unit,) = plan_units([slice(0, times * members)], members, size, 1)
        return [(batch.start, batch.stop) for batch in unit.batches]

    assert batches(5, 3, 7) == [(0, 6), (6, 12), (12, 15)]
    assert batches(2, 3, 2) == [(0, 2), (2, 3), (3, 5), (5, 6)]
    assert list(plan_units([], 3, 2, 1)) == []


def test_a_unit_is_of_64_megabytes_whatever_the_batch() -> None:
    # A century of 10 members over Iberia, two variables.
    fields, field_bytes = 36525 * 10, 2 * 4 * 41 * 61
    for size in (1, 16, 256):
        units = tuple(plan_units([slice(0, fields)], 10, size, field_bytes))
        assert len(units) == -(-fields * field_bytes // UNIT_BYTES) or len(units) <= 120
        assert max(unit.fields for unit in units) * field_bytes > 0.9 * UNIT_BYTES


def test_parts_come_back_and_tell_what_is_missing(output: Path) -> None:
    store = begin(output)
    assert store.missing() == [slice(0, 15)]
    store.write(4, numbered(4, 8))
    store.write(8, numbered(8, 10))
    assert store.missing() == [slice(0, 4), slice(10, 15)]
    assert begin(output).missing() == store.missing()
    store.write(0, numbered(0, 4))
    store.write(10, numbered(10, 15))
    assert store.missing() == []
    assert store.folder == stream.parts_folder(output) == output.parent / ".out.nc.parts"


@pytest.mark.parametrize("size", [1, 2, 4, 7, 100])
def test_a_member_is_gathered_across_parts(size: int, output: Path) -> None:
    store = begin(output)
    for start in range(0, 15, size):
        store.write(start, numbered(start, min(start + size, 15)))
    for member, variable, part in itertools.product(
        range(3), range(2), (slice(0, 5), slice(1, 4), slice(4, 5))
    ):
        values = store.member(member, variable, part)
        assert values.shape == (part.stop - part.start, 2, 3)
        expected = 10 * (3 * np.arange(part.start, part.stop) + member) + variable
        np.testing.assert_array_equal(
            values, np.broadcast_to(expected[:, None, None], values.shape)
        )


def test_a_part_appears_whole_or_not_at_all(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = begin(output)

    def interrupted(target: Any, values: Any) -> None:
        target.write(b"\x93NUMPY half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write(0, numbered(0, 4))
    monkeypatch.undo()
    assert begin(output).missing() == [slice(0, 15)]
    assert [path.name for path in store.folder.iterdir()] == ["plan.json"]


def test_identities_are_compared_as_json(output: Path) -> None:
    begin(output, identity={"variables": ("tas", "pr")}).write(0, numbered(0, 4))
    assert begin(output, identity={"variables": ["tas", "pr"]}).missing() == [slice(4, 15)]


def test_parts_of_another_run_are_refused_and_the_difference_is_named(output: Path) -> None:
    store = begin(output)
    store.write(0, numbered(0, 4))
    other = {**IDENTITY, "seed": 7, "inputs": {"a.nc": "f" * 64}}
    with pytest.raises(ResumeError, match="holds parts of another run") as error:
        begin(output, identity=other)
    assert "(seed: 0 then, 7 now; other inputs)" in str(error.value)
    assert "--overwrite to discard them" in str(error.value)
    assert store.missing() == [slice(4, 15)]


def test_parts_of_another_run_are_discarded_when_asked(output: Path) -> None:
    begin(output).write(0, numbered(0, 4))
    new = begin(output, identity={**IDENTITY, "seed": 7}, discard=True)
    assert new.missing() == [slice(0, 15)]
    assert [path.name for path in new.folder.iterdir()] == ["plan.json"]


def test_discarding_keeps_the_parts_of_this_very_run(output: Path) -> None:
    begin(output).write(0, numbered(0, 4))
    assert begin(output, discard=True).missing() == [slice(4, 15)]


def test_parts_without_a_plan_are_thrown_away(output: Path) -> None:
    store = begin(output)
    store.write(0, numbered(0, 4))
    (store.folder / "plan.json").unlink()
    assert begin(output).missing() == [slice(0, 15)]


@pytest.mark.parametrize(
    "content", [b"{", b"", b"\xff\xfe", b"[]", b"{}", b'"plan"', b'{"identity": 3}']
)
def test_a_damaged_plan_is_named_with_the_remedy_or_discarded(content: bytes, output: Path) -> None:
    plan = begin(output).folder / "plan.json"
    plan.write_bytes(content)
    with pytest.raises(ResumeError, match=r"plan\.json is damaged; remove the folder .*\.parts"):
        begin(output)
    assert begin(output, discard=True).missing() == [slice(0, 15)]


def test_a_full_disk_is_an_output_error_and_leaves_no_half_part(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begin(output)

    def full_disk(target: Any, values: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OutputError, match=r"cannot write .*unit-.*: No space left on device"):
        store.write(0, numbered(0, 4))
    assert [path.name for path in store.folder.iterdir()] == ["plan.json"]


def flip(path: Path, place: int) -> None:
    """Another bit in one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def cut(part: Path, _other: Path) -> None:
    part.write_bytes(part.read_bytes()[:100])


def empty(part: Path, _other: Path) -> None:
    part.write_bytes(b"")


def flipped(part: Path, _other: Path) -> None:
    flip(part, 150)


def flipped_in_its_seal(part: Path, _other: Path) -> None:
    flip(part, -3)


def swapped(part: Path, other: Path) -> None:
    part.write_bytes(other.read_bytes())


def unsealed(part: Path, _other: Path) -> None:
    np.save(part, numbered(0, 5))


def misshaped(part: Path, _other: Path) -> None:
    np.save(part, numbered(0, 4))
    stream.seal(part, "another run")


@pytest.mark.parametrize(
    "damage", [cut, empty, flipped, flipped_in_its_seal, swapped, unsealed, misshaped]
)
def test_a_damaged_part_is_said_and_drawn_anew(
    damage: Callable[[Path, Path], None], output: Path, warned: pytest.LogCaptureFixture
) -> None:
    store = begin(output)
    for start in (0, 5, 10):
        store.write(start, numbered(start, start + 5))
    first, second, _ = sorted(store.folder.glob("unit-*"))
    damage(first, second)
    again = begin(output)
    assert again.missing() == [slice(0, 5)]
    assert f"{first} is damaged, or no part of this run: it is drawn anew" in warned.text
    assert not first.exists()
    again.write(0, numbered(0, 5))
    assert begin(output).missing() == []


def test_a_part_of_another_run_at_the_same_place_is_none_of_this(
    output: Path, warned: pytest.LogCaptureFixture
) -> None:
    begin(output).write(0, numbered(0, 15))
    other = begin(output.with_name("other.nc"), identity={**IDENTITY, "seed": 1})
    other.write(0, numbered(0, 15))
    (part,) = other.folder.glob("unit-*")
    part.replace(stream.parts_folder(output) / part.name)
    assert begin(output).missing() == [slice(0, 15)]
    assert "no part of this run" in warned.text


@pytest.mark.parametrize("content", ["cut short", "too few"])
def test_a_part_damaged_since_it_was_checked_is_named(content: str, output: Path) -> None:
    store = begin(output)
    store.write(0, numbered(0, 15))
    part = next(store.folder.glob("unit-*"))
    if content == "cut short":
        part.write_bytes(part.read_bytes()[:100])
    else:
        np.save(part, numbered(0, 4))
    with pytest.raises(ResumeError, match=r"unit-.*\.npy is damaged; run again, and it is drawn"):
        store.member(0, 0, slice(0, 5))


def test_leftovers_of_a_killed_process_go(output: Path) -> None:
    store = begin(output)
    store.write(0, numbered(0, 4))
    (store.folder / ".unit-000000004-000000008.npy.0f0f.tmp").write_bytes(b"half")
    begin(output)
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "plan.json",
        "unit-000000000-000000004.npy",
    ]


def test_entries_only_the_old_run_had_count_as_other_options(output: Path) -> None:
    begin(output, identity={**IDENTITY, "novelty": 1})
    with pytest.raises(ResumeError, match=r"another run \(other options\)"):
        begin(output)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"cannot write beside .*out\.nc: Not a directory"):
        begin(tmp_path / "file" / "out.nc")


def test_removed_parts_leave_nothing(output: Path) -> None:
    store = begin(output)
    store.write(0, numbered(0, 4))
    store.remove()
    assert list(output.parent.iterdir()) == []
