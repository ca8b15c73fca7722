"""Regridding of real files against an independent computation, and its speed, in two tables.

    python benchmarks/regridding.py --data ../shared/data

The first table takes every NetCDF file below the folder to 1 degree with `climdown regrid`, and
repeats some fields of each variable with CDO's remapcon (with xESMF where there is no CDO, by
sampling where there is neither) from the same cells: a file without bounds does not tell them to
CDO. Differences are the largest over all cells of which a thousandth or more is covered; both
tools average over the valid part of a cell, and of a cell that a halo repeats the other tool gets
one copy. The output is in single precision. The error of conservation is that of the sum of
area times value, over the sum of magnitudes; areas of meshes are those of S2.

The second table takes a T85 Gaussian grid to a quarter of a degree and back, weights and first
application, also with xESMF where esmpy is installed, and the curvilinear files with it.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.spatial import KDTree

from climdown import cf, regrid
from climdown.arrays import Float64, Floats
from climdown.cf.coordinates import with_coordinates
from climdown.errors import ClimdownError, GridError
from climdown.grid import Grid
from climdown.inputs.targets import named_grid, target_grid
from climdown.mesh import Mesh, places, unit_vectors
from climdown.regrid import build, file
from climdown.regrid.esmf import esmf_available
from climdown.regrid.polygons import cell_areas

Independent = Callable[[regrid.Cells, Float64, Grid], Float64]

FIELDS = 12  # of each variable that are compared


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Exactness and speed of regridding.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    logging.getLogger("climdown").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIMDOWN_CACHE_DIR"] = folder
        name, independent = independent_tool(Path(folder))
        print(f"To 1 degree, against {name}")
        print(
            f"{'file':<34}{'variable':<14}{'cells':<40}"
            f"{'diff/std':>10}{'diff/max':>10}{'conserved':>11}"
        )
        for path in sorted(arguments.data.rglob("*.nc")):
            for row in compare_file(path, Path(folder) / "out.nc", independent):
                print(row, flush=True)
    print("\nConservative weights and first application")
    print(
        f"{'':<34}{'native s':>9}{'xESMF s':>9}{'ratio':>7}{'diff/max':>10}{'polar rows':>11}"
        f"{'conserved':>11}{'by xESMF':>10}"
    )
    for name, source, target in cases(arguments.data):
        print(compare_speed(name, source, target), flush=True)


def compare_file(path: Path, output: Path, independent: Independent) -> Iterator[str]:
    """A row for each variable of a file."""
    try:
        reports = file.regrid_file(path, output, target=named_grid("1"), overwrite=True)
    except ClimdownError as error:
        yield f"{short(path.stem, 33):<34}{error}"
        return
    with cf.open_dataset(path) as opened, xr.open_dataset(output, decode_times=False) as result:
        dataset = with_coordinates(opened)
        for report in reports:
            cells, array = cf.horizontal_cells(dataset[report.name], dataset)
            target = target_grid("1", cells)
            fields, ours = some_fields(array, cells), some_fields(result[report.name], target)
            theirs = independent(cells, once(cells, fields), target)
            weights = regrid.weights(cells, target, "conservative")
            off = np.abs(ours - theirs)[:, weights.coverage > 1e-3]
            spread = np.nanstd(fields) or np.nan
            yield (
                f"{short(path.stem, 33):<34}{short(report.name, 13):<14}"
                f"{short(report.source.split(' deg,')[0], 39):<40}"
                f"{np.nanmax(off) / spread:>10.1e}{relative(off, fields):>10.1e}"
                f"{conservation(weights, fields):>11.1e}"
            )


def some_fields(array: xr.DataArray, cells: regrid.Cells) -> Float64:
    """Fields spread evenly over all the other dimensions, shape (fields, *cells.shape)."""
    leading = array.dims[: array.ndim - len(cells.shape)]
    sizes = tuple(array.sizes[d] for d in leading)
    chosen = np.unique(np.linspace(0, int(np.prod(sizes)) - 1, FIELDS).astype(int))
    places = [np.unravel_index(n, sizes) if sizes else () for n in chosen]
    parts = [array.isel(dict(zip(leading, place, strict=True))).values for place in places]
    return np.stack(parts).astype(np.float64)


def once(cells: regrid.Cells, fields: Float64) -> Float64:
    """Fields that hold a value in one copy of each repeated cell: others count it twice."""
    if isinstance(cells, Grid) or (cells.copies == 1).all():
        return fields
    _, first = np.unique(places(cells.lat.ravel(), cells.lon.ravel()), return_index=True)
    distinct = np.zeros(cells.lat.size, dtype=bool)
    distinct[first] = True
    return np.where(distinct.reshape(cells.shape), fields, np.nan)


def relative(off: Float64, fields: Float64) -> float:
    """The largest difference over the largest magnitude."""
    return float(np.nanmax(off) / np.nanmax(np.abs(fields)))


def conservation(weights: regrid.Weights, fields: Float64) -> float:
    """Error of the sum of area times value, over the sum of magnitudes."""
    source = areas(weights.source)
    values = np.nan_to_num(fields.reshape(len(fields), -1))
    if isinstance(weights.source, Mesh):
        filled = weights.source.filled_copies(fields.reshape(len(fields), -1).T).T
        values = np.nan_to_num(filled)
    after = (weights.matrix @ values.T).T @ weights.target.areas.ravel()
    before, size = values @ source, np.abs(values) @ source
    return float(np.nanmax(np.abs(after - before) / np.where(size > 0, size, np.nan)))


def areas(cells: regrid.Cells) -> Float64:
    """Areas of cells, flat; each copy of a repeated cell has its share."""
    if isinstance(cells, Grid):
        return cells.areas.ravel()
    try:
        import spherely
    except ImportError:
        return np.nan_to_num(cell_areas(cells) / cells.copies).ravel()
    assert cells.lat_vertices is not None
    assert cells.lon_vertices is not None
    corners = (v.reshape(cells.lat.size, -1) for v in (cells.lon_vertices, cells.lat_vertices))
    rings = [
        dict.fromkeys(zip(*ring, strict=True))
        for ring in zip(*(v.tolist() for v in corners), strict=True)
    ]
    polygons = (spherely.create_polygon(list(ring)) for ring in rings)
    solid_angles = np.array([spherely.area(polygon, radius=1.0) for polygon in polygons])
    return np.asarray(solid_angles / cells.copies.ravel())


def independent_tool(folder: Path) -> tuple[str, Independent]:
    """The name of what else computes means over cells here, and the function that does."""
    if shutil.which("cdo"):
        version = subprocess.run(["cdo", "--version"], capture_output=True, text=True, check=False)
        said = (version.stdout + version.stderr).splitlines()[0]
        name = said.removeprefix("Climate Data Operators version ").split(" ")[0]
        return f"cdo {name} remapcon", lambda *case: by_cdo(folder, *case)
    return ("xESMF", by_xesmf) if esmf_available() else ("samples of each cell", by_sampling)


def by_cdo(folder: Path, cells: regrid.Cells, fields: Float64, target: Grid) -> Float64:
    """CDO, from a file with these cells and their bounds."""
    probe, regridded, description = (
        folder / name for name in ("probe.nc", "regridded.nc", "grid.txt")
    )
    write_probe(probe, cells, fields)
    axes = (("x", target.lon, target.lon_edges), ("y", target.lat, target.lat_edges))
    lines = ["gridtype = lonlat", f"xsize = {target.lon.size}", f"ysize = {target.lat.size}"]
    for axis, centres, edges in axes:
        pairs = np.stack([edges[:-1], edges[1:]], axis=1).ravel()
        lines.append(f"{axis}vals = {' '.join(map(repr, centres.tolist()))}")
        lines.append(f"{axis}bounds = {' '.join(map(repr, pairs.tolist()))}")
    description.write_text("\n".join(lines) + "\n")
    options = ["-s", "-O", "-b", "F64"]
    command = ["cdo", *options, f"remapcon,{description}", str(probe), str(regridded)]
    subprocess.run(command, check=True, capture_output=True)
    with xr.open_dataset(regridded) as result:
        return np.asarray(result["x"].transpose("time", "lat", "lon").values)


def write_probe(path: Path, cells: regrid.Cells, fields: Float64) -> None:
    """Fields on cells that tell their bounds."""
    dims = ("lat", "lon") if isinstance(cells, Grid) else ("y", "x")[: len(cells.shape)]
    variables: dict[str, tuple[tuple[str, ...], Floats, dict[str, str]]] = {}
    for name, kind, side in (("lat", "latitude", "north"), ("lon", "longitude", "east")):
        attributes = {"standard_name": kind, "units": f"degrees_{side}", "bounds": f"{name}_bnds"}
        variables[name] = (
            (name,) if isinstance(cells, Grid) else dims,
            getattr(cells, name),
            attributes,
        )
        if isinstance(cells, Grid):
            edges = getattr(cells, f"{name}_edges")
            variables[f"{name}_bnds"] = ((name, "two"), np.stack([edges[:-1], edges[1:]], 1), {})
        else:
            variables[f"{name}_bnds"] = ((*dims, "corner"), getattr(cells, f"{name}_vertices"), {})
    stamps = {"units": "days since 2000-01-01", "standard_name": "time"}
    variables["time"] = (("time",), np.arange(len(fields), dtype=np.float64), stamps)
    dataset = xr.Dataset(variables).set_coords(["lat", "lon"])
    dataset["x"] = (("time", *dims), fields)
    dataset["x"].encoding = {"_FillValue": 1e30, "coordinates": "lat lon"}
    if isinstance(cells, Grid):
        dataset["x"].encoding.pop("coordinates")
    dataset.to_netcdf(path)


def by_xesmf(cells: regrid.Cells, fields: Float64, target: Grid) -> Float64:
    """ESMF's weights, or samples of cells that it cannot take."""
    try:
        weights = regrid.weights(cells, target, "conservative", backend="xesmf")
    except GridError:
        return by_sampling(cells, fields, target)
    return np.asarray(weights.apply(fields), dtype=np.float64)


