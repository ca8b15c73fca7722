"""Reading CF NetCDF and Zarr: variables, axes, units and calendars as they are in the wild.

Variables are found by standard_name, units and level; the name only breaks ties, or serves
where there is no standard_name. A `Field` is lazy: values are read by blocks of time, in the
units asked for, on a grid with ascending axes, and the input's time axis is kept as it was
written.
"""

from climdown.cf.amounts import lead_coordinates
from climdown.cf.attributes import (
    CONVENTIONS,
    global_attributes,
    output_attributes,
    output_units,
    statistic_attributes,
    with_units_metadata,
)
from climdown.cf.coordinates import (
    cells_and_remarks,
    gridded_variables,
    horizontal_cells,
    horizontal_dims,
    horizontal_names,
)
from climdown.cf.dating import date_keys, exactness
from climdown.cf.decoding import is_undecoded_time
from climdown.cf.fields import Field
from climdown.cf.fills import FillWatch, refuse_misread, refuse_misread_range
from climdown.cf.limits import Limits, physical_limits
from climdown.cf.missing import is_packed
from climdown.cf.opening import (
    Location,
    Url,
    describe_paths,
    expand_paths,
    is_zarr,
    open_dataset,
    stored_values,
)
from climdown.cf.order import DailyOrder, daily_order
from climdown.cf.quantities import (
    VariableFamily,
    family_of,
    family_of_array,
    family_of_field,
    like_array,
    quantity_like,
)
from climdown.cf.recognition import Quantity, extreme, is_amount
from climdown.cf.selection import labels
from climdown.cf.sources import Sources, VariableNotFoundError, open_field, read_field
from climdown.cf.time import (
    TimeAxis,
    calendar_conditions,
    check_ascending,
    evenly,
    step_numbers,
    time_axis,
)
from climdown.cf.time_reading import has_time, read_time_axis, time_dims
from climdown.cf.units import convert_units, units_convertible
from climdown.cf.water import fitting_name

__all__ = [
    "CONVENTIONS",
    "DailyOrder",
    "Field",
    "FillWatch",
    "Limits",
    "Location",
    "Quantity",
    "Sources",
    "TimeAxis",
    "Url",
    "VariableFamily",
    "VariableNotFoundError",
    "calendar_conditions",
    "cells_and_remarks",
    "check_ascending",
    "convert_units",
    "daily_order",
    "date_keys",
    "describe_paths",
    "evenly",
    "exactness",
    "expand_paths",
    "extreme",
    "family_of",
    "family_of_array",
    "family_of_field",
    "fitting_name",
    "global_attributes",
    "gridded_variables",
    "has_time",
    "horizontal_cells",
    "horizontal_dims",
    "horizontal_names",
    "is_amount",
    "is_packed",
    "is_undecoded_time",
    "is_zarr",
    "labels",
    "lead_coordinates",
    "like_array",
    "open_dataset",
    "open_field",
    "output_attributes",
    "output_units",
    "physical_limits",
    "quantity_like",
    "read_field",
    "read_time_axis",
    "refuse_misread",
    "refuse_misread_range",
    "statistic_attributes",
    "step_numbers",
    "stored_values",
    "time_axis",
    "time_dims",
    "units_convertible",
    "with_units_metadata",
]
