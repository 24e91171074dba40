"""Sources so strong that they are heard from far outside the beam."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.sky import astrometry

SUN, MOON = "Sun", "Moon"
_FIXED_DEG = {
    "Cas A": (350.8664, 58.8117),
    "Cyg A": (299.8682, 40.7339),
    "Tau A": (83.6331, 22.0145),
    "Vir A": (187.7059, 12.3911),
}
"""ICRS positions, rounded to what their sizes of arcminutes are worth (NED)."""


@dataclass(frozen=True)
class FarSource:
    """A source far outside the beam that was taken off a tile.

    Attributes
    ----------
    name : str
    rms_jy : float
        Of what was taken off, over the samples of short baselines that were fitted.
    sky_loss : float
        Share of its flux density that a source without a model loses in the beam's centre.
    """

    name: str
    rms_jy: float
    sky_loss: float


def strong_sources(jd_utc: float) -> dict[str, np.ndarray]:
    """Directions of the Sun, the Moon and the strongest radio sources.

    Parameters
    ----------
    jd_utc : float

    Returns
    -------
    dict of str to ndarray
        Unit vectors, ICRS, by name.
    """
    sun, moon = astrometry.sun_and_moon(jd_utc)
    fixed = {
        name: astrometry.radec_to_vector(*np.deg2rad(position))
        for name, position in _FIXED_DEG.items()
    }
    return {SUN: sun, MOON: moon, **fixed}
