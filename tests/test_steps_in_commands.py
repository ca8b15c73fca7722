"""Steps that are stamped at their end, in each command that asks for a month, day or season."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cftime
import netCDF4
import numpy as np
import pytest

from climdown import cf
from climdown.errors import InputError
from climdown.inputs import matching
from climdown.priors.prior import Prior
from tests.commands import Shell, read_members, write_pr, write_tas
from tests.factories import Floats
from tests.series import daily, noise, write_days

UNITS = "days since 1980-01-01"
YEARS = 10
MONTH = np.arange(12 * YEARS) % 12


def month_edges(calendar: str) -> Floats:
    """Starts of months from January 1980, and the end of the last one, in days."""
    firsts = [
        cftime.datetime(1980 + m // 12, 1 + m % 12, 1, calendar=calendar)
        for m in range(12 * YEARS + 1)
    ]
    return np.asarray(cftime.date2num(firsts, UNITS, calendar), dtype=np.float64)


def write_months(path: str, values: Floats, *, stamp: float, calendar: str = "noleap") -> None:
    """Monthly means whose stamp lies at a share of the month's length."""
    edges = month_edges(calendar)
    bounds = np.stack([edges[:-1], edges[1:]], axis=1)
    stamps = edges[:-1] + stamp * np.diff(edges)
    dates = cftime.num2date(stamps, UNITS, calendar)
    write_days(path, dates, values, bounds=True)
    with netCDF4.Dataset(path, "a") as file:
        file["time"].units = UNITS
        file["time"][:] = stamps
        file["time_bnds"][:] = bounds


def climate(seed: int) -> Floats:
    """Warm in July, with a cycle of 24 K; shape (months, ny, nx)."""
    cycle: Floats = 285.0 - 12.0 * np.cos(2.0 * np.pi * MONTH / 12.0)
    departures: Floats = noise(np.empty(12 * YEARS, dtype=object), seed)
    return np.asarray(departures + cycle[:, None, None])


def by_month(values: Floats) -> Floats:
    return np.array([values[month == MONTH].mean() for month in range(12)])


@pytest.mark.parametrize("calendar", ["noleap", "standard"])
def test_months_stamped_at_their_end_are_adjusted_as_themselves(
    shell: Shell, calendar: str
) -> None:
    ref, sim = climate(1), climate(2) + 3.0
    write_months("ref.nc", ref, stamp=0.5)
    write_months("sim.nc", sim, stamp=1.0, calendar=calendar)
    result = shell("qdm", "--ref", "ref.nc", "--hist", "sim.nc", "sim.nc", "out.nc")
    assert result.code == 0, result.err
    # Ten values a month between a hundred quantiles.
    np.testing.assert_allclose(by_month(read_members("out.nc")), by_month(ref), atol=5e-3)
    with netCDF4.Dataset("out.nc") as out, netCDF4.Dataset("sim.nc") as source:
        for name in ("time", "time_bnds"):
            np.testing.assert_array_equal(out[name][:], source[name][:])


@pytest.mark.parametrize("options", [(), ("--group", "dayofyear", "--window", 61)])
def test_it_does_not_matter_where_in_their_month_steps_are_stamped(
    shell: Shell, options: tuple[str | int, ...]
) -> None:
    write_months("ref.nc", climate(1), stamp=0.5)
    for name, stamp in (("start", 0.0), ("middle", 0.5), ("end", 1.0)):
        write_months(f"{name}.nc", climate(2), stamp=stamp)
        files = ("--ref", "ref.nc", "--hist", f"{name}.nc", f"{name}.nc", f"{name}_out.nc")
        assert shell("qdm", *files, *options).code == 0
    start, middle, end = (read_members(f"{n}_out.nc") for n in ("start", "middle", "end"))
    np.testing.assert_array_equal(start, middle)
    np.testing.assert_array_equal(end, middle)


def test_a_period_is_of_the_middle_of_steps(shell: Shell) -> None:
    write_months("ref.nc", climate(1), stamp=0.5)
    write_months("sim.nc", climate(2), stamp=1.0)
    arguments = ("qdm", "--ref", "ref.nc", "--hist", "sim.nc", "sim.nc")
    assert shell(*arguments, "all.nc").code == 0
    assert shell(*arguments, "part.nc", "--time", "1980-12/1981-01").code == 0
    np.testing.assert_array_equal(read_members("part.nc"), read_members("all.nc")[11:13])


def ended(path: Path, write: Any, *, days: int = 3, shift: float = 0.0) -> Path:
    """Days of January 2001 stamped at their end, with bounds."""
    starts = np.arange(float(days)) + shift
    write(path, days=tuple(starts + 1.0), bounds=True)
    with netCDF4.Dataset(path, "a") as file:
        file["time_bnds"][:] = np.stack([starts, starts + 1.0], axis=1)
    return path


def match(prior: Prior, *paths: Path) -> dict[str, cf.Field]:
    return matching.match(prior, cf.Sources.open(paths), None).fields


def test_days_stamped_at_their_end_go_with_days_stamped_at_noon(
    tiny_prior: Prior, tmp_path: Path
) -> None:
    paths = ended(tmp_path / "tas.nc", write_tas), write_pr(tmp_path / "pr.nc")
    assert set(match(tiny_prior, *paths)) == {"tas", "pr"}


