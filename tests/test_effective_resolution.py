"""The filter scale that an input's spectrum has."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from climdown import cf, regrid
from climdown.config import RunConfig
from climdown.errors import ConfigError
from climdown.grid import Grid
from climdown.inputs import matching
from climdown.metrics.scales import draw_fields
from climdown.metrics.spectra import tapered_spectrum
from climdown.pipeline import effective_resolution
from climdown.pipeline.adjustment import Averages
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior, write_prior
from climdown.priors.tensors import spectrum_field
from tests.factories import Floats, gaussian_grid, make_dataset
from tests.priors import write_tiny_prior

FINE = Grid.regular(40.0, 52.0, -6.0, 12.0, 0.25)  # 48 x 72 cells, 4 of them in a coarse one
DAYS = 64


def red(count: int, seed: int) -> Floats:
    """Normal fields on FINE with power k^-3 along a line, and variance of about 1."""
    ny, nx = 2 * FINE.shape[0], 2 * FINE.shape[1]
    length = np.hypot(np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None, :])
    amplitude = np.maximum(length, 1.0 / nx) ** -1.75
    white = np.fft.rfft2(np.random.default_rng(seed).normal(size=(count, ny, nx)))
    fields = np.fft.irfft2(white * amplitude, s=(ny, nx))[:, : FINE.shape[0], : FINE.shape[1]]
    return np.asarray((fields - fields.mean()) / fields.std())


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Prior:
    """A prior of tas and pr whose training fields were those of `red`."""
    folder = tmp_path_factory.mktemp("filtering")
    bare = write_tiny_prior(folder / "bare", months=(1, 2, 3), grid=FINE, quantiles=True)
    fields = dict(bare.fields)
    floor = bare.transforms["pr"].forward(np.array(0.0))
    for name, mask, z in (
        ("tas", bare.mask[0], red(200, 1)),
        ("pr", bare.mask[1], np.maximum(red(200, 2), floor)),
    ):
        fields[spectrum_field(name)] = tapered_spectrum(z, mask)[1].astype(np.float32)
    weights = bare.denoiser().state_dict()
    return write_prior(folder / "red", bare.card, weights, fields, "# tiny\n")


def physical(prior: Prior, name: str, z: Floats) -> Floats:
    """Fields in the prior's units, missing over its sea."""
    channel = [v.name for v in prior.card.variables].index(name)
    values = np.maximum(prior.transforms[name].inverse(z), -np.inf if name == "tas" else 0.0)
    return np.asarray(np.where(prior.mask[channel], values, np.nan))


def lowered(values: Floats, factor: int) -> Floats:
    """Means of known cells over blocks of cells."""
    weights = regrid.weights(FINE, FINE.coarsen(factor), "conservative")
    return np.asarray(weights.apply(values), dtype=np.float64)


def write(path: Path, name: str, values: Floats, grid: Grid, days: Floats | None = None) -> Path:
    """Fields in the prior's units, from January 2001 on."""
    kinds = {
        "tas": {"units": "degC"},
        "pr": {"name": "pr", "standard_name": "lwe_precipitation_rate", "units": "mm/day"},
    }
    make_dataset(
        path=path,
        lat=grid.lat,
        lon=grid.lon,
        times=list(np.arange(len(values)) + 0.5 if days is None else days),
        values=lambda lat, lon, step: values[step],
        **kinds[name],  # type: ignore[arg-type]
    )
    return path


def opened(prior: Prior, *paths: Path) -> dict[str, cf.Field]:
    return matching.match(prior, cf.Sources.open(paths), None).fields


def chosen(prior: Prior, *paths: Path) -> float:
    """Degrees that `auto` finds."""
    fields = opened(prior, *paths)
    start = effective_resolution.choose_filter_grid(prior, fields, "auto")
    return effective_resolution.choose_effective_grid(prior, fields, start).spacing


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="climdown")
    return caplog


