"""Who makes weights, where they are kept, and what ESMF says to the same cells."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import scipy.sparse as sp

from climdown.errors import ConfigError, GridError
from climdown.grid import Grid
from climdown.mesh import Mesh
from climdown.regrid import Backend, Cells, Method, build, cache, choose_backend, esmf, weights
from tests.factories import gaussian_grid
from tests.meshes import as_mesh, rotated_pole, smooth, triangles, tripolar

SOURCE = rotated_pole()
TARGET = Grid.regular(42, 58, 5, 31, 2.0)
GLOBE = Grid.regular(-90, 90, 0, 360, 2.5)

needs_esmf = pytest.mark.skipif(not esmf.esmf_available(), reason="esmpy is not installed")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Weights are kept in an empty folder, and nothing in memory."""
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("climdown"), "propagate", True)
    build._cached.cache_clear()
    yield tmp_path / "cache" / "weights"
    build._cached.cache_clear()


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the method of each set of weights that is built."""
    methods: list[str] = []
    original = build._build

    def counting(key: build._Key) -> sp.csr_array:
        methods.append(key.method)
        return original(key)

    monkeypatch.setattr(build, "_build", counting)
    return methods


def fresh(source: Cells = SOURCE, target: Grid = TARGET, method: Method = "conservative") -> None:
    """Ask for weights as a new process would."""
    build._cached.cache_clear()
    weights(source, target, method)


def without_esmf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esmf, "_problem", lambda: "ModuleNotFoundError: No module named 'esmpy'")


def test_weights_are_read_the_second_time(folder: Path, builds: list[str]) -> None:
    first = weights(SOURCE, TARGET, "conservative").matrix
    assert [path.suffix for path in folder.iterdir()] == [".npz"]
    build._cached.cache_clear()
    second = weights(SOURCE, TARGET, "conservative").matrix
    assert builds == ["conservative"]
    assert (first != second).nnz == 0


def test_each_method_has_its_own_file(folder: Path, builds: list[str]) -> None:
    for method in ("conservative", "bilinear", "nearest", "nearest"):
        fresh(method=method)
    assert builds == ["conservative", "bilinear", "nearest"]
    assert len(list(folder.iterdir())) == 3


def test_grids_that_differ_slightly_have_their_own_files(folder: Path, builds: list[str]) -> None:
    moved = SOURCE.lat.copy()
    moved[2, 2] += 1e-5
    others: list[tuple[Mesh, Grid]] = [
        (replace(SOURCE, lat=moved), TARGET),
        (SOURCE, Grid.regular(42, 58, 5, 31.00002, 2.0)),
        (SOURCE, Grid.regular(42.00001, 58, 5, 31, 2.0)),
    ]
    fresh()
    for source, target in others:
        fresh(source, target)
    assert len(builds) == len(list(folder.iterdir())) == 4


def test_rectilinear_weights_are_not_kept(folder: Path) -> None:
    fresh(gaussian_grid(16))
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_files_are_built_again(
    folder: Path, builds: list[str], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    fresh()
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "text": b"weights\n", "empty": b""}
    path.write_bytes(contents[damage])
    with caplog.at_level(logging.WARNING, logger="climdown"):
        fresh()
    assert f"{path} is damaged" in caplog.text
    assert len(builds) == 2
    assert (
        cache.read_weights(path, (TARGET.lat.size * TARGET.lon.size, SOURCE.lat.size)) is not None
    )


def test_files_of_another_shape_are_built_again(
    folder: Path, builds: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    fresh()
    (path,) = folder.iterdir()
    sp.save_npz(path, sp.csr_array((3, 4)))
    with caplog.at_level(logging.WARNING, logger="climdown"):
        fresh()
    assert "has shape (3, 4)" in caplog.text
    assert len(builds) == 2


def test_a_cache_that_cannot_be_written_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CLIMDOWN_CACHE_DIR", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, logger="climdown"):
        fresh()
    assert "cannot keep regridding weights in" in caplog.text
    assert "CLIMDOWN_CACHE_DIR names another folder" in caplog.text


def test_nothing_is_left_of_a_file_that_could_not_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(stream: BinaryIO, matrix: sp.csr_array) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sp, "save_npz", full_disk)
    fresh()
    assert list(folder.iterdir()) == []


def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLIMDOWN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "climdown"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "climdown"


def test_a_user_without_a_home_keeps_weights_with_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CLIMDOWN_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache.cache_folder().name.startswith("climdown-")


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize(
    ("source", "method", "expected"),
    [
        (GLOBE, "conservative", "native"),
        (GLOBE, "bilinear", "native"),
        (SOURCE, "conservative", "native"),
        (SOURCE, "nearest", "native"),
        (SOURCE, "bilinear", "xesmf"),
        (triangles(level=1), "bilinear", "native"),
    ],
)
def test_auto_takes_esmf_for_bilinear_from_quadrilaterals_alone(
    source: Cells,
    method: Method,
    expected: str,
    available: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(esmf, "_problem", lambda: None if available else "gone")
    assert choose_backend(source, method, "auto") == (expected if available else "native")
    for backend in ("native", "xesmf"):
        assert choose_backend(source, method, backend) == backend


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown backend 'cdo'; expected auto, native or xesmf"):
        weights(GLOBE, TARGET, "bilinear", backend="cdo")  # type: ignore[arg-type]


def test_the_xesmf_backend_needs_esmpy(monkeypatch: pytest.MonkeyPatch) -> None:
    without_esmf(monkeypatch)
    with pytest.raises(ConfigError, match=r"needs esmpy, .* No module named 'esmpy'.* conda-forge"):
        weights(SOURCE, TARGET, "bilinear", backend="xesmf")


@pytest.mark.parametrize(
    ("source", "method"),
    [
        (triangles(level=1), "conservative"),
        (triangles(level=1), "bilinear"),
        (tripolar(halo=True), "conservative"),
        (Mesh.from_centres(np.where(SOURCE.lat > 55, np.nan, SOURCE.lat), SOURCE.lon), "bilinear"),
    ],
    ids=["triangles", "triangles, bilinear", "repeated columns", "holes"],
)
def test_cells_that_esmf_cannot_take_are_refused(
    source: Mesh, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(esmf, "_problem", lambda: None)
    message = re.escape(f"ESMF cannot take these cells for the method {method}")
    with pytest.raises(GridError, match=message):
        weights(source, TARGET, method, backend="xesmf")


@pytest.mark.xesmf
@needs_esmf
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (SOURCE, TARGET),
        (tripolar(ny=60, nx=72, cap=20), GLOBE),
        (gaussian_grid(32), GLOBE),
        (GLOBE, gaussian_grid(32)),
        (as_mesh(gaussian_grid(32)), GLOBE),
    ],
    ids=["rotated pole", "tripolar", "Gaussian", "to Gaussian", "written as a mesh"],
)
def test_conservative_means_are_esmfs(source: Cells, target: Grid) -> None:
    """ESMF draws the target's parallels as great circles: 5e-4 of the magnitude at most."""
    field = cells_of(source)
    results = [
        weights(source, target, "conservative", backend=backend) for backend in ("native", "xesmf")
    ]
    ours, theirs = (w.apply(field, min_coverage=0.5) for w in results)
    assert np.isfinite(ours).mean() > 0.5
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert (both == np.isfinite(ours)).mean() > 0.99
    assert np.abs(ours - theirs)[both].max() < 5e-4 * np.abs(field).max()
    totals = [np.nansum(values * target.areas * both) for values in (ours, theirs)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)


