"""What is written about an output: attributes, cell methods, history, time axes of new files."""

from __future__ import annotations

from pathlib import Path

import cftime
import numpy as np
import pytest

from climdown import cf
from climdown.cf import open_field
from tests.factories import TAS, make_dataset


@pytest.mark.parametrize("written", ["m**2 s**-2", "m2 s-2"])
def test_output_keeps_the_attributes_and_units_of_the_input(tmp_path: Path, written: str) -> None:
    path = tmp_path / "z.nc"
    geopotential = cf.Quantity("z500", ("geopotential",), ("z",), "m2 s-2")
    about = {"long_name": "Geopotential", "cell_measures": "area: areacella", "comment": "odd"}
    make_dataset(path=path, name="z", standard_name="geopotential", units=written, attributes=about)
    assert cf.output_attributes(open_field(path, geopotential)) == {
        "standard_name": "geopotential",
        "long_name": "Geopotential",
        "units": "m2 s-2",
    }


def test_an_input_without_a_standard_name_is_given_one(tmp_path: Path) -> None:
    make_dataset(path=tmp_path / "tas.nc", standard_name=None, units="degC")
    attributes = cf.output_attributes(open_field(tmp_path / "tas.nc", TAS))
    assert attributes == {"standard_name": "air_temperature", "units": "degC"}


@pytest.mark.parametrize(
    ("statistic", "label"),
    [("mean", "ensemble mean"), ("standard_deviation", "ensemble standard deviation")],
)
def test_statistics_append_their_cell_method_and_say_so(statistic: str, label: str) -> None:
    own = {"standard_name": "air_temperature", "long_name": "Warmth", "units": "K"}
    with_methods = {**own, "cell_methods": "time: mean", "original_name": "T"}
    assert cf.statistic_attributes(with_methods, statistic) == {
        **own,
        "cell_methods": f"time: mean realization: {statistic}",
        "long_name": f"Warmth, {label}",
    }
    del own["long_name"]
    bare = cf.statistic_attributes(own, statistic)
    assert bare["cell_methods"] == f"realization: {statistic}"
    assert bare["long_name"] == f"air_temperature, {label}"


def test_temperatures_say_whether_they_are_differences_and_others_say_nothing() -> None:
    scale = cf.with_units_metadata({"units": "degC"}, difference=False)
    assert scale == {"units": "degC", "units_metadata": "temperature: on_scale"}
    spread = cf.with_units_metadata({"units": "K"}, difference=True)
    assert spread["units_metadata"] == "temperature: difference"
    assert cf.with_units_metadata({"units": "Pa"}, difference=True) == {"units": "Pa"}


def test_global_attributes_remember_their_parent() -> None:
    parent = {"title": "old", "tracking_id": "hdl:1", "history": "made", "creation_date": "then"}
    found = cf.global_attributes(
        parent | {"source": "model"},
        title="new",
        command="climdown run",
        provenance={"climdown_seed": 3},
        now="2030-01-01T00:00:00Z",
    )
    assert found.pop("Conventions").startswith("CF-1.")
    assert found == {
        "source": "model",
        "title": "new",
        "parent_title": "old",
        "parent_tracking_id": "hdl:1",
        "history": "2030-01-01T00:00:00Z climdown run\nmade",
        "creation_date": "2030-01-01T00:00:00Z",
        "climdown_seed": 3,
    }


def test_global_attributes_need_nothing_of_their_parent() -> None:
    found = cf.global_attributes({}, title="t", command="c", provenance={}, now="n")
    assert found["history"] == "n c"
    assert "parent_title" not in found
    assert "parent_tracking_id" not in found


@pytest.mark.parametrize(
    ("step_days", "hours"), [(1.0, [12, 12]), (29.5, [12, 12]), (0.25, [0, 6.5])]
)
def test_only_steps_shorter_than_a_day_have_an_hour(step_days: float, hours: list[float]) -> None:
    dates = cftime.num2date([59.0, 59 + 6.5 / 24], "days since 2001-01-01", "noleap")
    conditions = cf.calendar_conditions(dates, step_days)
    assert conditions.dtype == np.float32
    assert conditions.tolist() == [[3, 1, hour] for hour in hours]


def test_a_single_step_counts_as_daily() -> None:
    date = cftime.DatetimeNoLeap(2001, 3, 1, 6)
    assert cf.calendar_conditions([date], float("nan")).tolist() == [[3, 1, 12]]


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_new_time_axes_hold_their_steps(calendar: str) -> None:
    units = "days since 1850-01-01"
    dates = list(cftime.num2date([10.0, 11.0, 12.0], units, calendar))
    plain = cf.time_axis(dates, units=units)
    assert (plain.values.tolist(), plain.bounds) == ([10, 11, 12], None)
    assert list(plain.dates) == dates
    bounded = cf.time_axis(dates, units=units, bounded=True)
    assert bounded.calendar == calendar
    assert bounded.values.tolist() == [10.5, 11.5, 12.5]
    assert bounded.bounds is not None
    assert bounded.bounds.tolist() == [[10, 11], [11, 12], [12, 13]]
    assert {date.hour for date in bounded.dates} == {12}


def test_a_new_axis_of_one_step_lasts_a_day() -> None:
    date = cftime.DatetimeNoLeap(2001, 1, 3)
    axis = cf.time_axis([date], units="days since 2001-01-01", bounded=True)
    assert axis.bounds is not None
    assert axis.bounds.tolist() == [[2, 3]]
