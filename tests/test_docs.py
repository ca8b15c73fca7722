"""The documents: what they name exists, what they show works, what is generated is up to date."""

from __future__ import annotations
import __future__

import importlib
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints
from unittest.mock import Mock

import numpy as np
import pytest
import typer.main
import xarray as xr

import climdown
from climdown import RunConfig, cf, downscale
from climdown.adjust.options import OPTIONS
from climdown.adjust.registry import ADJUSTMENTS
from climdown.cf import opening, quantities
from climdown.cli import make_app
from climdown.compute import ranks
from climdown.config import PriorConfig
from climdown.errors import ClimdownError, ConfigError
from climdown.methods import registry
from climdown.options import from_mapping
from climdown.priors.prior import Prior
from docs import generate
from tests.commands import Shell, read_members, warmth, write_tas
from tests.commands import write_pr as write_rain
from tests.factories import TAS, assert_holds_truth, make_dataset

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/guide.md")
FOLDERS = ("climdown", "tests", "benchmarks", "docs", "examples")
ROOMS = {path.stem for path in Path(climdown.__file__).parent.iterdir()}
# Options of other programs, and the one that every command has by itself.
FOREIGN = {"--check", "--extra-index-url", "--help", "--no-deps", "--nproc-per-node"}


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def examples(document: str) -> dict[str, str]:
    """Blocks of Python that are marked by an HTML comment, by their names."""
    pattern = r"<!-- example: ([\w-]+) -->\n```python\n(.*?)```"
    return dict(re.findall(pattern, read(document), re.DOTALL))


def load(source: str, name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> ModuleType:
    """Source text as a module of a name, for this test."""
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def inside(source: str, module: ModuleType) -> dict[str, Any]:
    """The names of a module after source text has been added to its end; it stays as it is."""
    names = dict(vars(module))
    lazy = __future__.annotations.compiler_flag
    exec(compile(source, module.__name__, "exec", flags=lazy), names)
    return names


# --- names, paths, links, options, commands


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_exist(document: str) -> None:
    pattern = rf"(?<![\w/.@-])(?:{'|'.join(FOLDERS)})/[\w./-]*"
    paths = {path.rstrip(".") for path in re.findall(pattern, read(document))}
    assert paths
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("document", DOCUMENTS[1:])
def test_names_of_modules_and_entries_exist(document: str) -> None:
    text = read(document)
    names = set(re.findall(r"`([A-Za-z_]\w*(?:\.\w+)+)`", text))
    for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        names |= set(re.findall(r"\b[a-z_]+\.[a-z_]+\b", block))
    entries = {field.name for field in fields(PriorConfig)}
    ours = {n for n in names if n.split(".")[0] in {*ROOMS, *FOLDERS, *entries}}
    assert ours
    assert sorted(name for name in ours if not (is_entry(name) or is_name(name))) == []


def is_entry(name: str) -> bool:
    """Whether a name is that of an entry of a training configuration, "training.steps"."""
    kind: Any = PriorConfig
    for part in name.split("."):
        hints = get_type_hints(kind) if is_dataclass(kind) else {}
        if part not in hints:
            return False
        kind = next((k for k in getattr(hints[part], "__args__", ()) if is_dataclass(k)), None)
        kind = kind or hints[part]
    return True


def is_name(name: str) -> bool:
    """Whether a module has a name, or is there; rooms may be named without the package."""
    parts = name.split(".")
    parts = parts if parts[0] in FOLDERS else ["climdown", *parts]
    for cut in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:cut])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            found: Any = importlib.import_module(".".join(parts[:cut]))
            for part in parts[cut:]:
                found = getattr(found, part, None)
            return found is not None
    return False


def test_names_that_do_not_exist_are_found() -> None:
    assert is_name("cf.sources")
    assert is_name("climdown.methods.registry.register")
    assert is_entry("training.steps")
    for name in ("climdown.testbeds.invariant", "cf.nothing", "training.nothing"):
        assert (is_name(name), is_entry(name)) == (False, False)


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_lead_somewhere(document: str) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", read(document)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """What GitHub calls the sections of a document."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(command: Any) -> Iterator[Any]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from commands(below)


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md"])
def test_options_exist(document: str) -> None:
    known = set(FOREIGN)
    for command in commands(typer.main.get_command(make_app())):
        for parameter in command.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[\w-]+)"', script.read_text(encoding="utf-8")))
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", read(document)))
    assert sorted(named - known) == []


def shown_commands(document: str) -> list[list[str]]:
    """Lines to be typed, without those that stand for several."""
    text = read(document)
    lines = re.findall(r"^ {4}(climdown .*)$", text, re.MULTILINE)
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        lines += re.findall(r"^(climdown .*)$", block, re.MULTILINE)
    plain = (line.split("  #")[0] for line in lines)
    return [shlex.split(line, comments=True) for line in plain if not re.search(r"\.\.\.|\|", line)]


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md"])
def test_commands_can_be_typed(document: str) -> None:
    shown = [words for words in shown_commands(document) if words[1:]]
    assert len(shown) > 5
    for words in shown:
        command: Any = typer.main.get_command(make_app())
        rest = words[1:]
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context(" ".join(words), rest)  # parsed, and not run


