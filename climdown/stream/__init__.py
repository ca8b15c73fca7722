"""Units of work, their part files, and the one writer of results.

Files appear under their names when they are whole, or not at all.
"""

from climdown.files import parts_folder
from climdown.stream.ensemble import Template, join
from climdown.stream.ml_bench import write_ml_bench
from climdown.stream.parts import PartStore, Unit, plan_units
from climdown.stream.quantile_map import map_writer, rows_of
from climdown.stream.regridded import GriddedVariable, write_on_grid
from climdown.stream.seals import is_usable, seal
from climdown.stream.time_series import write_fields, write_series
from climdown.stream.writing import FILL_VALUE, OutputVariable

__all__ = [
    "FILL_VALUE",
    "GriddedVariable",
    "OutputVariable",
    "PartStore",
    "Template",
    "Unit",
    "is_usable",
    "join",
    "map_writer",
    "parts_folder",
    "plan_units",
    "rows_of",
    "seal",
    "write_fields",
    "write_ml_bench",
    "write_on_grid",
    "write_series",
]
