"""Temperatures of a day stay in order: in what is adjusted, in what guides, in what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climdown import cf
from climdown.cf.order import DailyOrder
from climdown.config import RunConfig
from climdown.pipeline.planning import make_plan
from climdown.priors.prior import Prior
from tests.commands import Result, Shell, read_members
from tests.priors import TAS, write_tiny_prior
from tests.series import WINTER, daily, noise, write_days

HIST, SIM = daily(1991, 2, months=WINTER), daily(2051, 2, months=WINTER)
NAMES = ("tasmin", "tas", "tasmax")
METHODS = {"tasmin": "time: minimum", "tas": "time: mean", "tasmax": "time: maximum"}
VARIABLES = {
    name: replace(TAS, name=name, names=(name,), cell_methods=METHODS[name]) for name in NAMES
}


def f32(*values: float) -> Any:
    return np.array(values, dtype=np.float32)


def test_whatever_the_order_it_ends_ascending() -> None:
    rows = np.array(list(permutations((1.0, 2.0, 3.0))), dtype=np.float32)
    order = DailyOrder(NAMES, ("K",) * 3)
    values, count = order.restore(dict(zip(NAMES, rows.T, strict=True)))
    for name, expected in zip(NAMES, (1.0, 2.0, 3.0), strict=True):
        np.testing.assert_array_equal(values[name], expected)
    assert count == 5  # all but the ascending one
    assert order.line(count) == [
        "5 values of tasmin, tas and tasmax out of order, changed for one another"
    ]
    assert order.line(0) == []


def test_what_is_missing_takes_no_part() -> None:
    nan = float("nan")
    low, mean, high = f32(5, nan, 3, 5, nan), f32(nan, 2, 1, 4, nan), f32(4, 1, nan, nan, 1)
    order = DailyOrder(NAMES, ("K",) * 3)
    values, count = order.restore({"tasmin": low, "tas": mean, "tasmax": high})
    np.testing.assert_array_equal(values["tasmin"], f32(4, nan, 1, 4, nan))
    np.testing.assert_array_equal(values["tas"], f32(nan, 1, 3, 5, nan))
    np.testing.assert_array_equal(values["tasmax"], f32(5, 2, nan, nan, 1))
    assert count == 4


def test_units_may_differ_and_what_is_in_order_keeps_its_bits() -> None:
    low, high = f32(278.15, 283.15, 280.0), f32(10.0, 5.0, 20.1)
    values, count = DailyOrder(("tn", "tx"), ("K", "degC")).restore({"tn": low, "tx": high})
    assert count == 1
    np.testing.assert_allclose(values["tn"][1], 278.15, atol=1e-4)
    np.testing.assert_allclose(values["tx"][1], 10.0, atol=1e-4)
    np.testing.assert_array_equal(values["tn"][[0, 2]], low[[0, 2]])
    np.testing.assert_array_equal(values["tx"][[0, 2]], high[[0, 2]])


def test_rounding_between_units_is_no_disorder() -> None:
    celsius = np.linspace(-30.0, 45.0, 1001, dtype=np.float32)
    kelvin = (celsius.astype(np.float64) + 273.15).astype(np.float32)
    for names, units in ((("tn", "tx"), ("K", "degC")), (("tn", "tx"), ("degC", "K"))):
        values = dict(
            zip(names, (kelvin, celsius) if units[0] == "K" else (celsius, kelvin), strict=True)
        )
        assert DailyOrder(names, units).restore(values)[1] == 0


def field(folder: Path, name: str, **options: Any) -> cf.Field:
    path = write_days(folder / f"{name}.nc", HIST, 280.0 + noise(HIST, 1), name=name, **options)
    with cf.open_dataset(path) as dataset:
        return cf.open_field(path, cf.quantity_like(dataset[name]))


def test_variables_are_known_by_name_or_by_cell_methods(tmp_path: Path) -> None:
    def order(*fields: cf.Field) -> tuple[str, ...] | None:
        found = cf.daily_order({one.source_name: one for one in fields})
        return None if found is None else found.names

    warmest = field(tmp_path, "warmest", attributes={"cell_methods": "time: maximum"})
    coldest = field(tmp_path, "coldest", attributes={"cell_methods": "time: minimum"})
    mean, named = field(tmp_path, "t2m"), field(tmp_path, "tn", standard_name=None)
    aloft = field(tmp_path, "ta850")
    assert order(warmest, mean, coldest) == ("coldest", "t2m", "warmest")
    assert order(warmest, named) == ("tn", "warmest")
    assert order(mean, warmest) == ("t2m", "warmest")
    assert order(warmest, aloft) is None
    assert order(mean) is None
    # Which of two minima is that of the maximum, nobody says.
    assert order(coldest, named, warmest) is None
    assert order(coldest, named, mean, warmest) == ("t2m", "warmest")


def write_all(names: tuple[str, ...], *, width: float = 0.3) -> None:
    """hist_*, sim_* and obs_*: near one another in the model, so that they often cross."""
    for sample, dates, seed in (("hist", HIST, 1), ("sim", SIM, 2), ("obs", HIST, 3)):
        for place, name in enumerate(NAMES):
            if name in names:
                # Of one day's own noise each: the model's three are out of order now and then.
                values = 279.0 + width * place + noise(dates, 10 * seed + place)
                about: Any = {"name": name, "attributes": {"cell_methods": METHODS[name]}}
                write_days(f"{sample}_{name}.nc", dates, values, **about)


def crossing(values: Mapping[str, Any]) -> int:
    ordered = [values[name] for name in NAMES if name in values]
    return sum(int((low > high).sum()) for low, high in pairwise(ordered))


def tiny(names: tuple[str, ...]) -> Prior:
    return write_tiny_prior(
        Path("tiny"), quantiles=True, variables=tuple(VARIABLES[name] for name in names)
    )


@pytest.mark.parametrize("names", [("tasmin", "tasmax"), NAMES])
def test_ot_keeps_the_order(shell: Shell, names: tuple[str, ...]) -> None:
    write_all(names)
    files = ("--ref", "obs_*.nc", "--hist", "hist_*.nc", "sim_*.nc", "out.nc")
    result = shell("ot", *files, "--epsilon", "0.05")
    assert result.code == 0, result.err
    assert crossing({name: read_members("out.nc", name) for name in names}) == 0
    assert "out of order, changed for one another" in result.err


@pytest.mark.parametrize("names", [("tasmin", "tasmax"), NAMES])
@pytest.mark.parametrize("bias", ["qdm", "qdm-files", "ot"])
def test_what_guides_a_run_is_in_order(
    shell: Shell, names: tuple[str, ...], bias: str, caplog: pytest.LogCaptureFixture
) -> None:
    del shell  # it stands in an empty folder
    write_all(names)
    config = RunConfig(
        bias=bias.partition("-")[0],
        historical=("hist_*.nc",),
        reference=() if bias == "qdm" else ("obs_*.nc",),
    )
    plan = make_plan(["sim_*.nc"], "out.nc", prior=tiny(names), config=config)
    assert plan.adjusted is not None
    with caplog.at_level("INFO", logger="climdown"):
        readers = plan.adjusted.readers(Path(), "cpu")
    everything = slice(0, len(plan.time))
    values = {name: read(everything) for name, read in readers.items()}
    assert crossing(values) == 0
    parts = {name: np.load(f"adjusted/{name}.npy") for name in names}
    total = sum(values[name].astype(np.float64) for name in names)
    np.testing.assert_allclose(total, sum(parts[name].astype(float) for name in names), atol=1e-4)
    changed = np.logical_or.reduce([(parts[n] != values[n]) & np.isfinite(parts[n]) for n in names])
    if bias != "ot":  # transport is in order before it is averaged
        assert changed.any()
        listed = " and ".join((", ".join(names[:-1]), names[-1]))
        line = f"bias adjustment: {changed.sum()} values of {listed} out of order, changed for one"
        assert line in caplog.text
    np.testing.assert_array_equal(readers["tasmin"](slice(7, 9)), values["tasmin"][7:9])
    caplog.clear()
    plan.adjusted.readers(Path(), "cpu")
    assert "out of order" not in caplog.text  # nothing was computed


def drawn(shell: Shell, *options: str, members: int = 2) -> Result:
    fixed = (
        "--prior",
        "tiny",
        "--members",
        str(members),
        "--steps",
        "2",
        "--time",
        "2051-01-01/2051-01-31",
    )
    return shell("run", "sim_*.nc", "out.nc", *fixed, *options)


@pytest.mark.parametrize("names", [("tasmin", "tasmax"), NAMES])
@pytest.mark.parametrize("options", [(), ("--bias", "qdm", "--historical", "hist_*.nc")])
def test_what_a_run_draws_is_in_order(
    shell: Shell, names: tuple[str, ...], options: tuple[str, ...]
) -> None:
    write_all(names)
    tiny(names)
    result = drawn(shell, *options)
    assert result.code == 0, result.err
    values = {name: read_members("out.nc", name) for name in names}
    assert np.isfinite(values["tasmin"]).any()
    assert crossing(values) == 0
    assert "fields drawn: " in result.err


def test_what_a_run_is_given_out_of_order_is_counted(shell: Shell) -> None:
    names = ("tasmin", "tasmax")
    write_all(names)
    tiny(names)
    january = [i for i, date in enumerate(SIM) if (date.year, date.month) == (2051, 1)]
    given = {name: read_members(f"sim_{name}.nc", name)[january] for name in names}
    result = drawn(shell, "--dry-run")
    assert result.code == 0, result.err
    count = crossing(given)
    assert count > 0
    assert f"{count} values of tasmin and tasmax are out of order" in " ".join(result.err.split())
    write_all(names, width=20.0)
    assert "out of order" not in drawn(shell, "--dry-run").err
