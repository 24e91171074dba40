"""When calibrators pass through the beam."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.constants import DAY_S, UNIX_EPOCH_JD
from dsa110_contimg.sky import astrometry, flux_scale, primary_beam
from dsa110_contimg.sky.catalogues import Catalogue
from dsa110_contimg.telescope import Telescope

_STEP_S = 60.0
_REACH_DEG = 5.0


@dataclass(frozen=True)
class Transit:
    """A source crosses the meridian.

    Attributes
    ----------
    name : str
        Of a primary calibrator, else its position.
    time_s : float
        Unix seconds.
    sidereal_deg : float
        Local apparent sidereal time.
    ra_deg, dec_deg, flux_jy : float
    offset_deg : float
        From the centre of the beam.
    response : float
        Of the primary beam at transit.
    """

    name: str
    time_s: float
    sidereal_deg: float
    ra_deg: float
    dec_deg: float
    flux_jy: float
    offset_deg: float
    response: float


def transits(
    catalogue: Catalogue,
    apparent_dec_deg: float,
    start_s: float,
    hours: float,
    telescope: Telescope,
    min_apparent_jy: float,
) -> list[Transit]:
    """Transits of bright sources, in order of time.

    Parameters
    ----------
    catalogue : Catalogue
    apparent_dec_deg : float
        Where the array points.
    start_s, hours : float
        Unix seconds, and how long from then.
    telescope : Telescope
    min_apparent_jy : float
        Least flux density times response.
    """
    site = astrometry.Site.of(telescope)
    times_s = start_s + np.arange(0.0, 3600 * hours + _STEP_S, _STEP_S)
    frame = astrometry.EarthFrame(UNIX_EPOCH_JD + times_s / DAY_S, site)
    drift = astrometry.meridian_direction(np.deg2rad(apparent_dec_deg), site.longitude_rad)
    pointing = frame.icrs_direction(drift)
    ra_rad, _ = astrometry.vector_to_radec(pointing)
    ra_rad = np.unwrap(ra_rad)
    sidereal_rad = np.unwrap(frame.local_sidereal_time_rad())
    strip_deg = np.rad2deg(np.arcsin(pointing[:, 2]))
    catalogue = catalogue.brighter_than(min_apparent_jy).between(
        float(strip_deg.min()) - _REACH_DEG, float(strip_deg.max()) + _REACH_DEG
    )
    source_rad = np.deg2rad(catalogue.ra_deg)
    directions = astrometry.radec_to_vector(source_rad, np.deg2rad(catalogue.dec_deg))
    # The same right ascension again each sidereal day.
    turns = np.arange(int(np.ceil(hours / 23)) + 1)[:, None] * 2 * np.pi
    at_rad = ra_rad[0] + (source_rad - ra_rad[0]) % (2 * np.pi) + turns
    found = []
    for turn in at_rad:
        for i in np.flatnonzero(turn <= ra_rad[-1]):
            time_s = float(np.interp(turn[i], ra_rad, times_s))
            centre = np.array([np.interp(turn[i], ra_rad, axis) for axis in pointing.T])
            offset = astrometry.separation_rad(centre / np.linalg.norm(centre), directions[i])
            response = float(
                primary_beam.power_response(
                    np.sin(offset), np.array(catalogue.frequency_hz), telescope.dish_diameter_m
                )
            )
            flux = float(catalogue.flux_jy[i])
            if flux * response < min_apparent_jy:
                continue
            primary = flux_scale.at_position(directions[i])
            position = f"{catalogue.ra_deg[i]:.4f} {catalogue.dec_deg[i]:+.4f}"
            found.append(
                Transit(
                    name=primary.name if primary is not None else position,
                    time_s=time_s,
                    sidereal_deg=float(np.rad2deg(np.interp(turn[i], ra_rad, sidereal_rad)) % 360),
                    ra_deg=float(catalogue.ra_deg[i]),
                    dec_deg=float(catalogue.dec_deg[i]),
                    flux_jy=flux,
                    offset_deg=float(np.rad2deg(offset)),
                    response=response,
                )
            )
    return sorted(found, key=lambda transit: transit.time_s)
