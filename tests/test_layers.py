"""The house keeps its layers: who imports whom, who prints, who writes, what loads early.

Each rule is one test, which lists all that break it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import pytest

import climdown
from climdown.config import DEFAULT_METHOD
from climdown.methods.registry import methods

# Rooms are the members of the package, files and folders. Configuration objects stop at the
# plans and at priors, whose cards hold settings of networks: others take plain arguments.
VALUES = {
    "arrays",
    "errors",
    "files",
    "grid",
    "mesh",
    "options",
    "signals",
    "transforms",
    "version",
}
PLAIN = {*VALUES, "config"}
BELOW_PLANS = {
    *PLAIN,
    *("diffusion", "metrics", "compute", "plots"),
    *("cf", "stream", "regrid", "bias", "priors", "methods", "inputs"),
}
PLANS = {"adjust", "training", "evaluation", "pipeline"}
EDGE = {"demo", "trial", "cli", "__main__", "__init__"}

# The rooms that each room may import, beside itself.
ROOMS: dict[str, set[str]] = {
    **dict.fromkeys(VALUES, VALUES),
    "config": PLAIN,
    "diffusion": set(),
    "metrics": VALUES,
    "compute": VALUES,
    "plots": VALUES,
    "cf": VALUES,
    "stream": {*VALUES, "cf"},
    "regrid": {*VALUES, "cf", "stream"},
    "bias": {*VALUES, "cf", "stream"},
    "priors": {*PLAIN, "diffusion"},
    "methods": {*VALUES, "diffusion", "metrics", "priors"},
    "inputs": {*VALUES, "cf", "stream", "regrid", "priors"},
    **dict.fromkeys(PLANS, BELOW_PLANS),
    "pipeline": {*BELOW_PLANS, "adjust"},
    **{name: {*BELOW_PLANS, *PLANS, *EDGE} for name in EDGE},
}
NETCDF = {"cf_units", "cf_xarray", "cftime", "netCDF4", "xarray"}
# Packages from outside; rooms left out are free but for the rules further down.
OUTSIDE: dict[str, set[str]] = {
    **{name: {"numpy"} for name in PLAIN},
    "mesh": {"numpy", "scipy"},
    "diffusion": {"numpy", "torch"},
    "metrics": {"numpy", "ot", "scipy"},
    "methods": {"numpy", "torch"},
    "plots": {"matplotlib", "numpy"},
    "cf": {"numpy", "pyproj", "scipy", *NETCDF},
    "stream": {"numpy", "scipy", *NETCDF},
    "regrid": {"numpy", "scipy", "xesmf", *NETCDF},
    "bias": {"array_api_compat", "cftime", "netCDF4", "numpy", "ot", "scipy"},
}

# Mathematics knows no files, no configuration and no clock.
MATHEMATICS = {"diffusion", "methods", "metrics"}
WORLDLY = {"datetime", "io", "json", "os", "pathlib", "shutil", "tempfile", "time", "tomllib"}
# What methods share; every other file of `methods` is a method.
SHARED_BY_METHODS = {"methods", "methods.method", "methods.noise_scale", "methods.registry"}
# The part of the store of priors that asks the Hub, publishes on it, and knows its refusals.
ONLINE = {"priors.hub", "priors.publish", "priors.refusals"}
NETWORK = {"ftplib", "http", "httpx", "huggingface_hub", "requests", "socket", "urllib"}

ROOT = Path(climdown.__file__).parent
STANDARD = sys.stdlib_module_names


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


@lru_cache
def imports(name: str) -> set[str]:
    """Absolute names a module imports, wherever in it: `climdown.grid`, `torch.nn`."""
    return set(imports_of(tree(name), name, is_package=MODULES[name].name == "__init__.py"))


def imports_of(syntax: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    """Of the package itself: modules, and what is taken from them, with the module it lies in."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                home = ["climdown", *(name.split(".") if name != "__init__" else [])]
                home = home[: len(home) - node.level + is_package]
                base = ".".join([*home, *([base] if base else [])])
            if base != "climdown" and not base.startswith("climdown."):
                yield base
                continue
            taken = {f"{base}.{alias.name}" for alias in node.names}
            yield from taken
            if any(below(target) not in MODULES for target in taken):
                yield base


def below(target: str) -> str:
    """The name below `climdown`."""
    return "__init__" if target == "climdown" else target.removeprefix("climdown.")


def room(name: str) -> str:
    return name.split(".")[0]


