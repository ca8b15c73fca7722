"""What the parser refuses: one line, exit code 2, the option, the value, and what would do."""

from __future__ import annotations

import sys

import pytest
import typer

from climdown.cli import demo, main
from climdown.cli.usage import usage_message
from tests.commands import Shell

RUN = ("run", "a.nc", "b.nc")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            (*RUN, "--bias", "mean"),
            "--bias is 'mean'; expected none, qdm or ot (see 'climdown run --help')",
        ),
        ((*RUN, "--members", "many"), "--members is 'many'; expected a whole number (see"),
        ((*RUN, "--members", "1.5"), "--members is '1.5'; expected a whole number (see"),
        ((*RUN, "--batch-size", "many"), "--batch-size is 'many'; expected a whole number or auto"),
        ((*RUN, "--coherence", "x"), "--coherence is 'x'; expected a number, auto or none (see"),
        ((*RUN, "--device", "tpu"), "--device is 'tpu'; expected auto, cpu or cuda (see"),
        (
            ("demo", "--days", "1"),
            "--days is '1'; expected at least 2 (see 'climdown demo --help')",
        ),
        (("qdm", "a", "b", "--max-ratio", "big"), "--max-ratio is 'big'; expected a number (see"),
        (
            ("qdm", "a", "b", "--group", "it's"),
            '--group is "it\'s"; expected none, month or dayofyear',
        ),
        (("regrid", "a", "b"), "missing option '--grid' (see 'climdown regrid --help')"),
        (("run",), "missing argument 'INPUT... OUTPUT' (see 'climdown run --help')"),
        ((*RUN, "--membrs", "4"), "no option --membrs: did you mean --members? (see"),
        ((*RUN, "--frobnicate"), "no option --frobnicate (see 'climdown run --help')"),
        ((*RUN, "--members"), "option '--members' requires an argument"),
        (("regrid", "a", "b", "c", "--grid", "1"), "got unexpected extra argument"),
        (("rn",), "no such command 'rn'. Did you mean 'run'? (see 'climdown --help')"),
        (("priors", "lst"), "Did you mean 'list'? (see 'climdown priors --help')"),
        (("train", "diffusion", "x.toml", "--device", "tpu"), "expected auto, cpu or cuda (see"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_one_line_says_what_is_wrong(shell: Shell, words: tuple[str, ...], line: str) -> None:
    result = shell(*words)
    assert (result.code, result.out) == (2, ""), result.err
    assert line in result.message
    assert result.err.count("\n") == 1


def test_what_names_no_option_is_told_as_it_is() -> None:
    assert usage_message(typer.BadParameter("'x' is odd.")) == "invalid value: 'x' is odd"


def test_an_interrupt_ends_with_130(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "progress_bar", interrupt)
    monkeypatch.setattr(sys, "argv", ["climdown", "demo"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert "Traceback" not in capsys.readouterr().err
