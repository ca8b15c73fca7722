"""Values that no quantity of their level can have, or nothing like those a prior was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from climdown import cf
from climdown.errors import InputError
from climdown.inputs.checks import check_values
from climdown.inputs.typical import Typical, typical
from climdown.priors.store import load_prior
from tests.commands import Shell, write_pr, write_tas
from tests.factories import PR, TAS, Floats, make_dataset
from tests.priors import write_tiny_prior

GRAVITY = 9.80665


def of(value: float) -> Callable[[Floats, Floats, int], Floats]:
    """A field about a value, in its hundredths."""
    return lambda lat, lon, step: value * (1.0 + 0.01 * np.sin(lon + step) + 0.0 * lat)


def write_heights(path: Path, height: float, level: int) -> cf.Field:
    name, quantity = f"zg{level}", "geopotential_height"
    make_dataset(path=path, name=name, standard_name=quantity, units="m", values=of(height))
    return cf.open_field(path, cf.Quantity(name, (quantity,), (name,), "m", level * 100.0))


@pytest.mark.parametrize(
    ("level", "height"), [(10, 30_500.0), (50, 20_000.0), (250, 10_300.0), (500, 5500.0),
                          (850, 1450.0), (1000, 100.0)]
)  # fmt: skip
def test_heights_are_judged_by_their_level(tmp_path: Path, level: int, height: float) -> None:
    check_values(write_heights(tmp_path / "height.nc", height, level))
    geopotential = write_heights(tmp_path / "geopotential.nc", GRAVITY * height, level)
    with pytest.raises(InputError, match=rf"geopotential.nc: variable 'zg{level}' has 100.00%"):
        check_values(geopotential)
    # Decametres called metres.
    if level < 850:
        with pytest.raises(InputError, match="unbelievable for zg"):
            check_values(write_heights(tmp_path / "dam.nc", height / 10.0, level))


def test_inspect_knows_the_level_too(tmp_path: Path, shell: Shell) -> None:
    write_heights(tmp_path / "zg.nc", GRAVITY * 5500.0, 500)
    assert "lie outside 3242 to 6803 m" in shell("inspect", "zg.nc", "--no-priors").out


@pytest.mark.parametrize(
    ("value", "reading"),
    [(5.0 * 86400, "prior tiny is"), (3.0 / 86400, "in 'kg m-2 s-1' it would be 2.99")],
    ids=["multiplied twice", "flux called mm/day"],
)
def test_rain_in_other_units_than_it_says_is_refused(
    tmp_path: Path, shell: Shell, value: float, reading: str
) -> None:
    write_tiny_prior(tmp_path / "tiny")
    write_pr(tmp_path / "pr.nc", units="mm day-1", values=of(value))
    result = shell("run", "pr.nc", "out.nc", "--prior", "tiny", "--method", "zssd")
    assert result.code == 3
    assert "pr.nc: variable 'pr' has" in result.message
    if value < 1.0:
        assert reading in result.message
        assert "units 'mm day-1' say; that of prior tiny is 0.6" in result.message


def test_a_dry_spell_is_said_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pr(tmp_path / "pr.nc", units="mm day-1", values=of(1e-7))
    check_values(cf.open_field(tmp_path / "pr.nc", PR), Typical("p", "mm day-1", 2.0, None, 0.05))
    assert (
        "is dry everywhere, with a mean of 9.97e-08 mm day-1; that of prior p is 2" in caplog.text
    )


@pytest.mark.parametrize("value", [0.0, 0.5, 2.0, 60.0])
def test_usual_rain_passes_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    write_pr(tmp_path / "pr.nc", units="mm day-1", values=of(value))
    check_values(cf.open_field(tmp_path / "pr.nc", PR), Typical("p", "mm day-1", 2.0, None, 0.05))
    assert not caplog.records


def test_rain_far_above_the_prior_is_refused_with_the_reading_that_fits(tmp_path: Path) -> None:
    write_pr(tmp_path / "pr.nc", units="m day-1", values=of(0.5))
    with pytest.raises(
        InputError, match=r"mean of 498.6 mm day-1 .*in 'mm day-1' it would be 0.4986"
    ):
        check_values(
            cf.open_field(tmp_path / "pr.nc", PR), Typical("p", "mm day-1", 2.0, None, 0.05)
        )


@pytest.mark.parametrize(
    ("kelvin", "reading"), [(329.0, "in 'degF' it would be 286"), (230.0, "prior p is 285")]
)
def test_temperatures_many_deviations_away_are_refused(
    tmp_path: Path, kelvin: float, reading: str
) -> None:
    write_tas(tmp_path / "tas.nc", units="degC", values=lambda y, x, k: kelvin - 273.15 + 0 * y * x)
    field = cf.open_field(tmp_path / "tas.nc", TAS)
    with pytest.raises(InputError, match=f"units 'degC' say; .*with deviations of 3.*{reading}|"
                       f"units 'degC' say; that of {reading}"):  # fmt: skip
        check_values(field, Typical("p", "K", 285.0, 3.0))
    check_values(field, Typical("p", "K", kelvin + 12.0, 3.0))


def test_typical_values_are_those_of_the_fields_and_transforms(tmp_path: Path) -> None:
    prior = write_tiny_prior(tmp_path / "tiny")
    tas, pr = prior.card.variables
    warm, wet = typical(prior, tas), typical(prior, pr)
    climatology = prior.climatology("tas")
    assert climatology is not None
    assert warm.mean == pytest.approx(climatology[prior.mask[0]].mean(), rel=1e-6)
    assert warm.deviation == pytest.approx(3.0)
    assert wet.mean == pytest.approx(np.expm1(0.5))
    assert (wet.deviation, wet.trace) == (None, 0.05)


def test_bundled_priors_know_what_is_usual() -> None:
    prior = load_prior("erai-europe-zssd")
    heights = next(v for v in prior.card.variables if v.name == "zg500")
    assert 5400.0 < typical(prior, heights).mean < 5800.0
