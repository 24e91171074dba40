"""Match positions of two lists on the sphere."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.sky import astrometry


@dataclass(frozen=True, eq=False)
class Matches:
    """Nearest partner of each source.

    Attributes
    ----------
    index : ndarray of int, shape (nsource,)
        Into the second list; -1 without a partner within the radius.
    separation_arcsec : ndarray, shape (nsource,)
        Infinite without one.
    """

    index: np.ndarray
    separation_arcsec: np.ndarray


def nearest(
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    other_ra_deg: np.ndarray,
    other_dec_deg: np.ndarray,
    radius_arcsec: float | np.ndarray,
) -> Matches:
    """Nearest neighbour, in the second list, of each source of the first.

    Parameters
    ----------
    ra_deg, dec_deg, other_ra_deg, other_dec_deg : ndarray
    radius_arcsec : float or ndarray, shape (nsource,)
        Farthest partner, of each source.
    """
    n = len(ra_deg)
    if n == 0 or len(other_ra_deg) == 0:
        return Matches(np.full(n, -1), np.full(n, np.inf))
    chord, index = KDTree(_vectors(other_ra_deg, other_dec_deg)).query(_vectors(ra_deg, dec_deg))
    separation = 2 * np.arcsin(np.minimum(chord / 2, 1)) / ARCSEC_RAD
    close = separation <= radius_arcsec
    return Matches(np.where(close, index, -1), np.where(close, separation, np.inf))


def count_within(
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    other_ra_deg: np.ndarray,
    other_dec_deg: np.ndarray,
    radius_arcsec: float | np.ndarray,
) -> np.ndarray:
    """Sources of the second list within a radius of each of the first."""
    if len(ra_deg) == 0 or len(other_ra_deg) == 0:
        return np.zeros(len(ra_deg), int)
    chord = 2 * np.sin(np.asarray(radius_arcsec) * ARCSEC_RAD / 2)
    tree = KDTree(_vectors(other_ra_deg, other_dec_deg))
    return np.asarray(
        tree.query_ball_point(_vectors(ra_deg, dec_deg), chord, return_length=True), int
    )


def _vectors(ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
    return astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
