"""The record of a tile that a mosaic is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CombinedTile:
    """One tile of a mosaic.

    Attributes
    ----------
    start, duration_s : float
        Unix seconds, seconds.
    ra_deg, dec_deg : float
        Centre.
    """

    start: float
    duration_s: float
    ra_deg: float
    dec_deg: float