def by_sampling(cells: regrid.Cells, fields: Float64, target: Grid, side: int = 24) -> Float64:
    """Means of the nearest cell's values over many points of each target cell."""
    fine = Grid.regular(
        target.lat_edges[0],
        target.lat_edges[-1],
        target.lon_edges[0],
        target.lon_edges[-1],
        float(np.diff(target.lat_edges)[0]) / side,
    )
    lat, lon = np.meshgrid(fine.lat, fine.lon, indexing="ij")
    centres = cells.lat, cells.lon
    if isinstance(cells, Grid):
        rows = np.searchsorted(cells.lat_edges, fine.lat).clip(1, cells.lat.size) - 1
        base = cells.lon_edges[0]
        turned = base + np.mod(fine.lon - base, 360.0)
        columns = np.searchsorted(cells.lon_edges, turned).clip(1, cells.lon.size) - 1
        values = fields[:, rows][:, :, columns]
    else:
        nearest = KDTree(unit_vectors(*centres).reshape(-1, 3)).query(unit_vectors(lat, lon))[1]
        values = fields.reshape(len(fields), -1)[:, nearest]
    shape = (len(fields), target.lat.size, side, target.lon.size, side)
    weight = np.broadcast_to(fine.areas, values.shape).reshape(shape)
    blocks = values[:, : shape[1] * side, : shape[3] * side].reshape(shape)
    valid_weight = np.where(np.isfinite(blocks), weight, 0.0)
    total, weights = np.nansum(blocks * valid_weight, axis=(2, 4)), valid_weight.sum(axis=(2, 4))
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1.0), np.nan)


