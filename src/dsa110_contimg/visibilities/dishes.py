"""Dishes of telescopes whose files do not always state them."""

from collections.abc import Mapping

DISH_DIAMETERS_M: Mapping[str, float] = {
    "VLA": 25.0,
    "EVLA": 25.0,
    "GMRT": 45.0,
    "MeerKAT": 13.5,
    "ATCA": 22.0,
    "WSRT": 25.0,
    "ASKAP": 12.0,
}
"""Diameters by the name in the files (the observatories' own pages)."""
