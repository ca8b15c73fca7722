"""A prior on disk: a card that says what it needs, weights and fields in safetensors.

The folder holds `card.json`, `model.safetensors` (weights), `fields.safetensors` (masks,
statics, climatologies) and `README.md`. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from climdown.config import NetworkConfig, SamplingConfig
from climdown.errors import ConfigError, GridError, PriorError
from climdown.files import file_digest
from climdown.grid import Grid
from climdown.options import from_mapping
from climdown.priors.bounds import check_card, check_json, check_weights, max_bytes
from climdown.priors.build import build_denoiser, make_tiles, to_device
from climdown.priors.fields import (
    climatology_field,
    quantiles_field,
    read_fields,
    spectrum_field,
    stored,
)
from climdown.transforms import Chain

if TYPE_CHECKING:
    import torch

    from climdown.diffusion.denoiser import Denoiser

FORMAT = 1
CARD_FILE = "card.json"
MODEL_FILE = "model.safetensors"
FIELDS_FILE = "fields.safetensors"
README_FILE = "README.md"
_SHA256 = re.compile("[0-9a-f]{64}")


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
        months: the months the prior knows.
        step_days: the time step of the training data, in days.
        coarse_factor: cells of the fine grid per cell of the coarse grid, along each axis.
        statics: names of the conditioning fields, in channel order.
        sigma_min: the noise level at which a consistency function is the identity; 0 for diffusion.
        training: data, periods, licence and results, for people.
        files: SHA-256 of each other file.
        lag_correlation: lag-one autocorrelation, by variable, of what the coarse cells around it do
            not tell of a cell; empty where it is not known.
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
        version = entries.get("format")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise PriorError(f"the card's format is {version!r:.40}; expected a number from 1")
        if version > FORMAT:
            raise PriorError(
                f"the card has format {version!r:.20}; this climdown reads up to {FORMAT}: "
                "upgrade it"
            )
        try:
            check_json(entries)
            return _card(entries)
        except (ConfigError, GridError, OverflowError) as error:
            raise PriorError(f"the card is damaged: {_short(error)}") from None


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


@dataclass(frozen=True, eq=False)
class Prior:
    """A prior that has been read and verified.

    Attributes:
        folder: where it lies.
        digest: SHA-256 of the card, which holds the hashes of the other files: one hash of it all.
        fields: "mask" of shape (variables, ny, nx), and statics and climatologies of (ny, nx).
    """

    folder: Path
    card: Card
    digest: str
    fields: Mapping[str, npt.NDArray[np.float32]] = field(repr=False)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Where each variable has values, shape (variables, ny, nx)."""
        return self.fields["mask"] > 0.5

    def quantiles(self, variable: str) -> npt.NDArray[np.float32] | None:
        """Quantiles per coarse cell, shape (months + 1, nodes, ny, nx), or None without them.

        Entries follow the card's months, the last one is over all of them; in the variable's
        units, at the nodes of `bias.quantile.nodes`.
        """
        return self.fields.get(quantiles_field(variable))

    def climatology(self, variable: str) -> npt.NDArray[np.float32] | None:
        """Mean of each cell over the training days, shape (ny, nx), or None without it.

        In the variable's units, zero outside its mask.
        """
        return self.fields.get(climatology_field(variable))

    def spectrum(self, variable: str) -> npt.NDArray[np.float32] | None:
        """Power of the normalised training fields by wavenumber, shape (rings,), or None.

        As `evaluation.spectra.tapered_spectrum` has it, over the variable's valid cells.
        """
        return self.fields.get(spectrum_field(variable))

    @cached_property
    def transforms(self) -> dict[str, Chain]:
        """Physical units to normalised, by variable name.

        Raises:
            PriorError: a transform on the card is unknown, or its parameters are wrong.
        """
        climatologies = {k: np.asarray(v, np.float64) for k, v in self.fields.items()}
        try:
            return {
                v.name: Chain.from_list(v.transform, climatologies) for v in self.card.variables
            }
        except (ConfigError, OverflowError) as error:
            raise PriorError(f"prior {self.folder}: the card is damaged: {error}") from None

    def denoiser(self, device: str | torch.device = "cpu", *, tile: int | None = None) -> Denoiser:
        """The network with its weights, in evaluation mode, its parameters frozen.

        Args:
            tile: cells along each side of the tiles in which it is applied; None does as on the
                card.

        Raises:
            PriorError: the weights do not fit the network on the card.
            ConfigError: tiles too small for the network.
        """
        if tile is not None:
            make_tiles(self.card, tile)
        import torch
        from safetensors.torch import load_file

        try:
            check_weights(self.folder / MODEL_FILE, self.card)
            model = build_denoiser(self.card, self.fields, tile=tile)
            model.load_state_dict(load_file(self.folder / MODEL_FILE))
        except (ConfigError, RuntimeError, ValueError, SafetensorError) as error:
            # torch's first line names only the class; the second says what does not fit.
            line = " ".join(str(error).split())[:200]
            raise PriorError(f"prior {self.folder}: the weights do not load ({line})") from None
        model.eval().requires_grad_(False)
        return to_device(model, torch.device(device))


