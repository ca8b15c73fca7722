"""Tensors of a prior, `fields.safetensors`: their names, and which a card needs or can use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from climdown.arrays import Float32, Floats
from climdown.errors import ConfigError, PriorError
from climdown.options import require
from climdown.priors import gaussian
from climdown.priors.bounds import check_tensor
from climdown.priors.card import Card


def quantiles_field(variable: str) -> str:
    """The name under which a variable's quantiles are stored."""
    return f"quantiles_{variable}"


def climatology_field(variable: str) -> str:
    """The name under which a variable's mean of each fine cell is stored."""
    return f"climatology_{variable}"


def spectrum_field(variable: str) -> str:
    """The name under which the spectrum of a variable's normalised training fields is stored."""
    return f"spectrum_{variable}"


def read_fields(path: Path, card: Card) -> dict[str, Float32]:
    """The fields that a card needs, and those that some methods can use besides.

    Raises:
        PriorError: one is missing, or has another shape than the card says.
    """
    try:
        fields = _load(path, _needed(card), _optional(card))
    except (ConfigError, SafetensorError) as error:
        raise PriorError(f"prior {path.parent}: {path.name} does not load ({error})") from None
    try:
        _check(card, fields)
    except ConfigError as error:
        raise PriorError(f"prior {path.parent}: {error}") from None
    return fields


def _climatologies(card: Card) -> list[str]:
    """Fields that the card's transforms name."""
    return [str(step["field"]) for v in card.variables for step in v.transform if "field" in step]


def _needed(card: Card) -> list[str]:
    parts = [name for v in card.variables for name in gaussian.field_names(v.name)]
    linear = parts if card.network.patterns else []
    return ["mask", *card.statics, *_climatologies(card), *linear]


def _optional(card: Card) -> set[str]:
    # A logarithm names no climatology, but baselines use it where there is one.
    kinds = (climatology_field, quantiles_field, spectrum_field)
    return {field(v.name) for field in kinds for v in card.variables}


def _load(path: Path, needed: Iterable[str], optional: set[str]) -> dict[str, Float32]:
    fields: dict[str, Float32] = {}
    with safe_open(path, framework="np") as file:
        available = set(file.keys())
        for name in dict.fromkeys((*needed, *sorted(available & optional))):
            if name not in available:
                raise PriorError(f"prior {path.parent}: {path.name} lacks the field '{name}'")
            check_tensor(file, name)
            fields[name] = file.get_tensor(name)
    return fields


def _check(card: Card, fields: Mapping[str, Float32]) -> None:
    names = [v.name for v in card.variables]
    maps = {"mask", *card.statics, *_climatologies(card), *map(climatology_field, names)}
    quantiles, spectra = set(map(quantiles_field, names)), set(map(spectrum_field, names))
    for name, values in fields.items():
        _check_numbers(name, values, missing=name in quantiles)
        if name in maps:
            _check_map(card, name, values)
        elif name in quantiles:
            _check_quantiles(card, name, values)
        elif name in spectra:
            _check_spectrum(name, values)
    if card.network.patterns:
        gaussian.check_fields(card, fields)


def stored(values: Floats) -> Floats:
    """Single precision, but for what is in half precision already."""
    kind = np.float16 if values.dtype == np.float16 else np.float32
    return np.ascontiguousarray(values, dtype=kind)


def _check_numbers(name: str, values: Float32, *, missing: bool) -> None:
    """Quantiles have missing values, where nothing was observed; nothing else has any."""
    bad = int((np.isinf(values) if missing else ~np.isfinite(values)).sum())
    require(not bad, f"field '{name}' holds {bad} numbers that are not finite")


def _check_map(card: Card, name: str, values: Float32) -> None:
    expected = (*((len(card.variables),) if name == "mask" else ()), *card.grid.shape)
    if values.shape != expected:
        raise ConfigError(f"field '{name}' has shape {values.shape}; expected {expected}")


def _check_quantiles(card: Card, name: str, values: Float32) -> None:
    expected = (len(card.months) + 1, *card.coarse_grid.shape)
    sizes = (values.shape[0], *values.shape[2:])
    if values.ndim != 4 or values.shape[1] < 2 or sizes != expected:
        raise ConfigError(
            f"field '{name}' has shape {values.shape}; expected "
            f"({expected[0]}, quantiles, {expected[1]}, {expected[2]})"
        )


def _check_spectrum(name: str, values: Float32) -> None:
    require(
        values.ndim == 1,
        f"field '{name}' has shape {values.shape}; expected one number for each wavenumber",
    )