def test_the_readme_has_every_exit_code() -> None:
    told = re.search(r"^Exit codes: (.*?)\n\n", read("README.md"), re.DOTALL | re.MULTILINE)
    assert told is not None
    codes = {int(code) for code in re.findall(r"\b(\d+) ", told[1])}
    assert codes == {0, 1, 130, *(kind.exit_code for kind in ClimdownError.__subclasses__())}


# --- what is generated


@pytest.mark.parametrize("name", sorted(generate.TABLES))
def test_tables_are_those_of_the_declarations(name: str) -> None:
    found = generate.generated(read("docs/guide.md"), name)
    assert found == generate.TABLES[name](), "renew it: python docs/generate.py"


def test_a_generated_part_is_replaced_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [f"<!-- generated: {n} -->\nold\n<!-- end of {n} -->\n" for n in generate.TABLES]
    marks = "before\n" + "between\n".join(parts) + "after\n"
    expected = marks
    for table in generate.TABLES.values():
        expected = expected.replace("\nold\n", f"\n\n{table()}\n\n", 1)
    monkeypatch.setattr(generate, "GUIDE", tmp_path / "guide.md")
    generate.GUIDE.write_text(marks, encoding="utf-8")
    for _ in range(2):
        generate.main()
        text = generate.GUIDE.read_text(encoding="utf-8")
        assert text == expected
    with pytest.raises(ValueError, match="found 0 parts marked 'other'; expected one"):
        generate.generated(marks, "other")


def test_a_method_that_is_added_has_a_row(
    monkeypatch: pytest.MonkeyPatch, one_step: ModuleType
) -> None:
    (row,) = (line for line in generate.methods_table().splitlines() if "one-step" in line)
    for words in (
        "| diffusion | 4 | none, or any | `--noise-level` |",
        "(https://doi.org/10.1234/",
    ):
        assert words in row


# --- examples


def test_every_block_of_python_is_an_example_that_runs() -> None:
    for document in DOCUMENTS:
        assert read(document).count("```python") == len(examples(document))


