"""What the parser of the command line refuses, in one line of ours.

Typer's errors are known by their attributes: their classes have had two homes.
"""

from __future__ import annotations

import re
from typing import Any

import typer

# Above `BadParameter` in every version, and above all else that the parser raises.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# How pydantic, by which Typer reads values, names what it expected.
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}
# Refusals of choices, and of our own parsers.
_EXPECTATION = re.compile(
    r"(?s)(?:Value error, )?('.*?'|\".*?\")( is not one of |; expected )(.*?)\.?"
)


def usage_message(error: Any) -> str:
    """The option, what was found, what was expected, and where to read on."""
    text = _bad_value(error) or _bad_option(error) or _plain(error.format_message())
    context = getattr(error, "ctx", None)
    return text if context is None else f"{text} (see '{context.command_path} --help')"


def asks_for_help(error: Exception) -> bool:
    """Whether nothing was typed where a command was due; the message is the help then."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _bad_value(error: Any) -> str | None:
    if not isinstance(error, typer.BadParameter) or not error.message or error.param is None:
        return None
    value, expected = _value_and_expected(error)
    reason = f" is {value}; expected {expected}" if expected else f": {error.message.rstrip('.')}"
    return f"{_name(error.param)}{reason}"


def _value_and_expected(error: Any) -> tuple[str, str]:
    """The value and what it should have been; two empty words where they are not known."""
    cause = error.__cause__.errors()[0] if hasattr(error.__cause__, "errors") else {}
    if words := _EXPECTED.get(cause.get("type", "")):
        return f"'{cause['input']}'", words.format(**cause.get("ctx", {}))
    match = _EXPECTATION.fullmatch(error.message)
    return (match[1], _listed(match[2], match[3])) if match else ("", "")


def _listed(link: str, words: str) -> str:
    """Choices as a sentence has them: a, b or c."""
    return words if "one of" not in link else " or ".join(words.replace("'", "").rsplit(", ", 1))


def _bad_option(error: Any) -> str | None:
    if not (hasattr(error, "option_name") and hasattr(error, "possibilities")):
        return None
    near = " or ".join(sorted(error.possibilities or ()))
    return f"no option {error.option_name}" + (f": did you mean {near}?" if near else "")


def _plain(text: str) -> str:
    words = " ".join(text.split()).rstrip(".")
    return words[:1].lower() + words[1:]


def _name(parameter: Any) -> str:
    """As it is typed."""
    options = [name for name in parameter.opts if name.startswith("-")]
    return max(options, key=len) if options else str(parameter.metavar or parameter.name.upper())
