"""Bringing files to the grid of an adjustment: no more is read than is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climdown import cf
from climdown.errors import GridError
from climdown.grid import Grid
from climdown.inputs.onto import onto, regridded_to
from tests.factories import TAS, Floats, make_dataset

REGIONS = {
    "seam": Grid.regular(30.0, 45.0, -10.0, 5.0, 2.5),
    "beyond": Grid.regular(30.0, 45.0, 350.0, 365.0, 2.5),
    "north": Grid.regular(80.0, 90.0, 20.0, 60.0, 2.5),
    "south": Grid.regular(-90.0, -85.0, 170.0, 190.0, 1.25),
    "strip": Grid.regular(-10.0, 10.0, -175.0, 175.0, 10.0),
    "globe": Grid.regular(-90.0, 90.0, 0.0, 360.0, 10.0),
    "fine": Grid.regular(40.0, 41.0, -1.0, 1.0, 0.25),
}


def waves(lat: Floats, lon: Floats, step: int) -> Floats:
    return np.asarray(280.0 + 5.0 * np.cos(np.radians(3.0 * lat)) * np.sin(np.radians(2.0 * lon)))


@pytest.fixture(scope="module", params=[0.0, -180.0], ids=["from-0", "from-180"])
def field(request: Any, tmp_path_factory: pytest.TempPathFactory) -> cf.Field:
    """A global field of 5 degrees, with a missing patch over the seam."""
    lat, lon = np.arange(-87.5, 90.0, 5.0), request.param + np.arange(2.5, 360.0, 5.0)
    path = tmp_path_factory.mktemp("global") / "tas.nc"
    missing = (np.abs(lat - 35.0) < 6.0)[:, None] & (np.abs((lon + 180.0) % 360.0 - 180.0) < 3.0)
    make_dataset(path=path, lat=lat, lon=lon, values=waves, missing=missing)
    return cf.open_field([path], TAS)


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("coverage", [0.1, 0.5])
def test_a_part_gives_what_the_whole_file_gives(
    field: cf.Field, name: str, coverage: float
) -> None:
    grid = REGIONS[name]
    found = regridded_to(field, grid, min_coverage=coverage)
    assert found.cells.digest == grid.digest
    expected = onto(field, grid, min_coverage=coverage).read(slice(None))
    np.testing.assert_allclose(found.read(slice(None)), expected, rtol=1e-6)
    assert np.isfinite(expected).any()


def test_cells_of_the_file_itself_are_read_as_they_are(field: cf.Field) -> None:
    part = field.crop(REGIONS["seam"])
    found = regridded_to(field, part.grid)
    np.testing.assert_array_equal(found.read(slice(None)), part.read(slice(None)))
    again = regridded_to(field, field.grid)
    np.testing.assert_array_equal(again.read(slice(None)), field.read(slice(None)))


def test_only_what_a_region_needs_is_read(field: cf.Field, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    values = cf.Field._values

    def counting(self: cf.Field, block: Any) -> Any:
        read.append(block[0].size)
        return values(self, block)

    monkeypatch.setattr(cf.Field, "_values", counting)
    regridded_to(field, REGIONS["fine"]).read(slice(None))
    assert max(read) <= 36, "of 2592 cells"


def test_a_region_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tas.nc"
    make_dataset(path=path)
    field = cf.open_field([path], TAS)
    with pytest.raises(GridError, match=r"tas\.nc: the grid .* does not touch the region"):
        regridded_to(field, Grid.regular(-40.0, -30.0, 100.0, 110.0, 1.0))
