"""Cards that say when, where and over which band an image was observed.

Names and meanings are those of the FITS standard 4.0 (sections 8 and 9), with the spellings that
survey pipelines look for beside them.
"""

from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg import __version__
from dsa110_contimg.sky.astrometry import Site

if TYPE_CHECKING:
    from astropy.time import Time

BANDWIDTH_CARD = "RESTBW"
EXPECTED_RMS_CARD = "EXPRMS"
_ELLIPSOID = 6378140.0, 1 / 298.2577
"""Radius (m) and flattening of the standard's geodetic coordinates (section 8.4.1)."""


def origin(telescope: str) -> dict[str, object]:
    """The telescope and the program.

    Parameters
    ----------
    telescope : str
        Name that astronomers look for.
    """
    return {"TELESCOP": telescope, "ORIGIN": f"dsa110-contimg {__version__}"}


def times(begin: "Time", end: "Time") -> dict[str, object]:
    """Begin of the first integration, end of the last, and the middle between them, UTC."""
    middle = begin + 0.5 * (end - begin)
    length_s = round(float((end - begin).sec), 3)
    return {
        "TIMESYS": "UTC",
        "DATE-OBS": (begin.isot, "begin of the first integration"),
        "DATE-BEG": begin.isot,
        "DATE-AVG": (middle.isot, "middle of the observation"),
        "DATE-END": (end.isot, "end of the last integration"),
        "MJD-OBS": float(begin.mjd),
        "MJD-BEG": float(begin.mjd),
        "MJD-AVG": float(middle.mjd),
        "MJD-END": float(end.mjd),
        "TELAPSE": (length_s, "[s] from begin to end"),
        # Of the pipelines of LOFAR and ASKAP.
        "END_UTC": end.isot,
        "DURATION": (length_s, "[s]"),
    }


def place_and_band(site: Site, bandwidth_hz: float) -> dict[str, object]:
    """Observatory and width of the band."""
    import erfa

    x, y, z = np.asarray(site.itrf_m(), float)
    longitude_rad, latitude_rad, height_m = erfa.gc2gde(*_ELLIPSOID, np.array([x, y, z]))
    return {
        "OBSGEO-X": (float(x), "[m] ITRF"),
        "OBSGEO-Y": (float(y), "[m] ITRF"),
        "OBSGEO-Z": (float(z), "[m] ITRF"),
        "OBSGEO-L": (float(np.rad2deg(longitude_rad)), "[deg] IAU 1976 ellipsoid"),
        "OBSGEO-B": (float(np.rad2deg(latitude_rad)), "[deg] IAU 1976 ellipsoid"),
        "OBSGEO-H": (float(height_m), "[m] IAU 1976 ellipsoid"),
        BANDWIDTH_CARD: (bandwidth_hz, "[Hz] width of the band"),
    }