def cases(data: Path) -> Iterator[tuple[str, regrid.Cells, Grid]]:
    """What is timed."""
    gaussian = gaussian_grid(128)
    poles = Grid.from_centres(np.linspace(-90, 90, 721), 0.25 * np.arange(1440))
    plain = Grid.regular(-90, 90, 0, 360, 0.25)
    for name, quarter in (("721 x 1440", poles), ("720 x 1440", plain)):
        yield f"T85 to 0.25 deg, {name}", gaussian, quarter
        yield f"0.25 deg, {name}, to T85", quarter, gaussian
    for path in sorted(data.rglob("*.nc")):
        with cf.open_dataset(path) as opened:
            dataset = with_coordinates(opened)
            for variable in cf.gridded_variables(dataset):
                cells, _ = cf.horizontal_cells(dataset[variable], dataset)
                if isinstance(cells, Mesh):
                    spacing = "0.25" if cells.spacing < 0.5 else "1"
                    name = f"{short(path.stem, 20)} to {spacing} deg"
                    yield name, without_copies(cells), target_grid(spacing, cells)


def without_copies(mesh: Mesh) -> Mesh:
    """Less the columns that repeat others, which ESMF counts twice."""
    if mesh.lat_vertices is None or mesh.lon_vertices is None or (mesh.copies == 1).all():
        return mesh
    once = slice(1, -1)
    arrays = (mesh.lat, mesh.lon, mesh.lat_vertices, mesh.lon_vertices)
    return Mesh(*(values[:, once] for values in arrays))


