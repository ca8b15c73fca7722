"""Units, their plan and their parts: every field once, and nothing done twice or half."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown import stream
from climdown.errors import OutputError, ResumeError
from climdown.files import check_output, file_fingerprint
from climdown.stream import PartStore, Unit, plan_units

IDENTITY = {"prior": "tiny", "seed": 0, "inputs": {"a.nc": "0123"}}


def begin(
    output: Path,
    *,
    fields_per_unit: int = 4,
    identity: Mapping[str, Any] = IDENTITY,
    discard: bool = False,
) -> PartStore:
    """A store of five times and three members."""
    return PartStore.open(
        output,
        times=5,
        members=3,
        fields_per_unit=fields_per_unit,
        identity=identity,
        discard=discard,
    )


def numbered(unit: Unit) -> npt.NDArray[np.float32]:
    """Values 100 time + 10 member + variable, shape (time, member, 2, 2, 3)."""
    t = np.arange(unit.time_start, unit.time_stop)[:, None, None]
    m = np.array(unit.members)[None, :, None]
    values = 100 * t + 10 * m + np.arange(2)
    return np.broadcast_to(values[..., None, None], (*values.shape, 2, 3)).astype(np.float32)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.nc"


@given(times=st.integers(1, 60), members=st.integers(1, 12), size=st.integers(1, 80))
@settings(max_examples=200, deadline=None)
def test_units_hold_every_field_once_in_order(times: int, members: int, size: int) -> None:
    units = plan_units(times, members, size)
    pairs = [p for u in units for p in itertools.product(range(times)[u.times], u.members)]
    assert sorted(pairs) == list(itertools.product(range(times), range(members)))
    assert len(pairs) == len(set(pairs)) == sum(unit.fields for unit in units)
    assert all(1 <= unit.fields <= size for unit in units)
    assert [unit.index for unit in units] == list(range(len(units)))
    starts = [(unit.time_start, unit.member_start) for unit in units]
    assert starts == sorted(starts)
    if members <= size:  # members are kept together first, and the last unit alone is short
        assert {len(unit.members) for unit in units} == {members}
        assert {unit.fields for unit in units[:-1]} <= {members * (size // members)}
    else:
        assert {unit.time_stop - unit.time_start for unit in units} == {1}


def test_a_plan_is_cut_as_told() -> None:
    assert plan_units(5, 3, 7) == (Unit(0, 0, 2, 0, 3), Unit(1, 2, 4, 0, 3), Unit(2, 4, 5, 0, 3))
    assert plan_units(1, 3, 2) == (Unit(0, 0, 1, 0, 2), Unit(1, 0, 1, 2, 3))
    assert plan_units(0, 3, 2) == ()


def test_parts_come_back_and_know_which_are_done(output: Path) -> None:
    store = begin(output)
    first, second, *_ = store.units
    assert not store.done(first)
    store.write(first, numbered(first))
    assert store.done(first)
    assert not store.done(second)
    np.testing.assert_array_equal(store.read(first), numbered(first))
    assert store.folder == stream.parts_folder(output) == output.parent / ".out.nc.parts"


@pytest.mark.parametrize("size", [1, 2, 4, 7, 100])
def test_a_member_is_gathered_across_units(size: int, output: Path) -> None:
    store = begin(output, fields_per_unit=size)
    for unit in store.units:
        store.write(unit, numbered(unit))
    for member, variable, part in itertools.product(
        range(3), range(2), (slice(0, 5), slice(1, 4), slice(4, 5))
    ):
        values = store.member(member, variable, part)
        assert values.shape == (part.stop - part.start, 2, 3)
        expected = 100 * np.arange(part.start, part.stop) + 10 * member + variable
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
        store.write(store.units[0], numbered(store.units[0]))
    assert not store.done(store.units[0])
    monkeypatch.undo()
    assert not begin(output).done(store.units[0])
    store.write(store.units[0], numbered(store.units[0]))
    np.testing.assert_array_equal(store.read(store.units[0]), numbered(store.units[0]))


def test_a_resumed_run_keeps_its_parts_and_the_cut_it_was_begun_with(output: Path) -> None:
    store = begin(output, fields_per_unit=4)
    store.write(store.units[1], numbered(store.units[1]))
    again = begin(output, fields_per_unit=15)
    assert again.units == store.units == plan_units(5, 3, 4)
    assert [again.done(unit) for unit in again.units] == [False, True, False, False, False]


def test_identities_are_compared_as_json(output: Path) -> None:
    store = begin(output, identity={"variables": ("tas", "pr")})
    store.write(store.units[0], numbered(store.units[0]))
    assert begin(output, identity={"variables": ["tas", "pr"]}).done(store.units[0])


def test_parts_of_another_run_are_refused_and_the_difference_is_named(output: Path) -> None:
    store = begin(output)
    store.write(store.units[0], numbered(store.units[0]))
    other = {**IDENTITY, "seed": 7, "inputs": {"a.nc": "f" * 64}}
    with pytest.raises(ResumeError, match="holds parts of another run") as error:
        begin(output, identity=other)
    assert "(seed: 0 then, 7 now; other inputs)" in str(error.value)
    assert "--overwrite to discard them" in str(error.value)
    assert store.done(store.units[0])


def test_parts_of_another_run_are_discarded_when_asked(output: Path) -> None:
    old = begin(output, fields_per_unit=4)
    old.write(old.units[0], numbered(old.units[0]))
    new = begin(output, fields_per_unit=2, identity={**IDENTITY, "seed": 7}, discard=True)
    assert new.units == plan_units(5, 3, 2)
    assert not any(new.done(unit) for unit in new.units)
    assert [path.name for path in new.folder.iterdir()] == ["plan.json"]


def test_discarding_keeps_the_parts_of_this_very_run(output: Path) -> None:
    store = begin(output)
    store.write(store.units[0], numbered(store.units[0]))
    assert begin(output, discard=True).done(store.units[0])


def test_parts_without_a_plan_are_thrown_away(output: Path) -> None:
    store = begin(output)
    store.write(store.units[0], numbered(store.units[0]))
    (store.folder / "plan.json").unlink()
    assert not begin(output).done(store.units[0])


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b"\xff\xfe", b"[]", b"{}", b'"plan"', b'{"identity": 3, "fields_per_unit": 4}',
     b'{"identity": {}, "fields_per_unit": 0}'],
)  # fmt: skip
def test_a_damaged_plan_is_named_with_the_remedy_or_discarded(content: bytes, output: Path) -> None:
    plan = begin(output).folder / "plan.json"
    plan.write_bytes(content)
    with pytest.raises(ResumeError, match=r"plan\.json is damaged; remove the folder .*\.parts"):
        begin(output)
    store = begin(output, discard=True)
    assert not store.done(store.units[0])


def test_a_full_disk_is_an_output_error_and_leaves_no_half_part(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begin(output)

    def full_disk(target: Any, values: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OutputError, match=r"cannot write .*unit-.*: No space left on device"):
        store.write(store.units[0], numbered(store.units[0]))
    assert [path.name for path in store.folder.iterdir()] == ["plan.json"]


def test_a_damaged_part_is_named_with_the_remedy(output: Path) -> None:
    store = begin(output)
    store.write(store.units[0], numbered(store.units[0]))
    part = next(store.folder.glob("unit-*"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ResumeError, match=r"unit-.*\.npy is damaged; remove it and run again"):
        store.read(store.units[0])


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
    store.write(store.units[0], numbered(store.units[0]))
    store.remove()
    assert list(output.parent.iterdir()) == []


def test_an_output_that_exists_is_refused_unless_it_may_be_replaced(output: Path) -> None:
    check_output(output, overwrite=False)
    output.write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"out\.nc exists already; give --overwrite"):
        check_output(output, overwrite=False)
    check_output(output, overwrite=True)


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; expected the name of a NetCDF file"):
        check_output(tmp_path, overwrite=True)


def test_the_folder_of_an_output_must_exist(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*nowhere of the output does not exist"):
        check_output(tmp_path / "nowhere" / "out.nc", overwrite=False)


@pytest.mark.parametrize("place", [0, 1 << 19, -1])
def test_a_fingerprint_tells_contents_and_sizes_apart(place: int, tmp_path: Path) -> None:
    path = tmp_path / "data.nc"
    content = bytearray(3 << 20)
    path.write_bytes(content)
    before = file_fingerprint(path)
    assert file_fingerprint(path) == before
    content[place] ^= 1
    path.write_bytes(content)
    assert file_fingerprint(path) != before
    path.write_bytes(bytes((3 << 20) + 1))
    assert file_fingerprint(path) != before


def test_a_fingerprint_belongs_to_the_content_and_not_to_the_name(tmp_path: Path) -> None:
    for name in ("a.nc", "b.nc"):
        (tmp_path / name).write_bytes(b"short")
    assert file_fingerprint(tmp_path / "a.nc") == file_fingerprint(tmp_path / "b.nc")
