"""Match positions of two lists on the sphere."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

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
    ra_deg: np.ndarray, dec_deg: np.ndarray, other_ra_deg: np.ndarray, other_dec_deg: np.ndarray,
    radius_arcsec: float,
) -> Matches:  # fmt: skip
    """Nearest neighbour within a radius, in the second list, of each source of the first."""
    n = len(ra_deg)
    if n == 0 or len(other_ra_deg) == 0:
        return Matches(np.full(n, -1), np.full(n, np.inf))
    here = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
    there = astrometry.radec_to_vector(np.deg2rad(other_ra_deg), np.deg2rad(other_dec_deg))
    chord, index = KDTree(there).query(here)
    separation = 2 * np.arcsin(np.minimum(chord / 2, 1)) / astrometry.ARCSEC_RAD
    close = separation <= radius_arcsec
    return Matches(np.where(close, index, -1), np.where(close, separation, np.inf))