def read_card(folder: Path) -> Card:
    """The card of a prior, without looking at its other files.

    Raises:
        PriorError: there is none, or it is damaged.
    """
    path = folder / CARD_FILE
    try:
        # A pipe or a device would block, or never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise PriorError(f"{path} is no regular file")
        with path.open("rb") as stream:
            content = stream.read(max_bytes(CARD_FILE) + 1)
        if len(content) > max_bytes(CARD_FILE):
            raise PriorError(f"{path} is larger than {max_bytes(CARD_FILE)} bytes; that is no card")
        text = content.decode("utf-8")
    except OSError as error:
        raise PriorError(f"{folder} is not a prior: {CARD_FILE}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PriorError(f"prior {folder}: the card is not text") from None
    try:
        return Card.from_json(text)
    except PriorError as error:
        raise PriorError(f"prior {folder}: {error}") from None


def read_prior(folder: Path) -> Prior:
    """Read a prior and verify every hash and shape.

    Raises:
        PriorError: a file is missing, has another hash than the card says, or lacks a field.
    """
    card = read_card(folder)
    for name, expected in card.files.items():
        path = folder / name
        if not path.is_file():
            raise PriorError(f"prior {folder}: the file {name} is missing; fetch the prior again")
        if (size := path.stat().st_size) > max_bytes(name):
            raise PriorError(f"prior {folder}: {name} has {size} bytes; at most {max_bytes(name)}")
        if (found := file_digest(path)) != expected:
            raise PriorError(
                f"prior {folder}: {name} has SHA-256 {found[:12]}..., the card says "
                f"{expected[:12]}...; the file is damaged, fetch the prior again"
            )
    fields = read_fields(folder / FIELDS_FILE, card)
    return Prior(folder, card, file_digest(folder / CARD_FILE), fields)


def write_prior(
    folder: Path,
    card: Card,
    weights: Mapping[str, torch.Tensor],
    fields: Mapping[str, npt.NDArray[np.floating]],
    readme: str,
) -> Prior:
    """Write a prior's files; the card, written last, gets their hashes."""
    from dataclasses import replace

    from safetensors.numpy import save_file as save_fields
    from safetensors.torch import save_file as save_weights

    folder.mkdir(parents=True, exist_ok=True)
    save_weights({k: v.contiguous() for k, v in weights.items()}, folder / MODEL_FILE)
    save_fields({k: stored(v) for k, v in fields.items()}, folder / FIELDS_FILE)
    (folder / README_FILE).write_text(readme, encoding="utf-8")
    hashes = {name: file_digest(folder / name) for name in (MODEL_FILE, FIELDS_FILE)}
    (folder / CARD_FILE).write_text(replace(card, files=hashes).to_json(), encoding="utf-8")
    return read_prior(folder)
