"""When each place of a mosaic was observed: the sky drifts through the beam tile by tile."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsa110_contimg.mosaicking.combine import LEAST_RESPONSE
from dsa110_contimg.mosaicking.combined_tile import CombinedTile
from dsa110_contimg.sky import astrometry, primary_beam
from dsa110_contimg.telescope import DSA110


@dataclass(frozen=True, eq=False)
class Transits:
    """When the beam saw some places.

    Attributes
    ----------
    middle : ndarray, shape (nplace,)
        Mean time of the tiles that cover a place, each with the square of its response; Unix
        seconds.
    first, last : ndarray, shape (nplace,)
        Begin of the first of these tiles and end of the last one.
    """

    middle: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def during(cls, first: float, last: float, count: int) -> "Transits":
        """The same interval for every place."""
        return cls(*(np.full(count, moment) for moment in ((first + last) / 2, first, last)))


def transits(
    tiles: Sequence[CombinedTile],
    method: str,
    frequency_hz: float,
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
) -> Transits:
    """When a mosaic's tiles observed some places.

    A place below the minimum response of the method in every tile belongs to the nearest tile.

    Parameters
    ----------
    tiles : sequence of CombinedTile
        At least one.
    method : str
        How the tiles were combined.
    frequency_hz : float
    ra_deg, dec_deg : ndarray, shape (nplace,)
    """
    centres = astrometry.radec_to_vector(
        np.deg2rad([tile.ra_deg for tile in tiles]), np.deg2rad([tile.dec_deg for tile in tiles])
    )
    places = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
    cos_theta = np.clip(centres @ places.T, 0, 1)
    response = primary_beam.power_response(
        np.sqrt(1 - cos_theta**2), np.array(frequency_hz), DSA110.dish_diameter_m
    )
    covers = (response >= LEAST_RESPONSE[method]) | (cos_theta == cos_theta.max(axis=0))
    weight = np.where(covers, np.maximum(response, 1e-6) ** 2, 0.0)
    start = np.array([tile.start for tile in tiles])[:, None]
    end = start + np.array([tile.duration_s for tile in tiles])[:, None]
    return Transits(
        middle=np.sum(weight * (start + end) / 2, axis=0) / weight.sum(axis=0),
        first=np.where(covers, start, np.inf).min(axis=0),
        last=np.where(covers, end, -np.inf).max(axis=0),
    )
