"""The card of a prior, `card.json`: what it is, what it needs, and the hashes of its other files.

Every entry is checked before anything is built from it: a card may come from anywhere.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from climdown.config import NetworkConfig, SamplingConfig
from climdown.errors import ConfigError, GridError, PriorError
from climdown.grid import Grid
from climdown.options import from_mapping
from climdown.priors import bounds
from climdown.priors.bounds import check_json, max_bytes, require, within

FORMAT = 1
CARD_FILE = "card.json"
MODEL_FILE = "model.safetensors"
FIELDS_FILE = "fields.safetensors"
README_FILE = "README.md"
_SHA256 = re.compile("[0-9a-f]{64}")
_MAX_NAME = 100


@dataclass(frozen=True)
class Variable:
    """A variable of a prior: how to recognise it, its units, transform, bounds and level (Pa)."""

    name: str
    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    long_name: str
    units: str
    cell_methods: str
    transform: tuple[dict[str, Any], ...]
    minimum: float | None = None
    trace: float | None = None
    level: float | None = None


@dataclass(frozen=True)
class Card:
    """What `card.json` says.

    Attributes:
        months: the months it was trained on.
        step_days: the time step of the training data, in days.
        coarse_factor: cells of the fine grid per cell of the coarse grid, along each axis.
        statics: names of the conditioning fields, in channel order.
        sigma_min: the noise level at which a consistency function is the identity; 0 for diffusion.
        training: data, periods, licence and results, for people.
        files: SHA-256 of each other file.
        lag_correlation: lag-one autocorrelation, by variable, of what a linear regression on the
            coarse cells around leaves of a cell; empty where it was not computed.
    """

    name: str
    title: str
    kind: Literal["diffusion", "consistency"]
    variables: tuple[Variable, ...]
    months: tuple[int, ...]
    step_days: float
    coarse_factor: int
    statics: tuple[str, ...]
    sigma_data: float
    grid: Grid
    network: NetworkConfig
    sampling: SamplingConfig
    licence: str
    training: dict[str, Any]
    files: dict[str, str]
    sigma_min: float = 0.0
    lag_correlation: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def coarse_grid(self) -> Grid:
        """The grid of `coarse_factor` times coarser cells, odd last ones dropped."""
        return self.grid.coarsen(self.coarse_factor)

    def to_json(self) -> str:
        """The text of `card.json`."""
        entries = {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "variables": [asdict(variable) for variable in self.variables],
            "grid": self.grid.to_dict(),
            "network": asdict(self.network),
            "sampling": asdict(self.sampling),
        }
        return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card.

        Raises:
            PriorError: not JSON, a newer format, or an entry missing, unknown or of a wrong type.
        """
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError):
            raise PriorError("the card is not valid JSON") from None
        if not isinstance(entries, dict):
            raise PriorError("the card is not a JSON object")
        _check_format(entries.get("format"))
        try:
            check_json(entries)
            return _card(entries)
        except (ConfigError, GridError, OverflowError) as error:
            raise PriorError(f"the card is damaged: {_short(error)}") from None


