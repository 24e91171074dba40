"""Directions between the sky (ICRS) and the rotating Earth (ITRF), through ERFA.

The whole chain is used: light deflection, annual and diurnal aberration,
precession-nutation, Earth rotation angle, polar motion (IERS Conventions 2010).
Earth orientation comes from the table that is installed with astropy; the network
is never asked. Past the table's end its last values hold and `EarthOrientation`
says so (a wrong UT1-UTC of 0.1 s is 1.5 arcsec in right ascension).
"""

import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import erfa
import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD, DAY_S, MJD_ZERO_JD, UNIX_EPOCH_JD
from dsa110_contimg.telescope import Telescope

_READING = threading.Lock()
_WGS84 = 1
_FINALS_WIDTH = 188


@dataclass(frozen=True)
class Site:
    """A place on the Earth (WGS84)."""

    latitude_rad: float
    longitude_rad: float
    altitude_m: float

    @classmethod
    def of(cls, telescope: Telescope) -> "Site":
        """Where a telescope stands."""
        return cls(
            float(np.deg2rad(telescope.latitude_deg)),
            float(np.deg2rad(telescope.longitude_deg)),
            telescope.altitude_m,
        )

    def itrf_m(self) -> np.ndarray:
        """Geocentric position, shape (3,), metres."""
        return np.asarray(
            erfa.gd2gc(_WGS84, self.longitude_rad, self.latitude_rad, self.altitude_m)
        )


@dataclass(frozen=True)
class EarthOrientation:
    """UT1-UTC and pole coordinates at some times.

    Attributes
    ----------
    ut1_utc_s, x_pole_rad, y_pole_rad : ndarray, shape (ntime,)
    beyond_table : bool
        True if a time lies outside the installed table, so that the nearest entry was used.
    """

    ut1_utc_s: np.ndarray
    x_pole_rad: np.ndarray
    y_pole_rad: np.ndarray
    beyond_table: bool


def _orientation_table() -> tuple[np.ndarray, ...]:
    # Threads that ask together wait for one of them.
    with _READING:
        return _read_orientation_table()


@cache
def _read_orientation_table() -> tuple[np.ndarray, ...]:
    """Read MJD, UT1-TAI (s) and the pole (rad) from finals2000A.all.

    Columns as of the format's description (IERS Rapid Service, readme.finals2000A), Bulletin B
    before Bulletin A. Astropy's reader takes a second, which every worker would pay.
    """
    from astropy_iers_data import IERS_A_FILE

    lines = np.array(Path(IERS_A_FILE).read_bytes().splitlines(), dtype=f"S{_FINALS_WIDTH}")
    characters = lines.view("S1").reshape(lines.size, _FINALS_WIDTH)

    def column(first: int, last: int) -> np.ndarray:
        texts = np.ascontiguousarray(characters[:, first - 1 : last]).view(f"S{last - first + 1}")
        stripped = np.char.strip(texts[:, 0])
        return np.asarray(np.where(stripped == b"", b"nan", stripped).astype(float))

    def better(bulletin_b: np.ndarray, bulletin_a: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(bulletin_b), bulletin_b, bulletin_a)

    mjd = column(8, 15)
    ut1_utc = better(column(155, 165), column(59, 68))
    x = better(column(135, 144), column(19, 27)) * ARCSEC_RAD
    y = better(column(145, 154), column(38, 46)) * ARCSEC_RAD
    good = np.isfinite(mjd) & np.isfinite(ut1_utc) & np.isfinite(x) & np.isfinite(y)
    # UT1-TAI has no leap seconds, so it is what may be interpolated across one.
    return mjd[good], (ut1_utc - _tai_utc_s(mjd))[good], x[good], y[good]


def orientation_table_end() -> float:
    """Last day (Unix seconds) that the installed Earth-orientation table predicts."""
    return (float(_orientation_table()[0][-1]) + MJD_ZERO_JD - UNIX_EPOCH_JD) * DAY_S


def orientation_warning(time_s: float | None) -> str:
    """What to tell whoever has data of this time (Unix seconds); empty if the table covers it."""
    if time_s is None:
        return ""
    days = (time_s - orientation_table_end()) / DAY_S
    if days <= 0:
        return ""
    return (
        f"the newest tile was observed {days:.0f} days after the installed Earth-orientation table "
        "ends, positions may be off by arcseconds; update astropy-iers-data"
    )


def earth_orientation(jd_utc: np.ndarray) -> EarthOrientation:
    """Earth orientation at the given times from the installed table.

    Parameters
    ----------
    jd_utc : ndarray, shape (ntime,)
        Julian dates, UTC.
    """
    mjd, ut1_tai, x, y = _orientation_table()
    at = np.atleast_1d(jd_utc) - MJD_ZERO_JD
    ut1 = np.interp(at, mjd, ut1_tai) + _tai_utc_s(at)
    return EarthOrientation(
        ut1_utc_s=ut1,
        x_pole_rad=np.interp(at, mjd, x),
        y_pole_rad=np.interp(at, mjd, y),
        beyond_table=bool(np.any((at < mjd[0]) | (at > mjd[-1]))),
    )


def _tai_utc_s(mjd: np.ndarray) -> np.ndarray:
    import warnings

    with warnings.catch_warnings():
        # ERFA calls a date some years past its own release dubious: leap seconds unknown.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        # At the beginning of the day: one that ends with a leap second is stretched by ERFA.
        utc1, utc2 = np.full(np.shape(mjd), MJD_ZERO_JD), np.floor(mjd)
        tai1, tai2 = erfa.utctai(utc1, utc2)
    return np.round(((tai1 - utc1) + (tai2 - utc2)) * DAY_S)


