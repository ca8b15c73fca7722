"""A prior on disk: a card that says what it needs, weights and fields in safetensors.

The folder holds `card.json`, `model.safetensors` (weights), `fields.safetensors` (masks,
statics, climatologies) and `README.md`. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError

from climdown.arrays import Float32, Floats, Mask
from climdown.errors import ConfigError, PriorError
from climdown.files import file_digest, place_text, placed
from climdown.options import require
from climdown.priors.bounds import max_bytes
from climdown.priors.build import build_denoiser, check_weights, make_tiles, to_device
from climdown.priors.card import (
    CARD_FILE,
    FIELDS_FILE,
    MODEL_FILE,
    README_FILE,
    Card,
    read_card,
)
from climdown.priors.tensors import (
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


@dataclass(frozen=True, eq=False)
class Prior:
    """A prior that has been read and verified.

    Attributes:
        folder: of its files.
        digest: SHA-256 of the card, which holds the hashes of the other files: one hash of it all.
        fields: "mask" of shape (variables, ny, nx), and statics and climatologies of (ny, nx).
    """

    folder: Path
    card: Card
    digest: str
    fields: Mapping[str, Float32] = field(repr=False)

    @property
    def mask(self) -> Mask:
        """Where each variable has values, shape (variables, ny, nx)."""
        return self.fields["mask"] > 0.5

    def quantiles(self, variable: str) -> Float32 | None:
        """Quantiles per coarse cell, shape (months + 1, nodes, ny, nx), or None without them.

        Entries follow the card's months, the last one is over all of them; in the variable's
        units, at the nodes of `bias.quantile.nodes`.
        """
        return self.fields.get(quantiles_field(variable))

    def climatology(self, variable: str) -> Float32 | None:
        """Mean of each cell over the training days, shape (ny, nx), or None without it.

        In the variable's units, zero outside its mask.
        """
        return self.fields.get(climatology_field(variable))

    def spectrum(self, variable: str) -> Float32 | None:
        """Power of the normalised training fields by wavenumber, shape (rings,), or None.

        As `metrics.spectra.tapered_spectrum` has it, over the variable's valid cells.
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
            weights = load_file(self.folder / MODEL_FILE)
            for name, values in weights.items():
                require(bool(torch.isfinite(values).all()), f"'{name}' holds no finite numbers")
            model.load_state_dict(weights)
        except (ConfigError, RuntimeError, ValueError, SafetensorError) as error:
            # torch's first line names only the class; the second says what does not fit.
            line = " ".join(str(error).split())[:200]
            raise PriorError(f"prior {self.folder}: the weights do not load ({line})") from None
        model.eval().requires_grad_(False)
        return to_device(model, torch.device(device))


def read_prior(folder: Path) -> Prior:
    """Read a prior and verify every hash and shape.

    Raises:
        PriorError: a file is missing, has another hash than the card says, or lacks a field.
    """
    card = read_card(folder)
    for name, digest in card.files.items():
        _verify(folder, name, digest)
    fields = read_fields(folder / FIELDS_FILE, card)
    return Prior(folder, card, file_digest(folder / CARD_FILE), fields)


def _verify(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if not path.is_file():
        raise PriorError(f"prior {folder}: the file {name} is missing; fetch the prior again")
    if (size := path.stat().st_size) > max_bytes(name):
        raise PriorError(f"prior {folder}: {name} has {size} bytes; at most {max_bytes(name)}")
    if (digest := file_digest(path)) != expected:
        raise PriorError(
            f"prior {folder}: {name} has SHA-256 {digest[:12]}..., the card says "
            f"{expected[:12]}...; the file is damaged, fetch the prior again"
        )


def write_prior(
    folder: Path,
    card: Card,
    weights: Mapping[str, torch.Tensor],
    fields: Mapping[str, Floats],
    readme: str,
) -> Prior:
    """Write a prior's files; the card, placed last, gets their hashes.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    from safetensors.numpy import save_file as save_fields
    from safetensors.torch import save_file as save_weights

    folder.mkdir(parents=True, exist_ok=True)
    with _readable(folder / MODEL_FILE) as path:
        save_weights({k: v.contiguous() for k, v in weights.items()}, path)
    with _readable(folder / FIELDS_FILE) as path:
        save_fields({k: stored(v) for k, v in fields.items()}, path)
    place_text(folder / README_FILE, readme)
    hashes = {name: file_digest(folder / name) for name in (MODEL_FILE, FIELDS_FILE)}
    place_text(folder / CARD_FILE, replace(card, files=hashes).to_json())
    return read_prior(folder)


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """As `placed`, for safetensors, whose files only their owner may read: these obey the umask."""
    with placed(path) as temporary:
        # The mode of a new file: asking for the umask itself would change it for other threads.
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)
