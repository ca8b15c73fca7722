"""The house keeps its layers: who imports whom, who prints, who writes, what loads early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

import climdown

ROOT = Path(climdown.__file__).parent
STANDARD = sys.stdlib_module_names

PLAIN = {"errors", "grid", "transforms", "config"}
LABELLED = {"cf", "mesh", "regrid", "stream", "bias", "inspection"}
JUDGED = {"priors", "evaluation"}
PLANS = {
    *("pipeline", "methods", "coherence", "observer", "matching", "filtering"),
    *("training", "testbeds", "demo", "remap", "adjust"),
}
EDGE = {"cli", "__main__", "__init__"}

# Members of the package that each layer may import, beside its own. Configuration objects
# stop at the plans: deeper functions take plain arguments.
BELOW_PLANS = {"diffusion"} | PLAIN | LABELLED | JUDGED
PACKAGE_IMPORTS: dict[str, set[str]] = {
    "diffusion": set(),
    **dict.fromkeys(PLAIN, PLAIN),
    **{name: LABELLED | (PLAIN - {"config"}) for name in LABELLED},
    **{name: {"diffusion"} | PLAIN | LABELLED for name in JUDGED},
    **dict.fromkeys(PLANS, BELOW_PLANS | PLANS),
    **dict.fromkeys(EDGE, BELOW_PLANS | PLANS | EDGE),
}
NETCDF = {"cf_units", "cf_xarray", "cftime", "netCDF4", "xarray"}
# Third-party packages; layers left out are free but for the rules further down.
OUTSIDE_IMPORTS: dict[str, set[str]] = {
    **{name: {"numpy"} for name in PLAIN},
    "diffusion": {"numpy", "torch"},
    **{name: {"numpy", "scipy", *NETCDF} for name in LABELLED},
    "regrid": {"numpy", "scipy", "xesmf", *NETCDF},
    "bias": {"array_api_compat", "cftime", "netCDF4", "numpy", "ot", "scipy"},
}
# Mathematics knows no files, no configuration and no clock.
WORLDLY = {"datetime", "io", "json", "os", "pathlib", "shutil", "tempfile", "time", "tomllib"}
NETWORK = {"ftplib", "http", "httpx", "huggingface_hub", "requests", "socket", "urllib"}
# What the methods share; every other module of `diffusion` is a method.
SHARED_MATHEMATICS = {
    *("denoiser", "gaussian", "guidance", "losses", "noise", "observation"),
    *("sampler", "schedule", "solvers", "tiles", "unet"),
}


def modules() -> dict[str, Path]:
    """Dotted names below `climdown`, with their files."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@lru_cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name: str) -> set[str]:
    """Absolute names a module imports, wherever in it: `climdown.grid`, `torch.nn`."""
    return set(imports_of(tree(name), name, is_package=MODULES[name].name == "__init__.py"))


def imports_of(syntax: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                home = ["climdown", *(name.split(".") if name != "__init__" else [])]
                home = home[: len(home) - node.level + is_package]
                base = ".".join([*home, *([base] if base else [])])
            yield base
            if base == "climdown" or base.startswith("climdown."):
                yield from (f"{base}.{alias.name}" for alias in node.names)


def layer(name: str) -> str:
    return name.split(".")[0]


def inner(name: str) -> set[str]:
    """What a module imports from the package, without the prefix; public names left out."""
    public = {*climdown.__all__, "__version__"}
    below = {i.removeprefix("climdown.") for i in imports(name) if i.startswith("climdown.")}
    return {target for target in below if layer(target) not in public}


def outer(name: str) -> set[str]:
    return {i.split(".")[0] for i in imports(name)} - STANDARD - {"climdown"}


def calls(name: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.Call))


def test_every_module_has_a_layer() -> None:
    assert {layer(name) for name in MODULES} <= set(PACKAGE_IMPORTS)


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_only_layers_they_may(name: str) -> None:
    allowed = PACKAGE_IMPORTS[layer(name)] | {layer(name)}
    assert {target for target in inner(name) if layer(target) not in allowed} == set()


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) in OUTSIDE_IMPORTS])
def test_modules_import_only_packages_they_may(name: str) -> None:
    assert outer(name) - OUTSIDE_IMPORTS[layer(name)] == set()


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) == "diffusion"])
def test_mathematics_knows_no_files_configuration_or_clock(name: str) -> None:
    assert {i.split(".")[0] for i in imports(name)} & WORLDLY == set()
    opened = [c for c in calls(name) if isinstance(c.func, ast.Name) and c.func.id == "open"]
    assert opened == []


METHODS = {
    name
    for name in MODULES
    if layer(name) == "diffusion" and name.split(".")[-1] not in {"diffusion", *SHARED_MATHEMATICS}
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_do_not_import_each_other(name: str) -> None:
    assert inner(name) & (METHODS - {name}) == set()


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) not in {"cli", "__main__"}])
def test_only_the_command_line_prints(name: str) -> None:
    prints = [c for c in calls(name) if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert prints == []
    assert outer(name) & {"rich", "typer", "click", "tqdm"} == set()


@pytest.mark.parametrize("name", MODULES)
def test_typer_brings_its_own_click(name: str) -> None:
    assert "click" not in outer(name)


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) != "stream"])
def test_only_stream_writes_field_files(name: str) -> None:
    called = [(ast.unparse(call.func).split(".")[-1], call) for call in calls(name)]
    assert "to_netcdf" not in {function for function, _ in called}
    if "netCDF4" in outer(name):
        opened = [call for function, call in called if function == "Dataset"]
        modes = [*(c.args[1:2] for c in opened), *(c.keywords for c in opened)]
        assert [mode for mode in modes if mode] == [], "netCDF4.Dataset opened with a mode"


# The part of the store of priors that asks the Hub, publishes on it, and knows its refusals.
ONLINE = {"priors.hub", "priors.publish", "priors.refusals"}


@pytest.mark.parametrize("name", [n for n in MODULES if n not in ONLINE])
def test_only_the_store_of_priors_touches_the_network(name: str) -> None:
    assert {i.split(".")[0] for i in imports(name)} & NETWORK == set()


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_pickled(name: str) -> None:
    assert {i.split(".")[0] for i in imports(name)} & {"pickle", "joblib", "dill"} == set()


def test_the_walker_sees_nested_relative_and_submodule_imports() -> None:
    source = """
import torch.nn as nn
from climdown import cf
def late():
    from ..grid import Grid
    from . import store
"""
    found = set(imports_of(ast.parse(source), "priors.card", is_package=False))
    assert {"torch.nn", "climdown.cf", "climdown.grid", "climdown.priors.store"} <= found


@pytest.mark.parametrize("module", ["climdown", "climdown.cli"])
def test_heavy_packages_wait_until_they_are_needed(module: str) -> None:
    heavy = ("torch", "matplotlib", "xarray", "scipy", "huggingface_hub")
    code = f"import sys, {module}; print(*(n for n in {heavy} if n in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.split()) == (0, []), ran.stderr


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_answers_without_torch_or_matplotlib(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from climdown.cli import main\n"
        f"sys.argv = ['climdown', *{words}]\n"
        "try:\n    main()\n"
        "finally:\n"
        "    print(*(n for n in ('torch', 'matplotlib') if n in sys.modules), file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.strip()) == (0, "")
    assert "climdown" in ran.stdout
