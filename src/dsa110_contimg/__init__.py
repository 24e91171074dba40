"""Continuum imaging pipeline for the DSA-110 radio telescope.

`Archive` reads what a root holds; `Client` talks to a server's REST interface; the stages of the
pipeline are in `dsa110_contimg.stages`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsa110_contimg.archive import Archive
    from dsa110_contimg.client import Client

__version__ = "0.1.0"
__all__ = ["Archive", "Client", "__version__"]


def __getattr__(name: str) -> object:
    # Imported when first used: the libraries under them take a second.
    modules = {"Archive": "archive", "Client": "client"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{modules[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
