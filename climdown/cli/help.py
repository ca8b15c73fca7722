"""Help in panels of two columns: what a user types, and what it does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from climdown.cli.parameters import OUTPUT

Record = tuple[str, str]  # what a user types, what it does

# Typer's words for types, and what stands for such a value here.
_VALUES = {
    **dict.fromkeys(["int", "int range"], "N"),
    **dict.fromkeys(["float", "float range"], "NUMBER"),
    **dict.fromkeys(["str", "list[str]"], "TEXT"),
    "path": "PATH",
}
_LAST: dict[str | None, int] = {OUTPUT: 1, None: 2}
_WIDEST = 120
# Columns for what a user types; what is longer stands on a line of its own.
_TYPED = 28
_NAMED = 11  # the like for commands


class Command(TyperCommand):
    """A command whose help is drawn here."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(_draw(self, ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What may follow the command, as in INPUT... OUTPUT."""
        return ["[OPTIONS]", *(_shown(p) for p in self.get_params(ctx) if _is_argument(p))]


class Commands(TyperGroup):
    """A group of commands whose help is drawn here."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(_draw(self, ctx))


def examples(*lines: str) -> str:
    """The epilog of a command: each a line that a user can type."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def _draw(command: Any, ctx: Any) -> str:
    console = Console(highlight=False)
    console.width = min(console.width, _WIDEST)
    with console.capture() as capture:
        for part in _parts(command, ctx):
            console.print(part)
    return capture.get()


def _parts(command: Any, ctx: Any) -> Iterator[RenderableType]:
    yield Padding(Text(command.get_usage(ctx), style="bold"), (1, 1))
    for paragraph in _paragraphs(command.help or ""):
        yield Padding(_styled(paragraph), (0, 1, 1, 1))
    for title, records in _panels(command, ctx).items():
        yield _panel(title, records, width=_TYPED)
    for title, records in _commands(command, ctx).items():
        yield _panel(title, records, width=_NAMED)
    for paragraph in _paragraphs(command.epilog or ""):
        yield Padding(_styled(paragraph), (1, 1, 0, 1))


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs whose lines may be filled anew; those that begin with \\b keep theirs."""
    for paragraph in filter(None, inspect.cleandoc(text).split("\n\n")):
        preformatted = paragraph.startswith("\b")
        yield paragraph.lstrip("\b\n") if preformatted else paragraph.replace("\n", " ")


def _panels(command: Any, ctx: Any) -> dict[str, list[Record]]:
    """Panels in the order in which they are met; an output last, as it is in the command."""
    panels: dict[str, list[Record]] = {}
    parameters = [p for p in command.get_params(ctx) if not getattr(p, "hidden", False)]
    for parameter in sorted(parameters, key=lambda p: _LAST.get(_panel_of(p), 0)):
        title = _panel_of(parameter) or "Options"
        panels.setdefault(title, []).append(_record(parameter, ctx))
    return panels


def _commands(command: Any, ctx: Any) -> dict[str, list[Record]]:
    """The commands of a group, by their panels, each with its first paragraph."""
    panels: dict[str, list[Record]] = {}
    for name in command.list_commands(ctx) if isinstance(command, TyperGroup) else ():
        below: Any = command.get_command(ctx, name)
        title = _panel_of(below) or "Commands"
        panels.setdefault(title, []).append((name, next(_paragraphs(below.help or ""), "")))
    return panels


def _record(parameter: Any, ctx: Any) -> Record:
    typed, help_text = parameter.get_help_record(ctx)
    # Typer puts brackets around a default that is in words.
    help_text = re.sub(r"\[default: \((.*)\)(?=[;\]])", r"[default: \1", help_text)
    help_text = help_text.replace("  [", " [")
    if _is_argument(parameter):
        return _shown(parameter), help_text
    return re.sub(r"<(.+)>$", lambda match: _VALUES.get(match[1], match[1]), typed), help_text


def _panel(title: str, records: Iterable[Record], *, width: int) -> Panel:
    rows: list[RenderableType] = []
    for typed, help_text in records:
        name = Text(typed, style="yellow")
        name.highlight_regex(r"(?<![\w-])--?[a-z][\w-]*|^[a-z][\w-]+", "bold cyan")
        if len(typed) > width:
            rows.append(name)
            name = Text()
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=width)
        row.add_row(name, _styled(help_text))
        rows.append(row)
    return Panel(Group(*rows), title=title, title_align="left", border_style="dim")


def _styled(text: str) -> Text:
    styled = Text(text)
    styled.highlight_regex(r"\[(default: .*|required)\]$", "dim")
    styled.highlight_regex(r"(?<![\w-])--[a-z][\w-]*", "cyan")
    return styled


def _panel_of(entry: Any) -> str | None:
    panel = getattr(entry, "rich_help_panel", None)
    return panel if isinstance(panel, str) else None  # a group without one has a placeholder


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _shown(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())