@pytest.mark.parametrize("name", ["tas", "pr"])
@pytest.mark.parametrize("factor", [2, 4, 6, 8])
def test_exact_means_guide_at_their_own_cells(
    name: str, factor: int, prior: Prior, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    values = lowered(physical(prior, name, red(DAYS, 3)), factor)
    path = write(tmp_path / "x.nc", name, values, FINE.coarsen(factor))
    spacing = max(1.0, 0.25 * factor)  # never finer than the prior's coarse grid
    assert chosen(prior, path) == pytest.approx(spacing)
    cell = spacing * 111.195 * np.sqrt(np.cos(np.radians(46.0)))
    assert f"filter scale {spacing:.3g} deg: waves from {2 * cell:.0f} km on are" in told.text


@pytest.mark.parametrize("name", ["tas", "pr"])
def test_powers_of_exact_means_are_those_expected(name: str, prior: Prior, tmp_path: Path) -> None:
    values = lowered(physical(prior, name, red(DAYS, 4)), 4)
    path = write(tmp_path / "x.nc", name, values, FINE.coarsen(4))
    field = opened(prior, path)[name]
    ratios = effective_resolution.spectral_ratios(
        prior, ["tas", "pr"].index(name), field, field.grid
    )
    assert not isinstance(ratios, str)
    assert ratios.shape == (4,)  # up to a quarter of eighteen cells
    np.testing.assert_allclose(ratios, 1.0, rtol=0, atol=0.2)


@pytest.mark.parametrize("name", ["tas", "pr"])
@pytest.mark.parametrize(("factor", "low", "high"), [(8, 2.0, 3.0), (12, 2.0, 4.0), (16, 3.0, 5.0)])
def test_coarser_fields_on_fine_cells_are_found_out(
    name: str,
    factor: int,
    low: float,
    high: float,
    prior: Prior,
    tmp_path: Path,
    told: pytest.LogCaptureFixture,
) -> None:
    coarse, cells = FINE.coarsen(factor), FINE.coarsen(4)
    values = lowered(physical(prior, name, red(DAYS, 5)), factor)
    smooth = regrid.weights(coarse, cells, "bilinear").apply(values)
    path = write(tmp_path / "x.nc", name, np.asarray(smooth, np.float64), cells)
    found = chosen(prior, path)
    assert low <= found <= high
    length = 2.0 * found * cells.kilometres / cells.spacing
    assert (
        f"filter scale {found:.3g} deg: the spectrum of {name} departs from the prior's "
        f"below {length:.0f} km"
    ) in told.text


@pytest.mark.parametrize("name", ["tas", "pr"])
@pytest.mark.parametrize("factor", [8, 12])
def test_coarser_cells_that_are_repeated_are_put_together_again(
    name: str, factor: int, prior: Prior, tmp_path: Path
) -> None:
    values = lowered(physical(prior, name, red(DAYS, 5)), factor)
    repeated = values.repeat(factor // 4, axis=1).repeat(factor // 4, axis=2)
    path = write(tmp_path / "x.nc", name, repeated, FINE.coarsen(4))
    field = opened(prior, path)[name]
    assert chosen(prior, path) == 0.25 * factor
    ratios = effective_resolution.spectral_ratios(
        prior, ["tas", "pr"].index(name), field, field.grid
    )
    assert not isinstance(ratios, str)
    assert (ratios[: factor // 4 - 1] == 0.0).all()
    assert ratios[factor // 4 - 1] == pytest.approx(1.0, abs=0.4)


def blurred(values: Floats, cells: float) -> Floats:
    known = np.isfinite(values)
    total, weight = (
        gaussian_filter(x, (0.0, cells, cells)) for x in (np.where(known, values, 0.0), 1.0 * known)
    )
    return np.asarray(np.where(known, total / np.where(known, weight, 1.0), np.nan))


@pytest.mark.parametrize("name", ["tas", "pr"])
def test_more_blur_never_makes_a_finer_scale(name: str, prior: Prior, tmp_path: Path) -> None:
    cells, found = FINE.coarsen(4), []
    values = lowered(physical(prior, name, red(DAYS, 6)), 4)
    for i, width in enumerate((0.0, 0.3, 0.6, 1.0, 1.5, 2.0)):
        path = tmp_path / f"{i}.nc"
        found.append(chosen(prior, write(path, name, blurred(values, width), cells)))
    assert found == sorted(found)
    assert found[0] == 1.0
    assert found[3] >= 2.0
    assert found[-1] >= 3.0


def test_noise_from_cell_to_cell_is_found_out(prior: Prior, tmp_path: Path) -> None:
    values = lowered(physical(prior, "tas", red(DAYS, 7)), 4)
    noisy = values + 1.5 * np.random.default_rng(0).normal(size=values.shape)
    assert chosen(prior, write(tmp_path / "x.nc", "tas", noisy, FINE.coarsen(4))) >= 2.0


@pytest.mark.parametrize("strength", [0.4, 2.0])
def test_weak_or_strong_weather_and_standing_bias_are_no_matter_of_scale(
    strength: float, prior: Prior, tmp_path: Path
) -> None:
    z = strength * red(DAYS, 8)
    values = lowered(physical(prior, "tas", z), 4)
    bias = 5.0 * np.random.default_rng(0).normal(size=values.shape[1:])
    assert chosen(prior, write(tmp_path / "x.nc", "tas", values + bias, FINE.coarsen(4))) == 1.0


def test_the_variable_that_is_drawn_worst_decides(
    prior: Prior, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    cells = FINE.coarsen(4)
    tas, pr = (
        lowered(physical(prior, n, red(DAYS, seed)), 4) for n, seed in (("tas", 9), ("pr", 10))
    )
    exact = write(tmp_path / "tas.nc", "tas", tas, cells)
    smooth = write(tmp_path / "pr.nc", "pr", blurred(pr, 1.0), cells)
    assert chosen(prior, exact, smooth) == chosen(prior, smooth) > chosen(prior, exact)
    assert told.text.count("the spectrum of pr departs") == 2
    assert "the spectrum of tas departs" not in told.text


def test_parts_of_an_input_have_the_scale_of_the_whole(prior: Prior, tmp_path: Path) -> None:
    cells = FINE.coarsen(4)
    values = lowered(physical(prior, "tas", red(DAYS, 11)), 4)
    path = write(tmp_path / "x.nc", "tas", blurred(values, 1.0), cells)
    plans = [
        make_plan([path], tmp_path / "out.nc", prior=prior, config=RunConfig(period=period))
        for period in (None, "2001-01-01/2001-01-01", "2001-02-01/2001-02-28")
    ]
    assert len({plan.filter_grid.digest for plan in plans}) == 1
    assert plans[0].filter_grid.spacing > 1.0
    assert len(plans[1].time) == 1
    native = RunConfig(filter_scale="native", period="2001-02-01/2001-02-28")
    plan = make_plan([path], tmp_path / "out.nc", prior=prior, config=native)
    assert plan.filter_grid.spacing == 1.0


def test_other_months_and_broken_steps_of_the_input_do_not_count(
    prior: Prior, tmp_path: Path
) -> None:
    cells = FINE.coarsen(4)
    values = np.tile(lowered(physical(prior, "tas", red(DAYS, 12)), 4), (2, 1, 1))
    values[DAYS:] = blurred(values[DAYS:], 2.0)
    values[3] = np.nan
    values[5] = 1e18
    days = np.concatenate([np.arange(DAYS), 120.0 + np.arange(DAYS)]) + 0.5
    path = write(tmp_path / "x.nc", "tas", values, cells, days)
    config = RunConfig(period="2001-02-01/2001-02-28")
    plan = make_plan([path], tmp_path / "out.nc", prior=prior, config=config)
    assert plan.filter_grid.spacing == 1.0


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("bare", "prior tiny carries no spectrum of tas"),
        ("other size", "prior tiny carries no spectrum of tas"),
        ("few", "the input has 27 steps of tas in the prior's months; need at least 28"),
        ("same", "tas is on too few cells, or the same at all steps"),
        ("tiny", "tas is on too few cells, or the same at all steps"),
    ],
)
def test_what_cannot_be_judged_keeps_its_cells_and_says_so(
    case: str, text: str, prior: Prior, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    values = blurred(lowered(physical(prior, "tas", red(DAYS, 13)), 4), 2.0)
    cells = FINE.coarsen(4)
    if case in ("bare", "other size"):
        key = spectrum_field("tas")
        fields = {k: v for k, v in prior.fields.items() if k != key}
        if case == "other size":
            fields[key] = prior.fields[key][:-1]
        prior = replace(prior, fields=fields)
    if case == "few":
        values = values[:27]
    if case == "same":
        values[:] = values[0]
    if case == "tiny":
        cells = Grid.regular(40.0, 55.0, -6.0, 12.0, 6.0)
        values = values[:, -3:, -3:]
    path = write(tmp_path / "x.nc", "tas", values, cells)
    assert chosen(prior, path) == pytest.approx(cells.spacing)
    assert f"filter scale {cells.spacing:.3g} deg, not judged by spectra: {text}" in told.text


def test_drawn_fields_have_the_spectrum_and_the_minimum_they_should(prior: Prior) -> None:
    for channel, minimum in ((0, -np.inf), (1, -0.6)):
        mask, spectrum = prior.mask[channel], prior.spectrum(("tas", "pr")[channel])
        assert spectrum is not None
        fields = draw_fields(spectrum.astype(np.float64), mask, minimum)
        assert fields.shape == (64, *FINE.shape)
        assert fields.min() >= minimum
        assert abs(fields[:, mask].mean()) < 0.05
        power = tapered_spectrum(fields, mask)[1]
        resolved = slice(0, 36)  # rings beyond are corners of a square
        np.testing.assert_allclose(power[resolved], spectrum[resolved], rtol=0.3)
        np.testing.assert_array_equal(fields, draw_fields(spectrum, mask, minimum))


@pytest.mark.parametrize(
    ("ratios", "factor"),
    [
        ([1.0, 0.9], 1),
        ([0.46, 2.9], 1),
        ([0.44, 1.0, 1.0], 2),
        ([1.0, 3.1, 1.0], 3),
        ([0.1, 0.2], 3),
        ([0.1], 2),
    ],
)
def test_the_longest_wave_that_departs_decides(ratios: list[float], factor: int) -> None:
    assert effective_resolution.first_resolved(np.array(ratios)) == factor


@pytest.mark.parametrize(
    ("cells", "factor", "edges"),
    [
        (6, 2, [0, 2, 4, 6]),
        (7, 2, [0, 2, 4, 6, 7]),
        (7, 3, [0, 3, 6]),
        (8, 3, [0, 3, 6, 8]),
        (2, 5, [0, 2]),
        (4, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_whole_cells_are_put_together(cells: int, factor: int, edges: list[float]) -> None:
    grid = Grid.regular(0.0, cells, 0.0, 1.0, 1.0).grouped(factor)
    np.testing.assert_array_equal(grid.lat_edges, edges)
    np.testing.assert_allclose(grid.lat, 0.5 * (np.array(edges)[1:] + np.array(edges)[:-1]))


def test_a_closed_circle_stays_closed() -> None:
    grid = gaussian_grid(32).grouped(5)  # 64 longitudes, four left over of 60
    assert grid.periodic
    assert gaussian_grid(32).grouped(9).periodic  # one left over


@pytest.mark.parametrize("scale", ["native", 0.5, 1.5, 2.01])
def test_quantiles_are_known_of_whole_coarse_cells_alone(scale: float | str, prior: Prior) -> None:
    words = r"on its coarse grid \(12 x 18 .*give a multiple of 1, or give observations as --ref"
    with pytest.raises(ConfigError, match=words):
        effective_resolution.quantile_grid(prior, scale)


def test_multiples_of_the_cells_of_quantiles_are_taken(prior: Prior) -> None:
    assert effective_resolution.quantile_grid(prior, "auto").digest == prior.card.coarse_grid.digest
    assert effective_resolution.quantile_grid(prior, 1.0).digest == prior.card.coarse_grid.digest
    assert effective_resolution.quantile_grid(prior, 2.0).digest == FINE.coarsen(8).digest


@pytest.mark.parametrize("channel", [0, 1])
def test_adjusted_coarse_values_are_averaged_as_fine_ones_would_be(
    channel: int, prior: Prior
) -> None:
    variable, mask = prior.card.variables[channel], prior.mask[channel]
    fine = np.where(mask, red(3, 14), np.nan)
    grid = prior.card.coarse_grid.grouped(3)
    averages = Averages.between(prior, variable, prior.card.coarse_grid, grid)
    found = averages.apply(lowered(fine, 4).astype(np.float32))
    exact = regrid.weights(FINE, grid, "conservative").apply(fine)
    known = np.isfinite(exact)
    np.testing.assert_array_equal(np.isfinite(found), known)
    np.testing.assert_allclose(found[known], exact[known], atol=1e-5)
    half = lowered(fine, 4).astype(np.float32)
    half[:, 6:9, 6:8] = np.nan  # two of three columns of one cell
    assert np.isnan(averages.apply(half)[:, 2, 2]).all()
    assert np.isfinite(averages.apply(half)[:, 2, 3]).all()
