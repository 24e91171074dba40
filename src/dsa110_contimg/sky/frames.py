"""Celestial frames other than ICRS."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


def icrs_and_north(places: "SkyCoord") -> tuple["SkyCoord", np.ndarray]:
    """Turn positions to ICRS; and position angles of their frame's north from that of ICRS, rad."""
    from astropy import units

    icrs = places.icrs
    above = places.directional_offset_by(0 * units.deg, 1 * units.arcsec).icrs
    return icrs, np.asarray(icrs.position_angle(above).rad)
