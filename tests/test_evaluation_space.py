from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from climdown.arrays import Float32, Float64, Mask
from climdown.evaluation import space
from climdown.evaluation.measure import Measure
from climdown.evaluation.scene import Scene
from climdown.evaluation.statistics import Sums
from climdown.grid import Grid
from climdown.metrics import spectra
from tests.scenes import assert_adds, days, of_steps, scene_of, some_mask, weather, with_gaps

PART = days(30)
EVEN = Grid.regular(40.0, 43.0, -5.0, -1.0, 0.25)  # 12 x 16
ODD = Grid.regular(40.0, 43.25, -5.0, -0.75, 0.25)  # 13 x 17
LARGE = Grid.regular(0.0, 12.0, 0.0, 25.0, 0.25)  # 48 x 100: by FFT


def masked_weather(grid: Grid, mask: Mask, *, members: int = 2) -> tuple[Scene, Float32]:
    values = with_gaps(weather(PART, members=members, grid=grid), mask)
    return scene_of(values[:, 0], PART, grid=grid, mask=mask), values


def mean_power(sums: Sums) -> Float64:
    added = of_steps(sums)
    return np.asarray(added["power"][0] / added["fields"][0])


@pytest.mark.parametrize("grid", [EVEN, ODD, LARGE])
def test_power_is_that_of_rapsd(grid: Grid) -> None:
    scene, values = masked_weather(grid, some_mask(grid=grid))
    sums = space.power(scene, values, PART)
    _, expected = spectra.rapsd(values.reshape(-1, *grid.shape), window=scene.window)
    np.testing.assert_allclose(mean_power(sums), expected, rtol=2e-4)
    assert sums["fields"].tolist() == [2] * 30


def test_power_is_a_double_sum_over_cells() -> None:
    grid = Grid.regular(40.0, 42.0, -5.0, -3.5, 0.25)  # 8 x 6
    scene, values = masked_weather(grid, np.ones(grid.shape, np.bool_), members=1)
    ny, nx = grid.shape
    window = scene.window / np.sqrt((scene.window**2).mean())
    expected: dict[int, float] = {}
    for field in values[:, 0].astype(np.float64):
        filled = (field - field.mean()) * window
        for i in range(ny):
            for j in range(nx):
                phase = i * np.arange(ny)[:, None] / ny + j * np.arange(nx) / nx
                amplitude = abs((filled * np.exp(-2j * np.pi * phase)).mean()) ** 2
                length = math.hypot(min(i, ny - i) / ny, min(j, nx - j) / nx)
                ring = math.floor(length * max(ny, nx) + 0.5 + 1e-9)
                expected[ring] = expected.get(ring, 0.0) + amplitude / len(values)
    del expected[0]
    found = mean_power(space.power(scene, values, PART))
    np.testing.assert_allclose(found, [expected[k] for k in sorted(expected)], rtol=2e-4)


@pytest.mark.parametrize("grid", [ODD, LARGE])
def test_sums_do_not_depend_on_how_time_is_cut(grid: Grid) -> None:
    scene, values = masked_weather(grid, some_mask(grid=grid), members=3)
    values[4, 1, :, :] = np.nan
    assert_adds(lambda cut: space.power(scene, values[cut], PART.take(cut)), len(values), step=True)


def test_a_field_that_lacks_a_cell_is_left_out() -> None:
    mask = some_mask(grid=ODD)
    scene, values = masked_weather(ODD, mask)
    y, x = np.argwhere(mask)[40]
    values[3, 1, y, x] = np.nan
    sums = space.power(scene, values, PART)
    assert sums["fields"].tolist() == [2, 2, 2, 1, *[2] * 26]
    kept = np.delete(values.reshape(-1, *ODD.shape), 7, axis=0)
    _, expected = spectra.rapsd(kept, window=scene.window)
    np.testing.assert_allclose(mean_power(sums), expected, rtol=2e-4)


def value(name: str, scene: Scene, ours: Float64, theirs: Float64) -> Float64:
    """A measure of two sums of power, each of shape (R, rings)."""
    measure = next(one for one in space.MEASURES if one.name == name)
    pair = [{"power": x, "fields": np.ones(len(x))} for x in (ours, theirs)]
    return measure.value(scene, *pair[: 1 if measure.kind == "source" else 2])