@pytest.mark.xesmf
@needs_esmf
@pytest.mark.parametrize(
    ("source", "target"),
    [(SOURCE, TARGET), (tripolar(ny=120, nx=144, cap=40), GLOBE), (gaussian_grid(32), GLOBE)],
    ids=["rotated pole", "tripolar", "Gaussian"],
)
def test_bilinear_is_esmfs_where_the_field_is_smooth(source: Cells, target: Grid) -> None:
    """Triangles and quadrilaterals differ by the curvature of the field alone."""
    field = cells_of(source)
    ours, theirs = (
        weights(source, target, "bilinear", backend=backend).apply(field)
        for backend in ("native", "xesmf")
    )
    # Where a grid ends before a pole, ESMF goes on to the mean around it.
    inner = np.abs(target.lat) < 77
    off = np.abs(ours - theirs)[inner]
    assert np.isfinite(off).mean() > 0.8
    assert np.nanmax(off) < 5e-4 * np.abs(field).max()


@pytest.mark.xesmf
@needs_esmf
@pytest.mark.parametrize("source", [SOURCE, triangles(level=2), gaussian_grid(16)])
def test_nearest_by_esmf_ends_where_native_ends(source: Cells) -> None:
    target = Grid.regular(30, 70, -20, 55, 2.5)
    ours, theirs = (
        weights(source, target, "nearest", backend=backend) for backend in ("native", "xesmf")
    )
    np.testing.assert_array_equal(ours.coverage > 0, theirs.coverage > 0)
    field = cells_of(source)
    same = np.isclose(ours.apply(field), theirs.apply(field), equal_nan=True)
    # Rectilinear axes are searched one by one; on the sphere the nearest is another here and there.
    assert same.mean() > (0.9 if isinstance(source, Grid) else 0.99)


@pytest.mark.xesmf
@needs_esmf
def test_both_backends_are_kept_side_by_side(folder: Path, builds: list[str]) -> None:
    backends: tuple[Backend, ...] = ("native", "xesmf", "native", "xesmf")
    for backend in backends:
        build._cached.cache_clear()
        weights(SOURCE, TARGET, "conservative", backend=backend)
    assert len(builds) == len(list(folder.iterdir())) == 2


def cells_of(source: Cells) -> np.ndarray:
    """A smooth field on some cells."""
    if isinstance(source, Mesh):
        return smooth(source.lat, source.lon)
    lat, lon = np.meshgrid(source.lat, source.lon, indexing="ij")
    return smooth(lat, lon)
