"""`benchmarks/priors.py` from data to table, and its sampling against closed forms."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import Tensor

from climdown.config import PriorConfig
from climdown.diffusion.noise import KeyedNoise
from climdown.priors.prior import Prior
from climdown.training import prepare

judge: Any = importlib.import_module("benchmarks.priors")
CPU = torch.device("cpu")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, training_config: PriorConfig) -> None:
    """The configuration without a file."""
    monkeypatch.setattr(judge, "load_config", lambda path: training_config)


@pytest.mark.usefixtures("known")
def test_the_table_has_all_measures_and_its_numbers_are_stored(
    trained: Prior, training_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(trained.folder), "--data", str(training_data), "--steps", "3", "--device", "cpu"]
    stored, picture = tmp_path / "table.json", tmp_path / "montage.png"
    judge.main([*words, "--json", str(stored), "--montage", str(picture), "--blind", "1"])
    text = capsys.readouterr().out
    assert "6 samples (3 steps from sigma 80 to 0.02, eta 1), 6 validation days" in text
    assert "| pr (mm day-1) | wet-day frequency |" in text
    assert "Samples in the montage:" in text
    assert matplotlib.image.imread(picture).ndim == 3
    found = json.loads(stored.read_text(encoding="utf-8"))
    assert list(found["loss"]) == [f"{level}" for level in judge.LEVELS]
    assert all(np.isfinite(loss) for loss in found["loss"].values())
    measures = [(row["field"], row["measure"]) for row in found["rows"]]
    assert ("tas (degC)", "standard deviation") in measures
    assert ("tas, pr", "correlation") in measures
    assert ("tas (degC)", "wet-day frequency") not in measures
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    # Beside the rows, two lines of losses and the heads of two tables.
    assert len(rows) == len(found["rows"]) + len(found["neighbours"]) + 4


@pytest.mark.usefixtures("known")
def test_samples_may_be_fewer_or_more_than_the_validation_days(
    trained: Prior, training_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in ("2", "8"):
        words = ["--data", str(training_data), "--steps", "1", "--samples", count]
        judge.main([str(trained.folder), *words, "--eta", "0", "--sigma-max", "5"])
        text = capsys.readouterr().out
        assert f"{count} samples (1 steps from sigma 5 to 0.02, eta 0)" in text


@pytest.mark.usefixtures("known")
def test_data_of_another_grid_are_refused(tiny_prior: Prior, training_data: Path) -> None:
    with pytest.raises(
        ValueError, match=r"has tas, pr on 6 x 8 .*; the prior has tas, pr on 12 x 16"
    ):
        judge.main([str(tiny_prior.folder), "--data", str(training_data)])


def test_data_of_other_variables_are_refused(tiny_prior: Prior) -> None:
    card = tiny_prior.card
    with pytest.raises(
        ValueError, match=r"the configuration has tas on .*; the prior has tas, pr on"
    ):
        judge.check_match(card, replace(card, variables=card.variables[:1]))


def test_physical_days_are_those_of_the_files(
    trained: Prior, training_config: PriorConfig, training_data: Path
) -> None:
    dataset = prepare(training_config, training_data)
    values, calendar = judge.physical(trained, dataset, dataset.validation)
    z, valid, _ = dataset.validation.take(torch.arange(6), CPU)
    assert calendar[:, 1].tolist() == [15, 16, 17, 18, 19, 20]
    np.testing.assert_array_equal(np.isfinite(values), valid.numpy() > 0)
    # 2e-5 kg m-2 s-1 is 1.728 mm day-1.
    assert np.nanmean(values[:, 1]) == pytest.approx(1.728, rel=0.8)
    assert np.nanmean(values[:, 0]) == pytest.approx(280 - 273.15 + 3, abs=2.5)
    again = judge.normalise(trained, values)
    np.testing.assert_allclose(np.nan_to_num(again), z, atol=1e-5)


def test_output_is_bounded_and_masked(tiny_prior: Prior) -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(3, *tiny_prior.mask.shape)))
    values = judge.to_output(tiny_prior, z)
    np.testing.assert_array_equal(np.isnan(values), ~np.broadcast_to(tiny_prior.mask, z.shape))
    pr = values[:, 1][:, tiny_prior.mask[1]]
    assert ((pr == 0.0) | (pr >= 0.05)).all()
    assert (pr == 0.0).any()
    assert (pr > 0.05).any()


def test_samples_do_not_depend_on_the_batch(
    tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    calendar = torch.tensor([[1.0, 5.0, 12.0], [2.0, 9.0, 12.0], [12.0, 1.0, 12.0]])
    keys = [(0, "a"), (1, "a"), (0, "b")]

    def draw(rows: list[int]) -> Tensor:
        chosen = [keys[i] for i in rows]
        drawn: Tensor = judge.draw(
            tiny_prior, calendar[rows], chosen, 3, CPU, eta=1.0, sigmas=(0.02, 20.0)
        )
        return drawn

    together = draw([0, 1, 2])
    monkeypatch.setattr(judge, "BATCH", 2)
    torch.testing.assert_close(draw([2, 0, 1]), together[[2, 0, 1]])


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_consistency_samples_of_a_normal_distribution_keep_its_deviation(steps: int) -> None:
    # Of N(0, s^2) the consistency function is x sqrt((s^2 + low^2) / (s^2 + sigma^2)).
    spread, low, high = 2.0, 0.02, 80.0
    seen = []

    def function(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return x * float(np.sqrt((spread**2 + low**2) / (spread**2 + sigma**2)))

    noise = KeyedNoise(0, tuple((0, str(i)) for i in range(4)), (1, 50, 50), CPU)
    drawn = judge.draw_consistently(function, noise, steps, low, high)
    assert len(seen) == steps
    assert seen[0] == pytest.approx(high)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] > 2 * low
    # The relative error of a standard deviation is 1 / sqrt(2 n).
    error = 4.5 / np.sqrt(2 * drawn.numel())
    assert float(drawn.std()) == pytest.approx(spread, rel=error)


def test_a_consistency_prior_is_sampled_by_one_evaluation(
    tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "is_consistency", lambda card: True)
    calendar, keys = torch.tensor([[1.0, 5.0, 12.0]]), [(0, "a")]
    drawn = judge.draw(tiny_prior, calendar, keys, 1, CPU, eta=1.0, sigmas=(0.02, 20.0))
    noise = KeyedNoise(0, tuple(keys), tiny_prior.mask.shape, CPU)
    with torch.no_grad():
        expected = tiny_prior.denoiser().bind(calendar)(20.0 * noise(0), 20.0)
    torch.testing.assert_close(drawn, expected)
