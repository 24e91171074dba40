"""Flux densities of primary calibrators: Perley and Butler 2017 (ApJS 230, 7).

``log10 S(Jy) = sum_i a_i log10(nu / GHz)**i``, table 6 for the steady sources; 3C48,
3C138 and 3C147 vary slowly and carry the coefficients of their epochs.
"""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.sky import astrometry

MATCH_RAD = 15 * ARCSEC_RAD
"""A source so near to a calibrator's position is the calibrator."""


@dataclass(frozen=True)
class Calibrator:
    """A primary flux calibrator.

    Attributes
    ----------
    name : str
    ra_deg, dec_deg : float
        ICRS.
    coefficients_by_epoch : tuple of (float, tuple of float)
        Year of the measurement and a_0, a_1, ...
    """

    name: str
    ra_deg: float
    dec_deg: float
    coefficients_by_epoch: tuple[tuple[float, tuple[float, ...]], ...]

    def direction(self) -> np.ndarray:
        """Unit vector, ICRS, shape (3,)."""
        return astrometry.radec_to_vector(np.deg2rad(self.ra_deg), np.deg2rad(self.dec_deg))

    def flux_density_jy(self, frequency_hz: np.ndarray, year: float) -> np.ndarray:
        """Flux density at some frequencies, from the measured epoch nearest to `year`."""
        _, coefficients = min(self.coefficients_by_epoch, key=lambda item: abs(item[0] - year))
        log_ghz = np.log10(np.asarray(frequency_hz, float) / 1e9)
        return 10.0 ** np.polynomial.polynomial.polyval(log_ghz, coefficients)


CALIBRATORS: tuple[Calibrator, ...] = (
    Calibrator(
        "3C48",
        24.4220810,
        33.1597592,
        (
            (2012.0, (1.3324, -0.7690, -0.1950, 0.0590)),
            (2017.0, (1.3253, -0.7553, -0.1914, 0.0498)),
        ),
    ),
    Calibrator(
        "3C138",
        80.2911918,
        16.6394587,
        (
            (2012.0, (1.0332, -0.5608, -0.1197, 0.0410)),
            (2017.0, (1.0088, -0.4981, -0.1552, -0.0102, 0.0223)),
        ),
    ),
    Calibrator(
        "3C147",
        85.6505746,
        49.8520093,
        (
            (2012.0, (1.4616, -0.7187, -0.2424, 0.0790)),
            (2017.0, (1.4516, -0.6961, -0.2007, 0.0640, -0.0464, 0.0289)),
        ),
    ),
    Calibrator(
        "3C196", 123.4002158, 48.2172950, ((1983.4, (1.2872, -0.8530, -0.1534, -0.0200, 0.0201)),)
    ),
    Calibrator("3C286", 202.7845333, 30.5091552, ((1983.4, (1.2481, -0.4507, -0.1798, 0.0357)),)),
    Calibrator(
        "3C295", 212.8360321, 52.2025392, ((1983.4, (1.4701, -0.7658, -0.2780, -0.0347, 0.0399)),)
    ),
)


def at_position(direction: np.ndarray) -> Calibrator | None:
    """The primary calibrator at an ICRS unit vector, within `MATCH_RAD`."""
    for calibrator in CALIBRATORS:
        if direction @ calibrator.direction() > np.cos(MATCH_RAD):
            return calibrator
    return None