def gaussian_grid(ny: int) -> Grid:
    """A global Gaussian grid whose edges hold exactly the quadrature weights."""
    sines, quadrature = np.polynomial.legendre.leggauss(ny)
    edges = np.append(np.clip(np.cumsum(quadrature) - quadrature - 1.0, -1.0, 1.0), 1.0)
    lat, lat_edges = np.degrees(np.arcsin(sines)), np.degrees(np.arcsin(edges))
    return Grid.from_centres(lat, 180.0 / ny * np.arange(2 * ny), lat_edges=lat_edges)


def compare_speed(name: str, source: regrid.Cells, target: Grid) -> str:
    """One row of the second table."""
    field = made_up_field(source)
    seconds, ours, weights = timed(source, target, field, "native")
    row = f"{name:<34}{seconds:>9.2f}"
    after = f"{conservation(weights, field[None]):>11.1e}"
    try:
        other, theirs, by_esmf = timed(source, target, field, "xesmf")
    except ClimdownError:
        return f"{row}{'-':>9}{'-':>7}{'-':>10}{'-':>11}{after}{'-':>10}"
    touched = (weights.coverage > 1e-3) & (by_esmf.coverage > 1e-3)
    off = np.where(touched, np.abs(ours - theirs), np.nan)
    polar = relative(off[[0, -1]], field) if np.isfinite(off[[0, -1]]).any() else np.nan
    return (
        f"{row}{other:>9.2f}{other / seconds:>7.0f}{relative(off, field):>10.1e}{polar:>11.1e}"
        f"{after}{conservation(by_esmf, field[None]):>10.1e}"
    )


def timed(
    source: regrid.Cells, target: Grid, field: Float64, backend: regrid.Backend
) -> tuple[float, Float64, regrid.Weights]:
    """Seconds for weights and their first application, the result, the weights."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIMDOWN_CACHE_DIR"] = folder
        build._cached.cache_clear()
        begun = time.perf_counter()
        weights = regrid.weights(source, target, "conservative", backend=backend)
        result = weights.apply(field)
        seconds = time.perf_counter() - begun
        return seconds, np.asarray(result, dtype=np.float64), weights


def made_up_field(cells: regrid.Cells) -> Float64:
    """A temperature in K: waves of every length down to the cells."""
    lat, lon = cells.lat, cells.lon
    if isinstance(cells, Grid):
        lat, lon = np.meshgrid(cells.lat, cells.lon, indexing="ij")
    x, y, z = np.moveaxis(unit_vectors(lat, lon), -1, 0)
    noise = np.random.default_rng(0).normal(size=lat.shape)
    return np.asarray(275.0 + 25.0 * (1 - z**2) + 5.0 * x * y + 3.0 * noise)


def short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 2] + ".."


if __name__ == "__main__":
    main()
