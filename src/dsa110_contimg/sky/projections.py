"""Planes that pictures of the sky lie on (Calabretta and Greisen 2002, A&A 395, 1077).

- SIN: direction cosines l and m; what an interferometer sees.
- TAN: the tangent plane; for mosaics within some twenty degrees.
- CEA: cylindrical equal-area, true to shape along the declination of its reference position; for
  long strips. Its meridians are straight and it goes round the whole sky.

A plane has two coordinates in radians, xi to the east and eta to the north, zero at the reference
position and true to scale there.
"""

import numba
import numpy as np

from dsa110_contimg.sky import astrometry

PROJECTIONS = ("SIN", "TAN", "CEA")
SIN, TAN, CEA = range(3)
FAST = {"arcp", "contract", "nsz", "reassoc"}
"""Freedoms for the compiler that leave NaN what it is."""


def frame(projection: str, centre_rad: tuple[float, float]) -> np.ndarray:
    """Axes that `direction` and `position` refer to, as rows, shape (3, 3).

    East, north and the reference position itself; for CEA those of the equator below it.
    """
    ra, dec = centre_rad
    return astrometry.tangent_axes(ra, 0.0 if projection == "CEA" else dec)


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def direction(
    projection: int, sin_dec: float, cos_dec: float, xi: float, eta: float
) -> tuple[float, float, float]:
    """Unit vector in the frame of a plane's point; NaN off the sphere.

    Parameters
    ----------
    projection : int
        Index into `PROJECTIONS`.
    sin_dec, cos_dec : float
        Of the reference position's declination.
    xi, eta : float
        Radians.
    """
    if projection == CEA:
        longitude, z = xi / cos_dec, sin_dec + eta * cos_dec
        across = np.sqrt(1 - z * z)
        return across * np.sin(longitude), z, across * np.cos(longitude)
    if projection == TAN:
        norm = 1 / np.sqrt(1 + xi * xi + eta * eta)
        return xi * norm, eta * norm, norm
    return xi, eta, np.sqrt(1 - xi * xi - eta * eta)


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def position(
    projection: int, sin_dec: float, cos_dec: float, east: float, north: float, towards: float
) -> tuple[float, float]:
    """The plane's point (xi, eta), radians, of a unit vector in its frame; NaN if it has none."""
    if projection == CEA:
        return np.arctan2(east, towards) * cos_dec, (north - sin_dec) / cos_dec
    if towards <= 0:
        return np.nan, np.nan
    if projection == TAN:
        return east / towards, north / towards
    return east, north


@numba.njit(cache=True)
def _each_direction(projection: int, dec: float, plane: np.ndarray) -> np.ndarray:
    out = np.empty((len(plane), 3))
    for i in range(len(plane)):
        out[i] = direction(projection, np.sin(dec), np.cos(dec), plane[i, 0], plane[i, 1])
    return out


@numba.njit(cache=True)
def _each_position(projection: int, dec: float, vectors: np.ndarray) -> np.ndarray:
    out = np.empty((len(vectors), 2))
    for i in range(len(vectors)):
        east, north, towards = vectors[i]
        out[i] = position(projection, np.sin(dec), np.cos(dec), east, north, towards)
    return out


def to_sky(projection: str, centre_rad: tuple[float, float], plane: np.ndarray) -> np.ndarray:
    """ICRS unit vectors, shape (n, 3), of points of a plane, shape (n, 2)."""
    code = PROJECTIONS.index(projection)
    return _each_direction(code, centre_rad[1], plane) @ frame(projection, centre_rad)


def to_plane(projection: str, centre_rad: tuple[float, float], vectors: np.ndarray) -> np.ndarray:
    """Points of a plane, shape (n, 2), of ICRS unit vectors, shape (n, 3)."""
    code = PROJECTIONS.index(projection)
    local = np.ascontiguousarray(vectors @ frame(projection, centre_rad).T)
    return _each_position(code, centre_rad[1], local)
