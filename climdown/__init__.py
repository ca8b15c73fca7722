"""climdown: CMIP fields to fine, CF-compliant ensembles by generative priors.

The public names load on first use, so that `import climdown` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from climdown.version import __version__

if TYPE_CHECKING:
    from climdown.cf import Quantity, open_field
    from climdown.config import RunConfig
    from climdown.grid import Grid
    from climdown.pipeline import downscale
    from climdown.priors.store import load_prior

__all__ = ["Grid", "Quantity", "RunConfig", "__version__", "downscale", "load_prior", "open_field"]

_HOMES = {
    "Grid": "climdown.grid",
    "Quantity": "climdown.cf",
    "RunConfig": "climdown.config",
    "downscale": "climdown.pipeline",
    "load_prior": "climdown.priors.store",
    "open_field": "climdown.cf",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'climdown' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