@pytest.mark.parametrize("measure", space.MEASURES, ids=lambda m: m.name)
def test_each_resample_is_measured_as_the_formula_says(measure: Measure) -> None:
    scene, _ = masked_weather(ODD, some_mask(grid=ODD))
    waves, _ = spectra.half_plane_rings(ODD.shape)
    random = np.random.default_rng(3)
    ours, theirs = np.exp(random.normal(size=(2, 4, waves.size)))
    good = 1.0 / waves > 2 - 1e-6
    formulas: dict[str, Callable[[Float64, Float64], float]] = {
        "log_spectral_distance": lambda a, b: np.sqrt(np.mean((10 * np.log10(a / b)) ** 2)),
        "melr": lambda a, b: float(np.mean(np.abs(np.log(a / b)))),
        "melr_weighted": lambda a, b: np.sum(b * np.abs(np.log(a / b))) / b.sum(),
        "power_2_to_4": lambda a, b: a[waves[good] > 0.25].sum() / b[waves[good] > 0.25].sum(),
        "power_4_to_8": lambda a, b: band(a, 0.125, 0.25) / band(b, 0.125, 0.25),
        "power_over_8": lambda a, b: band(a, 0.0, 0.125) / band(b, 0.0, 0.125),
        "worst_ring": lambda a, b: (a / b - 1)[np.argmax(np.abs(a / b - 1))],
        "correlation_length": lambda a, b: (a / (2 * np.pi * waves[good])).sum() / a.sum(),
    }

    def band(power: Float64, low: float, high: float) -> float:
        return float(power[(waves[good] > low + 1e-9) & (waves[good] <= high + 1e-9)].sum())

    expected = [formulas[measure.name](a[good], b[good]) for a, b in zip(ours, theirs, strict=True)]
    np.testing.assert_allclose(value(measure.name, scene, ours, theirs), expected, rtol=1e-12)


def test_fields_without_power_are_not_told_but_the_others_are() -> None:
    scene, _ = masked_weather(ODD, some_mask(grid=ODD))
    rings = spectra.half_plane_rings(ODD.shape)[0].size
    ours = np.ones((3, rings))
    ours[1] = 0.0
    found = value("log_spectral_distance", scene, ours, np.full((3, rings), 10.0))
    np.testing.assert_allclose(found, [10.0, np.nan, 10.0])
    nothing = {"power": np.zeros((2, rings)), "fields": np.zeros(2)}
    assert np.isnan(space.correlation_length(scene, nothing)).all()


def test_a_single_cell_has_no_waves() -> None:
    grid = Grid.regular(40.0, 40.25, -5.0, -4.75, 0.25)
    scene, values = masked_weather(grid, np.ones((1, 1), np.bool_))
    sums = of_steps(space.power(scene, values, PART))
    for measure in space.MEASURES:
        pair = (sums,) if measure.kind == "source" else (sums, sums)
        assert np.isnan(measure.value(scene, *pair)).all()


def test_the_correlation_length_of_a_gaussian_covariance() -> None:
    # Fields on a torus with covariance exp(-r^2 / (2 l^2)): spectrum exp(-2 pi^2 l^2 k^2).
    length, size = 3.0, 64
    waves, _ = spectra.half_plane_rings((size, size))
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    density = np.exp(-2 * np.pi**2 * length**2 * k**2)
    noise = np.random.default_rng(0).normal(size=(400, size, size))
    fields = np.fft.ifft2(np.fft.fft2(noise) * np.sqrt(density)).real
    found = spectra.correlation_length(*spectra.rapsd(fields))
    # Rings are wide for long waves, and the mean, which has a part, is removed.
    assert waves.size == spectra.rapsd(fields[:1])[0].size
    assert found == pytest.approx(length * math.sqrt(math.pi / 2), rel=0.1)
    longer = spectra.correlation_length(waves, np.exp(-2 * np.pi**2 * 4 * length**2 * waves**2))
    assert longer > found


def test_a_blur_loses_short_waves_and_noise_adds_them() -> None:
    scene, values = masked_weather(LARGE, np.ones(LARGE.shape, np.bool_))
    blurred = values.copy()
    blurred[..., 1:-1] = (values[..., :-2] + values[..., 1:-1] + values[..., 2:]) / 3
    noise = np.random.default_rng(8).normal(size=values.shape).astype(np.float32)
    sums = [of_steps(space.power(scene, x, PART)) for x in (values, blurred, values + noise)]
    measure = next(one for one in space.MEASURES if one.name == "power_2_to_4")
    assert measure.value(scene, sums[1], sums[0]) < 0.6
    # Weather of variance 1 and hills of 9, as white as the noise.
    assert measure.value(scene, sums[2], sums[0]) == pytest.approx(1.1, rel=0.02)
