"""`climdown demo` and the small commands."""

from __future__ import annotations

import re
from pathlib import Path

import netCDF4
import numpy as np

from tests.commands import Shell
from tests.priors import write_tiny_prior


def test_demo_writes_its_files_beats_bilinear_and_says_what_to_do_next(shell: Shell) -> None:
    result = shell("demo", "--days", 3, "--members", 2)
    assert result.code == 0, result.err
    names = {path.name for path in Path().iterdir()}
    assert names == {"demo_input.nc", "demo_output.nc", "demo_truth.nc", "demo_report.html"}
    assert "closer to what happened than bilinear" in Path("demo_report.html").read_text()
    assert "climdown run --method zssd" in result.out
    # The printed errors of tas: climdown's is well below that of bilinear interpolation.
    row = next(line for line in result.out.splitlines() if "tas (K)" in line)
    bilinear, climdown = map(float, re.findall(r"\d+\.\d+", row))
    assert 0 < climdown < 0.7 * bilinear
    with netCDF4.Dataset("demo_input.nc") as source, netCDF4.Dataset("demo_output.nc") as output:
        assert source["time"].calendar == output["time"].calendar == "360_day"
        np.testing.assert_array_equal(source["time_bnds"][:], output["time_bnds"][:])
        assert output["tas"].shape == (3, 2, 41, 61)
        assert "--seed 1" in output.history


def test_priors_commands_list_show_and_verify_the_bundled_prior(shell: Shell) -> None:
    assert "eobs-iberia-zssd" in shell("priors", "list").out
    shown = shell("priors", "show", "eobs-iberia-zssd").out
    assert "air_temperature" in shown
    assert "1996-12-01/1997-02-28" in shown
    assert "eobs-iberia-zssd: ok" in shell("priors", "verify", "eobs-iberia-zssd").out


def test_unknown_prior_suggests_the_near_name(shell: Shell) -> None:
    result = shell("priors", "show", "eobs-iberia-zsd")
    assert result.code == 5
    assert "did you mean eobs-iberia-zssd?" in result.message


def test_verify_refuses_a_damaged_prior(shell: Shell) -> None:
    write_tiny_prior(Path("tiny"))
    Path("tiny/card.json").write_text("{}")
    result = shell("priors", "verify", "tiny")
    assert result.code == 5
    assert "the card's format is None" in result.message


def test_every_command_has_help_and_the_version_is_printed(shell: Shell) -> None:
    groups = {"": (), "priors": ("list", "show", "verify"), "train": ("diffusion",)}
    commands = [("run",), ("inspect",), ("demo",), ("priors",), ("train",), ()]
    commands += [(group, name) for group, names in groups.items() for name in names]
    for words in commands:
        result = shell(*words, "--help")
        assert result.code == 0
        assert "Usage" in result.out
    assert shell("--version").out.startswith("climdown 0.")