def test_days_of_equal_stamps_and_other_bounds_are_refused(
    tiny_prior: Prior, tmp_path: Path
) -> None:
    tas = ended(tmp_path / "tas.nc", write_tas)
    pr = write_pr(tmp_path / "pr.nc", days=(1.0, 2.0, 3.0))
    with pytest.raises(InputError, match=r"2001-01-02 00:00 .* differs from .*2001-01-01 12:00"):
        match(tiny_prior, tas, pr)


def test_instants_go_with_means_over_the_hours_before(tiny_prior: Prior, tmp_path: Path) -> None:
    hours = (0.25, 0.5, 0.75)
    tas, pr = write_tas(tmp_path / "tas.nc", days=hours), tmp_path / "pr.nc"
    write_pr(pr, days=hours, bounds=True)
    with netCDF4.Dataset(pr, "a") as file:
        file["time_bnds"][:] = [[h - 0.25, h] for h in hours]
    assert set(match(tiny_prior, tas, pr)) == {"tas", "pr"}


def test_means_over_other_hours_are_refused(tiny_prior: Prior, tmp_path: Path) -> None:
    hours = (0.25, 0.5, 0.75)
    for name, write, before in (("tas", write_tas, 0.25), ("pr", write_pr, 0.0)):
        write(tmp_path / f"{name}.nc", days=hours, bounds=True)
        with netCDF4.Dataset(tmp_path / f"{name}.nc", "a") as file:
            file["time_bnds"][:] = [[h - before, h - before + 0.25] for h in hours]
    with pytest.raises(InputError, match=r"the time axis of pr .* differs"):
        match(tiny_prior, tmp_path / "tas.nc", tmp_path / "pr.nc")


@pytest.mark.parametrize(
    "calendars", [("standard", "proleptic_gregorian"), ("gregorian", "standard")]
)
def test_gregorian_calendars_go_together(
    tiny_prior: Prior, tmp_path: Path, calendars: tuple[str, str]
) -> None:
    tas = write_tas(tmp_path / "tas.nc", calendar=calendars[0])
    pr = write_pr(tmp_path / "pr.nc", calendar=calendars[1])
    assert set(match(tiny_prior, tas, pr)) == {"tas", "pr"}


def test_other_calendars_do_not_go_together(tiny_prior: Prior, tmp_path: Path) -> None:
    tas = write_tas(tmp_path / "tas.nc")
    pr = write_pr(tmp_path / "pr.nc", calendar="noleap")
    with pytest.raises(InputError, match=r"the time axis of pr \(.*noleap\) differs"):
        match(tiny_prior, tas, pr)


def test_a_member_is_the_same_whatever_part_of_its_day_is_stamped(
    shell: Shell, tiny_prior: Prior, tmp_path: Path
) -> None:
    write_tas(tmp_path / "noon.nc")
    ended(tmp_path / "end.nc", write_tas)
    for name in ("noon", "end"):
        arguments = ("run", f"{name}.nc", f"{name}_out.nc", "--prior", tiny_prior.folder)
        result = shell(*arguments, "--members", 2, "--method", "zssd")
        assert result.code == 0, result.err
    np.testing.assert_array_equal(read_members("end_out.nc"), read_members("noon_out.nc"))
    with netCDF4.Dataset("end_out.nc") as file:
        assert file["time"][:].tolist() == [1.0, 2.0, 3.0]


def test_the_last_day_of_january_is_stamped_in_february(shell: Shell, tiny_prior: Prior) -> None:
    """A prior of January may not know February."""
    days = tuple(day + 0.5 for day in range(31))
    write_tas(Path("noon.nc"), days=days)
    ended(Path("end.nc"), write_tas, days=31)
    period = ("--time", "2001-01-31/2001-01-31")
    for name in ("noon", "end"):
        files = (f"{name}.nc", f"{name}_out.nc", "--prior", tiny_prior.folder)
        result = shell("run", *files, "--method", "bilinear", *period)
        assert result.code == 0, result.err
    np.testing.assert_array_equal(read_members("end_out.nc"), read_members("noon_out.nc"))
    assert len(read_members("end_out.nc")) == 1


def test_seasons_of_transport_are_of_the_middle_of_days(shell: Shell) -> None:
    """Days of December to February stamped at their end: the last one is no day of March."""
    dates = daily(2001, 3, months=(12, 1, 2))
    values = 280.0 + noise(dates, 1)
    for name, shift in (("ref", 0.0), ("hist", 3.0)):
        write_days(f"{name}.nc", dates, values + shift)
    write_days("end.nc", dates, values + 3.0, bounds=True)
    with netCDF4.Dataset("end.nc", "a") as file:
        file["time"][:] = file["time"][:] + 0.5
    results = []
    for sim in ("hist.nc", "end.nc"):
        out = f"out_{sim}"
        arguments = ("--ref", "ref.nc", "--hist", sim, sim, out)
        result = shell("ot", *arguments)
        assert result.code == 0, result.err
        results.append(read_members(out))
    assert np.isfinite(results[0]).all()
    np.testing.assert_array_equal(results[0], results[1])