class EarthFrame:
    """The rotating Earth at given times: ICRS to ITRF directions and back.

    Parameters
    ----------
    jd_utc : ndarray, shape (ntime,)
        Julian dates, UTC.
    site : Site
        Observer (for diurnal aberration).
    """

    def __init__(self, jd_utc: np.ndarray, site: Site):
        import warnings

        self.jd_utc = np.atleast_1d(np.asarray(jd_utc, float))
        self.site = site
        orientation = earth_orientation(self.jd_utc)
        self.beyond_table = orientation.beyond_table
        day = np.floor(self.jd_utc - 0.5) + 0.5
        fraction = self.jd_utc - day
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            self._astrom, self._origins_rad = erfa.apco13(
                day,
                fraction,
                orientation.ut1_utc_s,
                site.longitude_rad,
                site.latitude_rad,
                site.altitude_m,
                orientation.x_pole_rad,
                orientation.y_pole_rad,
                0.0,
                0.0,
                0.0,
                0.5,
            )
            ut11, ut12 = erfa.utcut1(day, fraction, orientation.ut1_utc_s)
            tai1, tai2 = erfa.utctai(day, fraction)
            tt1, tt2 = erfa.taitt(tai1, tai2)
        rotation_angle_rad = erfa.era00(ut11, ut12)
        polar = erfa.pom00(orientation.x_pole_rad, orientation.y_pole_rad, erfa.sp00(tt1, tt2))
        spin = erfa.rz(rotation_angle_rad, np.broadcast_to(np.eye(3), polar.shape))
        self._cirs_to_itrf = polar @ spin
        self._rotation_angle_rad = rotation_angle_rad

    def itrf_directions(self, icrs: np.ndarray) -> np.ndarray:
        """Apparent directions of catalogue positions in the Earth-fixed frame.

        Parameters
        ----------
        icrs : ndarray, shape (nsource, 3)
            Unit vectors, ICRS.

        Returns
        -------
        ndarray, shape (ntime, nsource, 3)
            Unit vectors, ITRF.
        """
        ra, dec = erfa.c2s(np.ascontiguousarray(icrs))
        ri, di = erfa.atciqz(ra[None, :], dec[None, :], self._astrom[:, None])
        return np.einsum("tij,tsj->tsi", self._cirs_to_itrf, erfa.s2c(ri, di))

    def icrs_direction(self, itrf: np.ndarray) -> np.ndarray:
        """Catalogue positions of an Earth-fixed apparent direction.

        Parameters
        ----------
        itrf : ndarray, shape (3,)
            Unit vector, ITRF.

        Returns
        -------
        ndarray, shape (ntime, 3)
            Unit vectors, ICRS.
        """
        cirs = np.einsum("tji,j->ti", self._cirs_to_itrf, itrf)
        ri, di = erfa.c2s(cirs)
        ra, dec = erfa.aticq(ri, di, self._astrom)
        return erfa.s2c(ra, dec)

    def local_sidereal_time_rad(self) -> np.ndarray:
        """Apparent sidereal time of the site, shape (ntime,), radians in [0, 2 pi)."""
        return np.mod(
            self._rotation_angle_rad - self._origins_rad + self.site.longitude_rad, 2 * np.pi
        )


def sun_and_moon(jd_utc: float) -> tuple[np.ndarray, np.ndarray]:
    """Geocentric directions of the Sun (IAU SOFA epv00) and the Moon (moon98).

    Good to arcminutes for an observer on the ground, but for the Moon's parallax of up to a degree.
    """
    earth, _ = erfa.epv00(jd_utc, 0.0)
    moon = erfa.moon98(jd_utc, 0.0)["p"]
    sun = -np.asarray(earth["p"])
    return sun / np.linalg.norm(sun), np.asarray(moon / np.linalg.norm(moon))


def meridian_direction(apparent_dec_rad: float, longitude_rad: float) -> np.ndarray:
    """Earth-fixed direction of hour angle zero at an apparent declination, shape (3,).

    It does not move: a drift scan tracks one ITRF direction for ever.
    """
    return np.asarray(erfa.s2c(longitude_rad, apparent_dec_rad))


def radec_to_vector(ra_rad: np.ndarray | float, dec_rad: np.ndarray | float) -> np.ndarray:
    """Unit vectors of spherical positions, shape (..., 3)."""
    return np.asarray(erfa.s2c(ra_rad, dec_rad))


def vector_to_radec(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension in [0, 2 pi) and declination of unit vectors, radians."""
    ra, dec = erfa.c2s(vector)
    return np.mod(ra, 2 * np.pi), dec


def tangent_axes(ra_rad: float, dec_rad: float) -> np.ndarray:
    """Unit vectors (east, north, centre) at a position, shape (3, 3), rows in that order."""
    sin_ra, cos_ra = np.sin(ra_rad), np.cos(ra_rad)
    sin_dec, cos_dec = np.sin(dec_rad), np.cos(dec_rad)
    return np.array(
        [
            [-sin_ra, cos_ra, 0.0],
            [-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec],
            [cos_dec * cos_ra, cos_dec * sin_ra, sin_dec],
        ]
    )


def direction_cosines(vectors: np.ndarray, ra_rad: float, dec_rad: float) -> np.ndarray:
    """Components (l, m, n) of unit vectors about a centre, shape (..., 3)."""
    return np.asarray(vectors) @ tangent_axes(ra_rad, dec_rad).T


def separation_rad(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between unit vectors, exact at every separation."""
    cross = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.arctan2(cross, np.sum(np.asarray(a) * np.asarray(b), axis=-1))