def roots(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def inner(name: str) -> set[str]:
    """What a module imports from the package, without the prefix; public names left out."""
    public = {*climdown.__all__, "__version__"}
    targets = {below(i) for i in imports(name) if i.startswith("climdown.")}
    return {target for target in targets if room(target) not in public}


def outer(name: str) -> set[str]:
    return roots(imports(name)) - STANDARD - {"climdown"}


@lru_cache
def calls(name: str) -> list[tuple[str, ast.Call]]:
    """Calls in a module, with the last part of what is called."""
    found = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    return [(ast.unparse(call.func).split(".")[-1], call) for call in found]


def calls_bare(name: str, function: str) -> bool:
    """Whether `function(...)` stands there, not `thing.function(...)`."""
    return any(isinstance(c.func, ast.Name) and c.func.id == function for _, c in calls(name))


def assert_none(found: Mapping[str, Collection[str]]) -> None:
    """Nothing is found in any module; else all of it is told, a line for each module."""
    lines = [f"{name}: {', '.join(sorted(found[name]))}" for name in sorted(found) if found[name]]
    assert not lines, "\n".join(lines)


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of names that reach one another, and names that reach themselves; sorted.

    Targets that are no keys of the graph lead nowhere.
    """
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = (graph.get(waiting.pop(), set()) & graph.keys()) - seen
            seen |= new
            waiting.extend(new)
        reached[start] = seen
    groups = {
        tuple(sorted(m for m in reached[name] if name in reached[m]))
        for name in graph
        if name in reached[name]
    }
    return sorted(map(list, groups))


def test_every_module_has_a_room() -> None:
    assert {room(name) for name in MODULES} <= ROOMS.keys()


def test_modules_import_only_rooms_they_may() -> None:
    wrong = {}
    for name in MODULES:
        allowed = {room(name), *ROOMS.get(room(name), ())}
        wrong[name] = {target for target in inner(name) if room(target) not in allowed}
    assert_none(wrong)


def test_modules_import_only_packages_they_may() -> None:
    rooms = {name: OUTSIDE[room(name)] for name in MODULES if room(name) in OUTSIDE}
    assert_none({name: outer(name) - allowed for name, allowed in rooms.items()})


def test_mathematics_knows_no_files_configuration_or_clock() -> None:
    names = [name for name in MODULES if room(name) in MATHEMATICS]
    assert_none({name: roots(imports(name)) & WORLDLY for name in names})
    assert_none({name: {"open"} for name in names if calls_bare(name, "open")})


def test_methods_do_not_import_each_other() -> None:
    files = {name for name in MODULES if room(name) == "methods"} - SHARED_BY_METHODS
    assert len(files) > 3
    assert_none({name: inner(name) & (files - {name}) for name in files})


def test_of_priors_methods_know_the_card_alone() -> None:
    names = [name for name in MODULES if room(name) == "methods"]
    priors = {name: {t for t in inner(name) if room(t) == "priors"} for name in names}
    assert_none({n: {t for t in ts if t.split(".")[1] != "card"} for n, ts in priors.items()})


def test_no_name_of_a_method_is_a_string_but_where_it_is_declared() -> None:
    """So that a method is one file and its line in the registry; the default one has a name."""
    # Interpolation is a way of regridding too.
    names = {method.name for method in methods()} - {"bilinear"}
    assert DEFAULT_METHOD in names
    named = {
        name: {
            node.value
            for node in ast.walk(tree(name))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        & names
        for name in MODULES
        if room(name) != "methods"
    }
    assert named.pop("config.run") == {DEFAULT_METHOD}
    assert_none(named)


def test_nobody_looks_back_at_the_plan_or_the_configuration() -> None:
    """What a plan is made of takes the few plain values that it uses."""
    parts = ("observer", "autocorrelation", "effective_resolution", "adjustment", "plan")
    looks_up = {"pipeline.plan", "pipeline.planning", "pipeline.execution", "config", "config.run"}
    names = [f"pipeline.{part}" for part in parts]
    assert_none({name: inner(name) & looks_up for name in names})


def test_the_identity_of_a_plan_is_for_resume_and_provenance_alone() -> None:
    readers = {name for name in MODULES if "climdown.pipeline.plan.identity" in imports(name)}
    assert readers == {"pipeline.execution", "pipeline.output"}


def test_only_the_command_line_prints() -> None:
    names = [name for name in MODULES if room(name) not in {"cli", "__main__"}]
    assert_none({name: {"print"} for name in names if calls_bare(name, "print")})
    talking = {"rich", "typer", "click", "tqdm"}
    assert_none({name: outer(name) & talking for name in names})


def test_typer_brings_its_own_click() -> None:
    assert_none({name: outer(name) & {"click"} for name in MODULES})


def test_only_stream_writes_field_files() -> None:
    writing: dict[str, set[str]] = {}
    for name in MODULES:
        if room(name) == "stream":
            continue
        found = {ast.unparse(call) for called, call in calls(name) if called == "to_netcdf"}
        if "netCDF4" in outer(name):  # a Dataset may be opened to be read: without a mode
            opened = [call for called, call in calls(name) if called == "Dataset"]
            found |= {ast.unparse(call) for call in opened if call.args[1:] or call.keywords}
        writing[name] = found
    assert_none(writing)


def test_only_the_store_of_priors_touches_the_network() -> None:
    names = MODULES.keys() - ONLINE
    assert_none({name: roots(imports(name)) & NETWORK for name in names})


def test_nothing_is_pickled() -> None:
    pickles = {"pickle", "joblib", "dill"}
    assert_none({name: roots(imports(name)) & pickles for name in MODULES})


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: {below(target) for target in imports(name)} for name in MODULES}
    circles = [", ".join(circle) for circle in cycles(graph)]
    assert not circles, "\n".join(circles)


def test_circles_are_found_and_nothing_else() -> None:
    line = {"a": {"b", "c"}, "b": {"c", "elsewhere"}, "c": set[str]()}
    assert cycles(line) == []
    assert cycles({**line, "c": {"a"}}) == [["a", "b", "c"]]
    assert cycles({**line, "c": {"c"}}) == [["c"]]
    two = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a", "d"}}
    assert cycles(two) == [["a", "b"], ["c", "d", "e"]]


def test_the_walker_sees_nested_relative_and_submodule_imports() -> None:
    source = """
import torch.nn as nn
from climdown import cf
if TYPE_CHECKING:
    from climdown.stream import join
def late():
    from ..grid import Grid
    from . import store
"""
    found = set(imports_of(ast.parse(source), "priors.card", is_package=False))
    assert found == {
        *("torch.nn", "climdown.cf", "climdown.stream", "climdown.stream.join"),
        *("climdown.grid", "climdown.grid.Grid", "climdown.priors.store"),
    }


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
