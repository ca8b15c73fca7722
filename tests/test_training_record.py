"""What a run leaves for people: a log without doubles, and pictures with something in them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from climdown.config import PriorConfig
from climdown.diffusion.denoiser import Denoiser
from climdown.errors import Requeue
from climdown.training import LOG, Step, train_consistency, train_diffusion
from climdown.training.record import Log
from tests.training import rows_of, with_consistency, with_training


def step(number: int, validation: dict[str, float] | None = None) -> Step:
    return Step(number, 0.5 + number, 1e-3, 0.25, validation or {})


def test_the_log_has_a_row_for_each_step(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.csv", 0)
    log.add(step(1), 0.125)
    log.add(step(2, {"0.5": 0.25, "80": 0.75}), 2.0)
    header, first, second = rows_of(log.path)
    assert header == [
        *("step", "loss", "learning_rate", "gradient_norm", "seconds", "validation"),
    ]
    assert first == ["1", "1.5", "0.001", "0.25", "0.125", ""]
    assert second == ["2", "2.5", "0.001", "0.25", "2.000", "0.5", "0.5: 0.25", "80: 0.75"]


@pytest.mark.parametrize("resumed", [0, 2, 3, 5])
def test_a_resumed_run_cuts_off_what_it_does_again(resumed: int, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = Log(path, 0)
    for number in range(1, 6):
        log.add(step(number), 1.0)
    before = rows_of(path)
    log = Log(path, resumed)
    assert rows_of(path) == before[: resumed + 1]
    log.add(step(resumed + 1), 1.0)
    assert [row[0] for row in rows_of(path)[1:]] == [str(n) for n in range(1, resumed + 2)]


def test_a_row_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = Log(path, 0)
    for number in range(9, 13):
        log.add(step(number), 1.0)
    path.write_text(path.read_text(encoding="utf-8") + "1", encoding="utf-8")  # of "13,..."
    log = Log(path, 12)
    log.add(step(13), 1.0)
    assert [row[0] for row in rows_of(path)[1:]] == ["9", "10", "11", "12", "13"]


def test_a_log_that_is_gone_is_begun_anew(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.csv", 7)
    log.add(step(8), 1.0)
    assert [row[0] for row in rows_of(log.path)] == ["step", "8"]


def test_a_run_that_was_stopped_leaves_one_row_for_each_step(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    """Checkpoints come every two steps; the process dies after the third."""
    told: list[Step] = []

    class Killed(BaseException):
        pass

    def die(step: Step) -> None:
        told.append(step)
        if step.number == 3:
            raise Killed

    with pytest.raises(Killed):
        train_diffusion(training_config, data=training_data, output=tmp_path, progress=die)
    assert [row[0] for row in rows_of(tmp_path / LOG)[1:]] == ["1", "2", "3"]
    train_diffusion(training_config, data=training_data, output=tmp_path, progress=told.append)
    assert [step.number for step in told] == [1, 2, 3, 3, 4, 5, 6]
    rows = rows_of(tmp_path / LOG)[1:]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    by_number = {step.number: step for step in told}
    for row in rows:
        expected = by_number[int(row[0])]
        assert float(row[1]) == pytest.approx(expected.loss, rel=1e-5)
        assert float(row[2]) == pytest.approx(expected.rate, rel=1e-3)
        assert float(row[3]) == pytest.approx(expected.gradient, rel=1e-3)
        if expected.score is None:
            assert row[5:] == [""]
        else:
            assert float(row[5]) == pytest.approx(expected.score, rel=1e-5)
            levels = dict(cell.split(": ") for cell in row[6:])
            assert list(levels) == list(expected.validation)


@pytest.mark.parametrize("kind", ["diffusion", "consistency"])
def test_pictures_of_samples_are_drawn_now_and_then(
    kind: str,
    training_config: PriorConfig,
    training_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_training(training_config, steps=4, sample_every=3, validate_every=9)
    calls: list[float] = []
    denoise = Denoiser.bind

    def bind(model: Denoiser, calendar: object) -> object:
        bound = denoise(model, calendar)  # type: ignore[arg-type]

        def counted(x: object, sigma: float) -> object:
            calls.append(sigma)
            return bound(x, sigma)  # type: ignore[arg-type]

        return counted

    monkeypatch.setattr(Denoiser, "bind", bind)
    if kind == "diffusion":
        train_diffusion(config, data=training_data, output=tmp_path)
    else:
        train_consistency(with_consistency(config), data=training_data, output=tmp_path)
    pictures = sorted((tmp_path / LOG.parent).glob("*.png"))
    assert [path.name for path in pictures] == ["samples-0000003.png"]
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)
        assert pixels.ndim == 3
        assert pixels.shape[1] > 1000, "eight maps side by side"
        # Most of a picture that shows nothing is white.
        assert np.ptp(pixels[..., :3], axis=-1).max() > 0.5, "colours"
        assert (pixels[..., :3].min(axis=-1) < 0.9).mean() > 0.1
    if kind == "consistency":
        assert calls == [80.0], "one evaluation is all"
    else:
        assert len(calls) == 18


def test_no_pictures_are_drawn_where_none_are_wanted(
    training_config: PriorConfig, training_data: Path, tmp_path: Path
) -> None:
    config = with_training(training_config, steps=2, sample_every=0)
    with pytest.raises(Requeue):
        train_diffusion(config, data=training_data, output=tmp_path, should_stop=lambda: True)
    assert list((tmp_path / LOG.parent).glob("*.png")) == []