def _check_format(version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PriorError(f"the card's format is {version!r:.40}; expected a number from 1")
    if version > FORMAT:
        raise PriorError(
            f"the card has format {version!r:.20}; this climdown reads up to {FORMAT}: upgrade it"
        )


def _card(entries: dict[str, Any]) -> Card:
    if not isinstance(entries.get("grid"), dict):
        raise ConfigError("entry 'grid' is missing or not an object")
    card = from_mapping(Card, {**entries, "grid": Grid.from_dict(entries["grid"])})
    if not card.variables:
        raise ConfigError("entry 'variables' is empty")
    if set(card.files) != {MODEL_FILE, FIELDS_FILE}:
        raise ConfigError(f"entry 'files' must name {MODEL_FILE} and {FIELDS_FILE}")
    for name, digest in card.files.items():
        if not _SHA256.fullmatch(digest):
            raise ConfigError(f"entry 'files': {name} has {digest!r:.80}; expected a SHA-256")
    check_card(card)
    return card


def _short(error: Exception) -> str:
    """One line that quotes no more than a few words of what a card holds."""
    line = " ".join(str(error).split())
    return line if len(line) <= 300 else f"{line[:300]}..."


def read_card(folder: Path) -> Card:
    """The card of a prior, without looking at its other files.

    Raises:
        PriorError: there is none, or it is damaged.
    """
    try:
        text = _read_bounded(folder / CARD_FILE).decode("utf-8")
    except OSError as error:
        raise PriorError(f"{folder} is not a prior: {CARD_FILE}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PriorError(f"prior {folder}: the card is not text") from None
    try:
        return Card.from_json(text)
    except PriorError as error:
        raise PriorError(f"prior {folder}: {error}") from None


def _read_bounded(path: Path) -> bytes:
    """A file's content, never more of it than a card may have."""
    # A pipe or a device would block, or never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise PriorError(f"{path} is no regular file")
    with path.open("rb") as stream:
        content = stream.read(max_bytes(CARD_FILE) + 1)
    if len(content) > max_bytes(CARD_FILE):
        raise PriorError(f"{path} is larger than {max_bytes(CARD_FILE)} bytes; that is no card")
    return content


def check_card(card: Card) -> None:
    """Refuse a card with numbers that are not finite, out of bounds or without meaning.

    Raises:
        ConfigError: names the entry, what was found and what was expected.
        GridError: the grid cannot be coarsened by the card's factor.
    """
    _check_name("name", card.name)
    within("the number of variables", len(card.variables), 1, bounds.MAX_VARIABLES)
    within("the number of statics", len(card.statics), 0, bounds.MAX_VARIABLES)
    names = [variable.name for variable in card.variables]
    require(len(set(names)) == len(names), f"variables {names} are not all different")
    for i, variable in enumerate(card.variables):
        _check_variable(f"variables[{i}]", variable)
    _check_months(card.months)
    _check_scales(card)
    _check_lags(card.lag_correlation, names)
    _check_finite("sampling.", asdict(card.sampling))
    within("sampling.steps", card.sampling.steps, 1, bounds.MAX_STEPS)
    _check_network(card.network)
    ny, nx = card.grid.shape
    within("the number of cells of the grid", ny * nx, 1, bounds.MAX_CELLS)
    _ = card.coarse_grid  # raises where the factor does not fit


def _check_variable(where: str, variable: Variable) -> None:
    _check_name(f"{where}.name", variable.name)
    require(len(variable.standard_names) > 0, f"{where}.standard_names is empty")
    _check_finite(f"{where}.", asdict(variable))
    _check_transform(f"{where}.transform", variable.transform)


def _check_months(months: tuple[int, ...]) -> None:
    require(
        len(months) == len(set(months)) and set(months) <= set(range(1, 13)) and len(months) > 0,
        f"months is {list(months)[:20]}; expected different numbers from 1 to 12",
    )


def _check_scales(card: Card) -> None:
    """The time step and the scales of data and noise."""
    for name in ("step_days", "sigma_data"):
        value = getattr(card, name)
        require(0 < value < 1e6, f"{name} is {value}; expected a number > 0, within reason")
    require(
        0 <= card.sigma_min < 1e6 and (card.sigma_min > 0) == (card.kind == "consistency"),
        f"sigma_min is {card.sigma_min}; expected a number > 0 for consistency, 0 for diffusion",
    )


def _check_name(where: str, name: str) -> None:
    """Names become parts of messages, of variable and of file names."""
    good = 0 < len(name) <= _MAX_NAME and not name.startswith(".") and name == name.strip()
    require(
        good and not any(c in name for c in "/\\\n\t"),
        f"{where} is {name[:_MAX_NAME]!r}; expected 1 to {_MAX_NAME} characters without slashes",
    )


def _check_transform(where: str, steps: tuple[dict[str, Any], ...]) -> None:
    within(f"the length of {where}", len(steps), 0, bounds.MAX_TRANSFORMS)
    for step in steps:
        for key, value in step.items():
            if key in ("kind", "field"):
                require(isinstance(value, str), f"{where}: '{key}' is not a text")
            else:
                number = isinstance(value, int | float) and not isinstance(value, bool)
                require(number and math.isfinite(value), f"{where}: '{key}' is no finite number")


def _check_lags(lags: Mapping[str, float], names: list[str]) -> None:
    for name, value in lags.items():
        require(name in names, f"lag_correlation names {name[:40]!r}; expected of {names}")
        require(-1 <= value <= 1, f"lag_correlation.{name} is {value}; expected -1 to 1")


def _check_network(network: NetworkConfig) -> None:
    within("the number of network.channels", len(network.channels), 1, bounds.MAX_LEVELS)
    within("network.channels", max(network.channels), 1, bounds.MAX_WIDTH)
    within("network.embedding", network.embedding, 1, bounds.MAX_WIDTH)
    within("network.heads", network.heads, 1, bounds.MAX_WIDTH)
    within("network.blocks", network.blocks, 1, bounds.MAX_BLOCKS)
    within("network.attention", network.attention, 0, bounds.MAX_LEVELS)
    within("network.patterns", network.patterns, 0, bounds.MAX_PATTERNS)


def _check_finite(where: str, entries: Mapping[str, Any]) -> None:
    for name, value in entries.items():
        if isinstance(value, float):
            require(math.isfinite(value), f"{where}{name} is {value}; expected a finite number")
