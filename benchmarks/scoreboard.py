"""Scoreboard: every method on days that the bundled priors were not trained on.

    python benchmarks/scoreboard.py --data DIR [--parts a,b,c] [--days 12] [--members 4]

DIR holds the files that the priors' training configurations name and, for parts b and c, those
that `foreign` and `gcm` name; other years in the same layout may take their place. Part a: observed
fields averaged over blocks of cells, written as a CF file, and downscaled by the real pipeline.
Part b: a foreign analysis as input, truth known. Part c: a climate model, unpaired. The columns are
measures of `climdown evaluate`, which judges the files. Prints Markdown and stores all measures as
JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # called as a script: the other modules lie beside it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import foreign, gcm, paired
from benchmarks.ablation import CoarseLossMethod
from benchmarks.competitors import Competitor, parse_competitor
from climdown.methods.registry import register

Part = Callable[[argparse.Namespace, list[Competitor]], dict[str, Any]]
PARTS: dict[str, Part] = {"a": paired.run, "b": foreign.run, "c": gcm.run}


def main(words: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    options = arguments(words)
    register(CoarseLossMethod())
    logging.getLogger("climdown").setLevel(logging.ERROR)
    methods = [parse_competitor(word) for word in options.methods.split(",")]
    names = ("members", "days", "period", "methods")
    results: dict[str, Any] = {"options": {name: getattr(options, name) for name in names}}
    for part in options.parts.split(","):
        results[part] = PARTS[part](options, methods)
        if options.json:  # a long run keeps what it has
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=Path, default=Path("examples"))
    parser.add_argument("--parts", default="a,b,c", help="[default: a,b,c]")
    parser.add_argument("--only", help="cases of part a, by commas [default: all]")
    parser.add_argument(
        "--methods",
        default="bilinear,delta,zssd,cm,cm:steps=4",
        help="of `climdown run`, with options of theirs as NAME:OPTION=VALUE",
    )
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--period", help="of part a [default: validation]")
    parser.add_argument("--days", type=int, help="so many, evenly spread [default: all]")
    parser.add_argument("--supervised", type=Path, help="what benchmarks.supervised wrote")
    parser.add_argument("--json", type=Path, help="also store the numbers here")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
