"""Small pictures, one dot a cell, in the fewest bytes: PNG with a palette."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from climdown.arrays import Floats
from climdown.plots.atlas import COLOURS, Scale

_MOST_CELLS = 160  # along a side; of larger grids only every n-th is shown
_NOTHING = 255  # the entry of the palette that is transparent


def thumbnail(values: Floats, limits: tuple[float, float], scale: Scale) -> bytes:
    """A field as PNG, north up, transparent where there is no value.

    Args:
        values: shape (ny, nx), rows from south to north.
        limits: values of the first and the last colour; what lies beyond has the same ones.
    """
    step = -(-max(values.shape) // _MOST_CELLS)
    shown = values[::-step, ::step]
    low, high = limits
    share = np.clip((shown - low) / (high - low), 0.0, 1.0)
    known = np.isfinite(shown)
    dots = np.where(known, np.nan_to_num(share) * (_NOTHING - 1), _NOTHING).astype(np.uint8)
    return _png(dots, _palette(scale))


def colour_bar(scale: Scale) -> bytes:
    """All colours of a scale from left to right, as PNG."""
    return _png(np.arange(_NOTHING, dtype=np.uint8)[None], _palette(scale))


def _palette(scale: Scale) -> bytes:
    import matplotlib as mpl

    shares = np.linspace(0.0, 1.0, _NOTHING)
    colours = np.round(255 * mpl.colormaps[COLOURS[scale]](shares)[:, :3]).astype(np.uint8)
    return colours.tobytes() + bytes(3)


def _png(dots: np.typing.NDArray[np.uint8], palette: bytes) -> bytes:
    """An image of numbers of a palette (ISO/IEC 15948), the last of them transparent."""
    height, width = dots.shape
    # Each row begins with the number of its filter: none.
    rows = np.pad(dots, ((0, 0), (1, 0))).tobytes()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette),
        (b"tRNS", bytes([255]) * _NOTHING + bytes([0])),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
