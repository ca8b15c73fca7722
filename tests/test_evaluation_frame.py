"""What the frame gives to statistics: cells, pairs of variables, the input; what it reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from climdown.arrays import Mask
from climdown.evaluation import work
from climdown.evaluation.evaluate import Evaluation, evaluate
from climdown.evaluation.request import Request
from climdown.evaluation.survey import scattered
from tests.factories import Floats, make_dataset

LAT, LON = np.arange(40.125, 42.0, 0.25), np.arange(-4.875, -2.5, 0.25)
TIMES = [float(day) + 0.5 for day in range(60)]
NAMES = {
    "tas": ("air_temperature", "K", 280.0),
    "psl": ("air_pressure_at_mean_sea_level", "Pa", 1e5),
    "pr": ("precipitation_flux", "mm day-1", 9.0),
}


def write(
    name: str, *, noise: float = 0.0, seed: int = 0, missing: Mask | None = None, coarse: int = 1
) -> str:
    """A file of one variable: weather that all share, and noise of its own."""
    standard_name, units, mean = NAMES[name]
    shape = (len(TIMES), LAT.size, LON.size)
    shared = np.random.default_rng(len(name)).normal(size=shape)
    own = noise * np.random.default_rng(seed).normal(size=shape)
    fields = mean + shared + own
    lat, lon = (x.reshape(-1, coarse).mean(axis=1) for x in (LAT, LON))
    blocks = fields.reshape(len(TIMES), lat.size, coarse, lon.size, coarse).mean(axis=(2, 4))

    def values(_: Floats, __: Floats, step: int) -> Floats:
        return np.asarray(blocks[step])

    path = Path(f"{name}-{noise}-{seed}-{coarse}.nc")
    if path.exists():
        return str(path)
    make_dataset(
        path=path,
        name=name,
        standard_name=standard_name,
        units=units,
        lat=lat,
        lon=lon,
        times=TIMES,
        values=values,
        missing=missing,
    )
    return str(path)


def evaluated(folder: Path) -> Evaluation:
    hole = np.zeros((LAT.size, LON.size), dtype=np.bool_)
    hole[2, 3] = True
    request = Request(
        outputs={
            "three": tuple(write(name, noise=0.5, seed=1) for name in NAMES),
            "two": (write("tas", noise=1.0, seed=2, missing=hole), write("pr", noise=1.0, seed=2)),
        },
        reference=tuple(write(name) for name in NAMES),
        input=(write("tas", coarse=2),),
        resamples=20,
    )
    found = evaluate(request, folder)
    assert found is not None
    return found


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    monkeypatch.chdir(tmp_path)
    return evaluated(tmp_path / "states")


def values_of(evaluation: Evaluation, measure: str) -> dict[tuple[str, str], float]:
    return {
        (s.output, s.variable): s.value
        for s in evaluation.scores
        if s.measure == measure and s.value is not None
    }


def test_each_pair_of_variables_is_judged_of_outputs_that_have_both(
    evaluation: Evaluation,
) -> None:
    found = values_of(evaluation, "correlation_error")
    pairs = {variable for output, variable in found if output == "three"}
    assert len(pairs) == 3
    (shared,) = {variable for output, variable in found if output == "two"}
    assert shared in pairs
    assert set(shared.split("+")) == {"tas", "pr"}


def test_cells_that_an_output_lacks_are_judged_of_none(evaluation: Evaluation) -> None:
    scenes = evaluation.plan.scenes
    assert not scenes["tas"].mask[2, 3]
    assert scenes["tas"].mask.sum() == scenes["tas"].mask.size - 1
    assert scenes["pr"].mask.all()
    # Else no field would be complete, and there would be no spectra.
    assert ("three", "tas") in values_of(evaluation, "log_spectral_distance")
    assert ("two", "tas") in values_of(evaluation, "log_spectral_distance")


def test_the_reference_is_held_against_the_input_too(evaluation: Evaluation) -> None:
    found = {s.output: s for s in evaluation.scores if s.measure == "coarse_rmse"}
    one = found["three"]
    # Means over 2 x 2 cells of noise of 0.5; the input is the reference's own mean.
    assert one.value == pytest.approx(0.25, rel=0.1)
    assert one.reference == pytest.approx(0.0, abs=0.02)


def test_scores_do_not_depend_on_how_much_is_read_at_once(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_CHUNK_BYTES", 30_000)
    others = evaluated(tmp_path / "again").scores
    assert len(others) == len(evaluation.scores) > 80
    for one, other in zip(evaluation.scores, others, strict=True):
        assert (one.output, one.variable, one.measure) == (
            other.output,
            other.variable,
            other.measure,
        )
        # Differences of pressures of 1e5 Pa have no more digits.
        assert other.value == pytest.approx(one.value, rel=1e-10, abs=1e-10)
        assert (other.low is None) == (one.low is None)
        if one.low is not None:
            assert other.low == pytest.approx(one.low, rel=1e-10, abs=1e-10)


def test_chosen_cells_are_evenly_spread_and_shared_by_like_masks() -> None:
    whole = np.ones((100, 120), dtype=np.bool_)
    chosen = scattered(whole, 1000)
    assert len(chosen) == 1000
    assert (np.diff(chosen) > 0).all()
    y, x = np.unravel_index(chosen, whole.shape)
    counts = np.histogram2d(y, x, bins=(5, 6))[0]
    assert counts.min() > 0.8 * 1000 / 30
    holed = whole.copy()
    holed[::17, ::13] = False
    assert len(np.intersect1d(chosen, scattered(holed, 1000))) > 950
    assert scattered(whole, 10**6).tolist() == list(range(12_000))
