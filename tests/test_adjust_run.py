"""`climdown run --bias`: the input is adjusted before it guides."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from climdown import pipeline, regrid
from climdown.config import RunConfig
from climdown.errors import ConvergenceError, InputError, PriorError, Requeue
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior, read_prior
from climdown.stream import parts_folder
from tests.commands import SMALL_UNITS, Result, Shell, read_members, run_config
from tests.factories import Floats
from tests.priors import write_tiny_prior
from tests.processes import kill, parts, start, wait_for
from tests.series import PER_DAY, PR, WINTER, daily, noise, write_days

HIST = daily(1991, 2, months=WINTER)
SIM = daily(2051, 2, calendar="noleap", months=WINTER)
DAYS = "2051-12-30/2052-01-02"
FAST = ("--members", "1", "--steps", "2")


def warmth(dates: Any, seed: int) -> Floats:
    return 278.0 + 3.0 * noise(dates, seed)


def rain(dates: Any, seed: int) -> Floats:
    return np.maximum(3.0 * noise(dates, seed), 0.0) / PER_DAY


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for name, dates, seed, shift in (
        ("hist", HIST, 1, 4.0),
        ("sim", SIM, 2, 6.0),
        ("obs", HIST, 3, 0.0),
    ):
        write_days(folder / f"{name}_tas.nc", dates, warmth(dates, seed) + shift)
        write_days(folder / f"{name}_pr.nc", dates, rain(dates, 10 + seed), **PR)
    write_tiny_prior(folder / "tiny", quantiles=True)
    return folder


@pytest.fixture
def tiny(shell: Shell, originals: Path) -> Prior:
    """The prior `tiny` with quantiles, and hist_*.nc, sim_*.nc and obs_*.nc of tas and pr."""
    shutil.copytree(originals, ".", dirs_exist_ok=True)
    return read_prior(Path("tiny"))


def run(shell: Shell, *options: Any, out: str = "out.nc", sim: str = "sim_*.nc") -> Result:
    return shell("run", sim, out, "--prior", "tiny", *FAST, *options)


BIAS = ("--bias", "qdm", "--historical", "hist_*.nc")
OBSERVED = ("--reference", "obs_*.nc")


def guiding(prior: Prior, **options: Any) -> dict[str, Floats]:
    """Adjusted values at which a run is guided, all steps of them."""
    config = RunConfig(historical=("hist_*.nc",), **options)
    plan = make_plan(["sim_*.nc"], "out.nc", prior=prior, config=config)
    assert plan.adjusted is not None
    with tempfile.TemporaryDirectory() as folder:
        readers = plan.adjusted.readers(Path(folder), "cpu")
        return {n: read(slice(0, len(plan.time))).astype(float) for n, read in readers.items()}


@pytest.mark.parametrize("reference", [(), ("obs_*.nc",)], ids=["prior", "files"])
def test_the_adjustment_is_that_of_the_command_qdm(
    shell: Shell, tiny: Prior, reference: tuple[str, ...]
) -> None:
    found = guiding(tiny, bias="qdm", reference=reference)
    for name, factor, shift in (("tas", 1.0, -273.15), ("pr", PER_DAY, 0.0)):
        ref = reference[0] if reference else "tiny"
        files = ("--hist", f"hist_{name}.nc", f"sim_{name}.nc", f"{name}.nc")
        result = shell("qdm", "--ref", ref, *files)
        assert result.code == 0, result.err
        expected = factor * read_members(f"{name}.nc", name) + shift
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-3)


def test_the_adjustment_is_that_of_the_command_ot(shell: Shell, tiny: Prior) -> None:
    found = guiding(tiny, bias="ot", reference=("obs_*.nc",))
    files = ("--ref", "obs_*.nc", "--hist", "hist_*.nc", "sim_*.nc", "ot.nc")
    result = shell("ot", *files)
    assert result.code == 0, result.err
    expected = read_members("ot.nc") - 273.15
    np.testing.assert_allclose(found["tas"], expected, rtol=0, atol=0.02)
    assert np.abs(read_members("sim_tas.nc") - 273.15 - expected).mean() > 2.0


@pytest.mark.parametrize(
    "options",
    [BIAS, (*BIAS, *OBSERVED), ("--bias", "ot", *BIAS[2:], *OBSERVED)],
    ids=["qdm-prior", "qdm-files", "ot"],
)
def test_a_run_is_guided_by_what_was_adjusted(
    shell: Shell, tiny: Prior, options: tuple[str, ...]
) -> None:
    result = run(shell, *options, "--time", DAYS)
    assert result.code == 0, result.err
    if options[1] == "ot":
        files = ("--ref", "obs_*.nc", "--hist", "hist_*.nc", "sim_*.nc", "both.nc")
        assert shell("ot", *files).code == 0
    for name in ("tas", "pr"):
        ref = "obs_*.nc" if "--reference" in options else "tiny"
        files = ("--ref", ref, "--hist", f"hist_{name}.nc", f"sim_{name}.nc", f"both_{name}.nc")
        assert options[1] == "ot" or shell("qdm", *files).code == 0
    # In two steps: the adjusted files as input of a run without adjustment.
    again = run(shell, "--time", DAYS, out="again.nc", sim="both*.nc")
    assert again.code == 0, again.err
    raw = run(shell, "--time", DAYS, out="raw.nc")
    assert raw.code == 0, raw.err
    for name, scale in (("tas", 1.0), ("pr", PER_DAY)):
        one, two, none = (scale * read_members(f, name) for f in ("out.nc", "again.nc", "raw.nc"))
        error = np.nanmax(np.abs(one - two))
        assert error < 0.02 * np.nanmax(np.abs(one - none)), name


def test_the_plan_shows_the_adjustment(shell: Shell, tiny: Prior) -> None:
    result = run(shell, *BIAS, "--dry-run")
    assert result.code == 0, result.err
    line = next(line for line in result.out.splitlines() if line.startswith("bias:"))
    assert "tas: quantile delta mapping (Cannon et al. 2015), additive, 100 quantiles" in line
    assert "pr: quantile delta mapping (Cannon et al. 2015), multiplicative, 500 quant" in line
    assert line.endswith("reference: quantiles of prior tiny")
    assert "guided at:   3 x 4 cells of 1 deg" in result.out
    result = run(shell, "--bias", "ot", *BIAS[2:], *OBSERVED, "--dry-run")
    line = next(line for line in result.out.splitlines() if line.startswith("bias:"))
    assert "multivariate entropic optimal transport" in line
    assert line.endswith("reference: obs_*.nc")
    assert not Path("out.nc").exists()
    assert not parts_folder(Path("out.nc")).exists()


def test_the_file_and_the_log_say_what_was_done(shell: Shell, tiny: Prior) -> None:
    result = run(shell, *BIAS, "--time", DAYS)
    assert f"INFO | tas: {12 * len(SIM)} values adjusted, highest" in result.err
    assert "INFO | pr: dry days (below 0.05 mm day-1): reference 50.2%, historical" in result.err
    with netCDF4.Dataset("out.nc") as file:
        assert "reference: quantiles of prior tiny" in file.bias_adjustment
        report = str(file.bias_adjustment_report)
        options = json.loads(file.climdown_options)
    assert [name for name, _ in options["historical"]] == ["hist_pr.nc", "hist_tas.nc"]
    assert options["bias_options"]["group"] == "month"
    for line in (
        "reference: quantiles of prior tiny",
        f"historical simulation: hist_tas.nc, {len(HIST)} steps, 1991 to 1992",
        f"simulation: sim_pr.nc, {len(SIM)} steps, 2051 to 2052",
    ):
        assert line in report
    assert sorted(p.name for p in Path().iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize("bias", ["qdm", "ot"])
def test_a_day_is_the_same_in_every_period(shell: Shell, tiny: Prior, bias: str) -> None:
    options = ("--bias", bias, *BIAS[2:], *OBSERVED)
    assert run(shell, *options, "--time", DAYS, out="long.nc").code == 0
    assert run(shell, *options, "--time", "2052-01-01/2052-01-01", out="short.nc").code == 0
    for name in ("tas", "pr"):
        long, short = read_members("long.nc", name), read_members("short.nc", name)
        tolerance = 1e-5 * float(np.nanstd(long))
        np.testing.assert_allclose(short[0], long[2], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--bias", "qdm"), "--bias qdm needs the same model in the reference's period; give --hi"),
        (("--bias", "ot", *OBSERVED), "--bias ot needs the same model in the reference's period"),
        (("--bias", "ot", *BIAS[2:]), "--bias ot needs whole days of observations, and a prior"),
        (("--bias", "mean", *BIAS[2:]), "--bias is 'mean'; expected none, qdm or ot"),
        (BIAS[2:], "--historical, --reference and their periods are for bias adjustment; give"),
        (OBSERVED, "--historical, --reference and their periods are for bias adjustment"),
        (("--hist-period", "1991/1992"), "--historical, --reference and their periods are for"),
        ((*BIAS, "--ref-period", "1991/1992"), "the prior's quantiles have no dates; leave --ref-"),
        ((*BIAS, "--filter-scale", "1.5"), "(3 x 4 cells of 1 deg, 40N..43N, 4W..0E); leave --"),
        ((*BIAS, "--filter-scale", "native"), "the quantiles of prior tiny are on its coarse grid"),
    ],
)
def test_options_that_contradict_each_other_end_in_code_2(
    shell: Shell, tiny: Prior, options: tuple[str, ...], words: str
) -> None:
    result = run(shell, *options)
    assert result.code == 2
    assert words in result.message
    assert not parts_folder(Path("out.nc")).exists()


def test_the_filter_scale_is_free_with_observations(shell: Shell, tiny: Prior) -> None:
    result = run(shell, *BIAS, *OBSERVED, "--filter-scale", "2", "--time", DAYS)
    assert result.code == 0, result.err


def test_the_quantiles_of_a_prior_serve_cells_made_of_whole_ones(shell: Shell, tiny: Prior) -> None:
    options = (*BIAS, "--time", DAYS)
    assert run(shell, *options, out="one.nc").code == 0
    result = run(shell, *options, "--filter-scale", "2", out="two.nc")
    assert result.code == 0, result.err
    assert "guided at: 2 x 2 cells of 2 deg, 40N..43N, 4W..0E" in result.err
    fine = tiny.card.grid
    weights = regrid.weights(fine, tiny.card.coarse_grid.grouped(2), "conservative")
    # Both met the same adjusted coarse values, on cells as large as the larger ones.
    one, two = (weights.apply(read_members(name)) for name in ("one.nc", "two.nc"))
    np.testing.assert_allclose(two, one, rtol=0, atol=2e-3)


@pytest.mark.parametrize("bias", ["qdm", "ot"])
def test_a_step_that_loses_all_values_is_an_error_before_any_sampling(
    shell: Shell, tiny: Prior, bias: str
) -> None:
    kept = np.array([date.month != 1 for date in HIST])
    write_days("hist_tas.nc", HIST[kept], warmth(HIST, 1)[kept])
    write_days("hist_pr.nc", HIST[kept], rain(HIST, 1)[kept], **PR)
    config = run_config(
        members=1,
        steps=2,
        period=DAYS,
        bias=bias,
        historical=("hist_*.nc",),
        reference=("obs_*.nc",),
        bias_options={"group": "month"} | ({"epsilon": 0.05} if bias == "ot" else {}),
    )
    needs = {
        "qdm": "each cell and group of days needs at least 10 values in reference, historical",
        "ot": "each group needs at least 20 days in reference and historical simulation, and",
    }[bias]
    words = rf"sim_\w+\.nc: bias adjustment left no value of \w+ at \S+: {needs}"
    with pytest.raises(InputError, match=words):
        pipeline.downscale(["sim_*.nc"], "out.nc", prior=tiny, config=config)
    assert list(parts_folder(Path("out.nc")).glob("*.npy")) == []
    if bias == "qdm":
        result = run(shell, *BIAS, "--time", DAYS, "--overwrite")
        assert result.code == 3
        assert "left no value of tas at 2052-01-01T12:00:00: each cell and group" in result.message
        assert "choose other steps with --time, or give more of" in result.message
        assert "--historical and --reference" in result.message
        assert run(shell, *BIAS, "--time", "2051-12/2051-12", "--overwrite").code == 0


def test_transport_that_does_not_converge_names_the_way_out(shell: Shell, tiny: Prior) -> None:
    ot = {"epsilon": 0.001, "max_iterations": 2, "tolerance": 1e-6}
    options: Any = {"bias": "ot", "historical": ("hist_*.nc",), "reference": ("obs_*.nc",)}
    config = RunConfig(period=DAYS, bias_options=ot, **options)
    with pytest.raises(
        ConvergenceError, match=r"DJF: Sinkhorn .* `climdown ot` has options for these"
    ):
        pipeline.downscale(["sim_*.nc"], "out.nc", prior=tiny, config=config)


def test_a_prior_without_quantiles_is_refused(shell: Shell, tiny: Prior) -> None:
    plain = write_tiny_prior(Path("plain"))
    config = RunConfig(bias="qdm", historical=("hist_*.nc",))
    with pytest.raises(PriorError, match="carries no quantiles of tas; give observations as the"):
        make_plan(["sim_*.nc"], "out.nc", prior=plain, config=config)


def test_a_prior_is_no_reference_of_a_run(shell: Shell, tiny: Prior) -> None:
    result = run(shell, *BIAS, "--reference", "eobs-iberia-zssd")
    assert result.code == 3
    assert "no such file: eobs-iberia-zssd" in result.message


@pytest.mark.parametrize("option", ["--historical", "--reference"])
def test_the_output_is_none_of_the_files_it_is_made_from(
    shell: Shell, tiny: Prior, option: str
) -> None:
    Path("out.nc").write_bytes(Path("obs_tas.nc").read_bytes())
    result = run(shell, *BIAS, *OBSERVED, option, "out.nc", "--overwrite")
    assert result.code == 2
    assert "out.nc is both input and output" in result.message


@pytest.mark.parametrize("what", ["hist", "obs", "period", "folder"])
def test_parts_of_another_adjustment_are_refused(shell: Shell, tiny: Prior, what: str) -> None:
    options: dict[str, Any] = {"historical": ("hist_*.nc",), "reference": ("obs_*.nc",)}
    config = run_config(members=1, steps=2, period=DAYS, bias="qdm", **options)
    with pytest.raises(Requeue, match="stopped by a signal"):
        pipeline.downscale(
            ["sim_*.nc"], "out.nc", prior=tiny, config=config, should_stop=lambda: True
        )
    further: tuple[str, ...] = ()
    words = "other historical"
    if what == "period":
        further, words = ("--hist-period", "1991/1992"), "historical_period: None then, 1991/1992"
    elif what == "folder":
        # A file of the same name elsewhere is another file.
        Path("other").mkdir()
        write_days("other/obs_tas.nc", HIST, warmth(HIST, 9))
        Path("obs_tas.nc").unlink()
        further, words = ("--reference", "other/obs_tas.nc"), "other reference"
    else:
        write_days(f"{what}_tas.nc", HIST, warmth(HIST, 9))
        words = {"hist": "other historical", "obs": "other reference"}[what]
    result = run(shell, *BIAS, *OBSERVED, "--time", DAYS, *further)
    assert result.code == 7
    assert words in result.message


def test_a_killed_run_resumes_to_the_same_bits(shell: Shell, tiny: Prior) -> None:
    options = ("--members", "2", "--batch-size", "2", "--time", "2051-12-10/2051-12-20", *BIAS)
    command = ("run", "sim_*.nc", "out.nc", "--prior", "tiny", "--steps", "20", *options)
    process = start([*SMALL_UNITS, *command], Path())
    wait_for(process, lambda: len(parts(Path())) >= 2)
    kill(process)
    assert process.returncode == -signal.SIGKILL
    resumed = shell(*command)
    assert resumed.code == 0, resumed.err
    assert "resuming: " in resumed.err
    whole = shell(*(word.replace("out.nc", "whole.nc") for word in command))
    assert whole.code == 0, whole.err
    for name in ("tas", "pr"):
        expected = read_members("whole.nc", name)
        np.testing.assert_array_equal(read_members("out.nc", name), expected)
    assert [p.name for p in Path().iterdir() if p.name.startswith(".")] == []


def test_parts_that_are_all_there_need_no_adjustment(
    shell: Shell, tiny: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("climdown.stream.join", fail)
        with pytest.raises(OSError, match="full"):
            run(shell, *BIAS, "--time", DAYS)
    monkeypatch.setattr("climdown.adjust.registry.adjust_series", fail)
    result = run(shell, *BIAS, "--time", DAYS)
    assert result.code == 0, result.err