def test_the_house_is_one_picture() -> None:
    (picture,) = re.findall(r"```text\n(.*?)```", read("CONTRIBUTING.md"), re.DOTALL)
    lines = picture.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The method of CONTRIBUTING.md, registered for one test."""
    source = examples("CONTRIBUTING.md")["method"]
    module = load(source, "one_step", monkeypatch, tmp_path)
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    registry.register(module.OneStepMethod())
    return module


def test_the_method_runs_on_the_command_line(
    one_step: ModuleType, shell: Shell, tiny_prior: Prior
) -> None:
    write_tas(Path("tas.nc"))
    words = ("run", "tas.nc", "out.nc", "--prior", tiny_prior.folder, "--method", "one-step")
    result = shell(*words, "--noise-level", 2, "--dry-run")
    assert "one-step, noise level 2" in result.out
    assert shell(*words, "--noise-level", 0).message.endswith("level is 0.0; need more than 0")
    assert (
        "--noise-level is an option of one-step"
        in shell(*words[:-1], "zssd", "--noise-level", 2).message
    )
    result = shell(*words)
    assert result.code == 0, result.err
    assert read_members("out.nc").shape[:2] == (3, 4)


def test_the_test_of_the_method_passes_and_can_fail(
    one_step: ModuleType,
    shell: Shell,
    tiny_prior: Prior,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    source = examples("CONTRIBUTING.md")["method-test"]
    shown = load(source, "shown_test", monkeypatch, tmp_path)
    shown.test_members_differ_by_their_noise(shell, tiny_prior)
    Path("out.nc").unlink()
    still = Mock(side_effect=lambda denoise, observation, noise: observation.interpolate(noise(0)))
    monkeypatch.setattr(one_step.OneStep, "sample", staticmethod(still))
    with pytest.raises(AssertionError):
        shown.test_members_differ_by_their_noise(shell, tiny_prior)


def test_the_options_check_themselves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = load(examples("CONTRIBUTING.md")["option"], "shown_option", monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=r"width is -1\.0; need more than 0"):
        from_mapping(shown.SmoothingOptions, {"width": -1})


def test_the_adjustment_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_prior: Prior
) -> None:
    shown = load(examples("CONTRIBUTING.md")["adjustment"], "shown_shift", monkeypatch, tmp_path)
    monkeypatch.setitem(cast(dict[str, Any], OPTIONS), "shift", shown.ShiftOptions)
    monkeypatch.setitem(cast(dict[str, Any], ADJUSTMENTS), "shift", shown.Shift())
    monkeypatch.chdir(tmp_path)
    write_tas(Path("obs.nc"))
    for name in ("hist.nc", "sim.nc"):
        write_tas(Path(name), values=lambda lat, lon, step: warmth(lat, lon, step) + 7.0)

    def run(name: str, output: str, **settings: Any) -> Any:
        config = RunConfig(method="bilinear", filter_scale="native", **settings)
        downscale([name], output, prior=tiny_prior, config=config)
        return read_members(output)

    given: Any = {"bias": "shift", "historical": ("hist.nc",), "reference": ("obs.nc",)}
    unbiased, biased = run("obs.nc", "0.nc"), run("sim.nc", "1.nc")
    np.testing.assert_allclose(run("sim.nc", "2.nc", **given), unbiased, atol=1e-4)
    half = run("sim.nc", "3.nc", **given, bias_options={"share": 0.5})
    np.testing.assert_allclose(half, 0.5 * (unbiased + biased), atol=1e-4)


def test_the_metric_has_its_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = load(examples("CONTRIBUTING.md")["metric"], "shown_metric", monkeypatch, tmp_path)
    shown.test_the_error_of_a_constant_offset_is_the_offset()


def test_the_variable_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    cover = xr.DataArray(0.5, name="tcc", attrs={"units": "1"})
    assert cf.family_of_array(cover) is None
    added = eval(f"({examples('CONTRIBUTING.md')['variable']})", vars(quantities))
    monkeypatch.setattr(quantities, "FAMILIES", (*quantities.FAMILIES, *added))
    known = cf.family_of_array(cover)
    assert known is not None
    assert known.quantity.name == "clt"
    assert known.range_in("1") == pytest.approx((-0.01, 1.01))


def test_formats_are_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = inside(examples("CONTRIBUTING.md")["reading"], opening)["_open"]
    monkeypatch.setattr(opening, "_open", shown)
    make_dataset(path=tmp_path / "tas.nc").to_zarr(tmp_path / "tas.zarr", consolidated=False)
    for name in ("tas.nc", "tas.zarr"):
        assert_holds_truth(cf.open_field(tmp_path / name, TAS))
    opened = Mock(return_value=xr.open_dataset(tmp_path / "tas.nc", decode_cf=False))
    monkeypatch.setattr(xr, "open_dataset", opened)
    (tmp_path / "tas.grib").touch()
    assert_holds_truth(cf.open_field(tmp_path / "tas.grib", TAS))
    assert opened.call_args.kwargs["engine"] == "cfgrib"


def test_the_file_is_placed_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    load(examples("CONTRIBUTING.md")["writing"], "shown_writing", monkeypatch, tmp_path)
    assert np.load("fields.npy").shape == (2, 3)


def test_the_launcher_says_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    own_rank = inside(examples("CONTRIBUTING.md")["launcher"], ranks)["own_rank"]
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert own_rank() == ranks.Rank(0, 1, 0)
    for name, value in zip(("RANK", "SIZE", "LOCAL_RANK"), "582", strict=True):
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    assert own_rank() == ranks.Rank(5, 8, 2)
    for name, value in zip(names, "341", strict=True):
        monkeypatch.setenv(name, value)
    assert own_rank() == ranks.Rank(3, 4, 1) == ranks.own_rank()


@pytest.fixture
def iberia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse tas and pr over Iberia in the current folder, three days of January 2001 and more."""
    monkeypatch.chdir(tmp_path)
    region: Any = {"lat": np.arange(33.5, 48.0), "lon": np.arange(-13.5, 8.0)}
    write_tas(Path("tas.nc"), **region)
    write_rain(Path("pr.nc"), **region)
    for name in ("hist_tas.nc", "ssp585_tas.nc"):
        write_tas(Path(name), days=[day + 0.5 for day in range(30)], **region)


PRINTED = {
    "downscale": "out.nc 6 0\n",
    "error": "2 --steps is an option of zssd, cm, bridge and ot-diffusion, not of bilinear; leave",
    "bias": "",
    "field": "2001-01-01 12:00:00 15 x 22 cells of 1 deg",
    "registry": "zssd ('diffusion',) 4 arXiv:2601.21760\n",
}


@pytest.mark.parametrize("name", examples("docs/guide.md"))
def test_the_examples_of_the_guide_run(
    name: str,
    iberia: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = load(examples("docs/guide.md")[name], f"shown_{name}", monkeypatch, tmp_path)
    assert capsys.readouterr().out.startswith(PRINTED[name])
    if name == "downscale":
        assert read_members("out.nc").shape[:2] == (3, 2)
    if name == "bias":
        assert np.isfinite(read_members("adjusted.nc")).any()
    if name == "field":
        assert (shown.values.shape, shown.values.dtype) == ((2, 15, 22), np.float32)
