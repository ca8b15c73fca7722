"""`climdown qdm --ref PRIOR`: a prior's own quantiles as the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from climdown.priors.prior import Prior
from climdown.priors.store import load_prior
from tests.commands import Shell, read_members
from tests.factories import Floats
from tests.priors import write_tiny_prior
from tests.series import LAT, LON, PER_DAY, PR, WINTER, daily, everywhere, noise, ranks, write_days

DAYS = daily(2001, 4, months=WINTER)
LATER = daily(2051, 3, calendar="noleap", months=WINTER)
BUNDLED = "eobs-iberia-zssd"


@pytest.fixture
def tiny(shell: Shell) -> Prior:
    """The prior `tiny` in the folder of the test, with quantiles."""
    return write_tiny_prior(Path("tiny"), quantiles=True)


def months(dates: Any) -> Floats:
    return np.array([float(date.month) for date in dates])


def mean_month(dates: Any) -> Floats:
    return np.full(len(dates), 5.0)


@pytest.mark.parametrize("group", ["month", "none"])
def test_the_quantiles_of_a_prior_are_the_reference(shell: Shell, tiny: Prior, group: str) -> None:
    by_month = group == "month"
    number = months if by_month else mean_month
    p, tau = ranks(DAYS, 1, by_month=by_month), ranks(LATER, 2, by_month=by_month)
    # The historical climate is (in K, and from month to month) 3 too warm and twice as wide.
    write_days("hist.nc", DAYS, everywhere(281.15 + number(DAYS) + 2.0 * p))
    sim = 285.0 + number(LATER) + 4.0 * tau
    write_days("sim.nc", LATER, everywhere(sim))
    result = shell(
        *("qdm", "--ref", "tiny", "--hist", "hist.nc", "sim.nc", "out.nc", "--group", group)
    )
    assert result.code == 0, result.err
    at = np.clip(tau, 0.005, 0.995)
    expected = sim + (278.15 + at) - (281.15 + 2.0 * at)
    np.testing.assert_allclose(read_members("out.nc"), everywhere(expected), rtol=0, atol=1e-4)
    with netCDF4.Dataset("out.nc") as file:
        np.testing.assert_array_equal(file["lat"][:], LAT)
        np.testing.assert_array_equal(file["lon"][:], LON)


def test_units_and_dry_days_are_those_of_the_simulation(shell: Shell, tiny: Prior) -> None:
    # The prior has rain on half of the days, of 20 (p - 0.5) mm/day; the model twice that.
    amounts = np.maximum(40.0 * (ranks(DAYS, 1) - 0.5), 0.0)
    write_days("hist.nc", DAYS, everywhere(amounts / PER_DAY), **PR)
    result = shell("qdm", "--ref", "tiny", "--hist", "hist.nc", "hist.nc", "out.nc")
    assert result.code == 0, result.err
    found = PER_DAY * read_members("out.nc", "pr")
    wet = everywhere(amounts) > 2.0
    np.testing.assert_allclose(found[wet], everywhere(amounts / 2.0)[wet], rtol=0.02)
    assert "500 quantiles" in result.err
    assert "dry days (below 5.79e-07 kg m-2 s-1): reference 50.2%, historical 50" in result.err
    assert (found == 0.0).mean() == pytest.approx(0.5, abs=0.01)


def test_a_prior_works_on_its_coarse_grid(shell: Shell, tiny: Prior) -> None:
    lat, lon = np.arange(38.25, 45.0, 0.5), np.arange(-6.25, 2.0, 0.5)
    shape: Any = {"lat": lat, "lon": lon}
    write_days("hist.nc", DAYS, 280.0 + noise(DAYS, 1, **shape), **shape)
    result = shell("qdm", "--ref", "tiny", "--hist", "hist.nc", "hist.nc", "out.nc")
    assert result.code == 0, result.err
    assert read_members("out.nc").shape == (len(DAYS), *tiny.card.coarse_grid.shape)
    same = shell(
        *("qdm", "--ref", "tiny", "--hist", "hist.nc", "hist.nc", "b.nc", "--grid", "tiny:coarse")
    )
    assert same.code == 0, same.err
    np.testing.assert_array_equal(read_members("b.nc"), read_members("out.nc"))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--group", "dayofyear"), 2, "prior tiny carries quantiles by month and of all its"),
        (("--tails", "extremes"), 2, "prior tiny does not carry the extremes"),
        (("--quantiles", "50"), 2, "prior tiny carries 100 quantiles of this variable, not 50"),
        (("--ref-period", "2001/2002"), 2, "quantiles have no dates; leave --ref-period out"),
        (("--grid", "2"), 2, "--grid differs from the coarse grid of prior tiny"),
    ],
)
def test_what_a_prior_does_not_carry_is_refused(
    shell: Shell, tiny: Prior, options: tuple[str, ...], code: int, message: str
) -> None:
    write_days("hist.nc", DAYS, 280.0 + noise(DAYS, 1))
    result = shell("qdm", "--ref", "tiny", "--hist", "hist.nc", "hist.nc", "out.nc", *options)
    assert result.code == code
    assert message in result.message
    assert not Path("out.nc").exists()


def test_a_number_of_quantiles_that_the_prior_has_is_no_contradiction(
    shell: Shell, tiny: Prior
) -> None:
    write_days("hist.nc", DAYS, 280.0 + noise(DAYS, 1))
    options = ("--quantiles", "100")
    result = shell("qdm", "--ref", "tiny", "--hist", "hist.nc", "hist.nc", "out.nc", *options)
    assert result.code == 0, result.err


def test_a_prior_without_quantiles_is_refused(shell: Shell) -> None:
    write_tiny_prior(Path("plain"))
    write_days("hist.nc", DAYS, 280.0 + noise(DAYS, 1))
    result = shell("qdm", "--ref", "plain", "--hist", "hist.nc", "hist.nc", "out.nc")
    assert result.code == 5
    assert "prior tiny carries no quantiles of tas; give observations" in result.message


@pytest.mark.parametrize(
    "variable",
    [
        {"name": "psl", "standard_name": "air_pressure_at_mean_sea_level", "units": "Pa"},
        {"name": "tasmax", "attributes": {"cell_methods": "time: maximum"}},
        {"name": "ta850"},
    ],
    ids=lambda v: str(v["name"]),
)
def test_a_variable_that_the_prior_does_not_have_is_refused(
    shell: Shell, tiny: Prior, variable: dict[str, Any]
) -> None:
    write_days("hist.nc", DAYS, 280.0 + noise(DAYS, 1), **variable)
    result = shell("qdm", "--ref", "tiny", "--hist", "hist.nc", "hist.nc", "out.nc")
    assert result.code == 5
    name = variable["name"]
    assert f"prior tiny has no variable like {name} of hist.nc, only tas, pr" in result.message


def test_a_name_that_is_neither_file_nor_prior_is_refused(shell: Shell) -> None:
    write_days("hist.nc", DAYS, 280.0 + noise(DAYS, 1))
    result = shell("qdm", "--ref", "eobs-iberia-zsd", "--hist", "hist.nc", "hist.nc", "out.nc")
    assert result.code == 3
    assert (
        "the reference 'eobs-iberia-zsd' is neither a file nor a prior: no prior" in result.message
    )
    assert f"did you mean {BUNDLED}?" in result.message


@pytest.mark.parametrize("group", ["month", "none"])
@pytest.mark.parametrize("variable", ["tas", "pr"])
def test_the_bundled_prior_serves_as_reference(shell: Shell, group: str, variable: str) -> None:
    prior = load_prior(BUNDLED)
    known = prior.quantiles(variable)
    assert known is not None
    coarse, size = prior.card.coarse_grid, known.shape[1]
    # As many days as it has quantiles, with these values: nothing is left to adjust.
    dates = daily(1990, 20, months=WINTER if group == "none" else (1,))[:size]
    series = known[-1 if group == "none" else 0]
    units = {"units": "degC"} if variable == "tas" else {**PR, "units": "mm/day"}
    order = np.random.default_rng(0).permutation(size)
    place: Any = {"lat": coarse.lat, "lon": coarse.lon}
    write_days("hist.nc", dates, series[order].astype(np.float64), **place, **units)
    write_days("sim.nc", dates, series[order] + 0.0 * coarse.lat[:, None], **place, **units)
    result = shell(
        *("qdm", "--ref", BUNDLED, "--hist", "hist.nc", "sim.nc", "out.nc", "--group", group)
    )
    assert result.code == 0, result.err
    found, expected = read_members("out.nc", variable), series[order]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    error = np.abs(found - expected)[np.isfinite(expected)]
    # The days' own quantiles lie a little inside those they were made of.
    assert np.median(error) < 0.03 * float(np.nanstd(expected))
