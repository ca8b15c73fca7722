"""Tables of the guide that are made from declarations in the code.

    python docs/generate.py

writes them anew into docs/guide.md, between the HTML comments that mark them.
"""

from __future__ import annotations

import re
from pathlib import Path

from climdown.evaluation import rules
from climdown.methods.method import Method
from climdown.methods.registry import listed, methods
from climdown.options import options_of

GUIDE = Path(__file__).parent / "guide.md"
METHODS = "methods"
RULES = "rules"
_RESOLVERS = {"doi": "https://doi.org/", "arXiv": "https://arxiv.org/abs/"}
_TITLES = ("`--method`", "what it does", "prior", "members", "bias", "options", "source")


def methods_table() -> str:
    """The downscaling methods and what they declare, as a Markdown table."""
    rows = [_TITLES, ("---",) * len(_TITLES), *map(_row, methods())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def rules_table() -> str:
    """The rules of the verdict of `climdown evaluate`, as a Markdown table."""
    titles = ("what it is about", "score", "distance", "green within", "red beyond")
    body = [
        (f"whether {rule.aspect}", f"`{rule.measure}`", *_distances(rule)) for rule in rules.RULES
    ]
    rows = [titles, ("---",) * len(titles), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _distances(rule: rules.Rule) -> tuple[str, str, str]:
    return rules.WORDS[rule.compared], f"{rule.good:g}", f"{rule.fair:g}"


def generated(text: str, name: str) -> str:
    """What stands between the marks of a generated part of a document.

    Raises:
        ValueError: the marks are not there, or more than once.
    """
    return _marked(text, name)[2].strip("\n")


def with_generated(text: str, name: str, part: str) -> str:
    """A document with another part between the marks of a name.

    Raises:
        ValueError: as `generated`.
    """
    match = _marked(text, name)
    return f"{text[: match.start(2)]}\n{part}\n\n{text[match.end(2) :]}"


def main() -> None:
    """Write the generated parts of the guide anew."""
    text = GUIDE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        text = with_generated(text, name, table())
    GUIDE.write_text(text, encoding="utf-8")


TABLES = {METHODS: methods_table, RULES: rules_table}
"""What makes each generated part."""


def _marked(text: str, name: str) -> re.Match[str]:
    pattern = rf"(<!-- generated: {name} -->\n)(.*?)(<!-- end of {name} -->)"
    found = list(re.finditer(pattern, text, re.DOTALL))
    if len(found) != 1:
        raise ValueError(f"found {len(found)} parts marked '{name}'; expected one")
    return found[0]


def _row(method: Method) -> tuple[str, ...]:
    options = [f"`{option.flag}`" for option in options_of(method.Options)]
    return (
        f"`{method.name}`",
        method.summary,
        listed(method.prior_kinds, "or"),
        str(method.members),
        _bias(method.bias),
        ", ".join(options) or "none",
        _link(method.source),
    )


def _bias(adjustments: tuple[str, ...] | None) -> str:
    """The adjustments that fit, the default first."""
    if adjustments is None:
        return "none, or any"
    return listed([name if name == "none" else f"`{name}`" for name in adjustments], "or")


def _link(source: str) -> str:
    """A source as a link to where it can be read."""
    kind, _, number = source.partition(":")
    return f"[{source}]({_RESOLVERS[kind]}{number})"


if __name__ == "__main__":
    main()
