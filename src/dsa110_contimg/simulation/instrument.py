"""The array in outline, and what its electronics do to a signal.

Positions follow the public station table (2022-02-15) to a few metres: an east-west arm of 51
stations 5.74 m apart with gaps, a north-south arm of 51 stations 8.656 m apart, and 15 outriggers.
"""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.sky import astrometry
from dsa110_contimg.telescope import DSA110, Telescope

_PITCH_EW_M, _PITCH_NS_M = 5.743, 8.656
_OUTRIGGERS_EAST_NORTH_UP_M = (
    (153, -378, -7),
    (547, 206, -6),
    (555, 1063, -4),
    (553, 1511, -3),
    (551, 1683, -2),
    (555, 1842, -2),
    (318, 1837, -2),
    (-77, 1834, -2),
    (-281, 1836, -2),
    (-439, 1831, -3),
    (-731, 1835, -2),
    (-1138, 1837, -3),
    (-1080, 1285, -7),
    (-1028, -221, -10),
    (-1211, -208, -9),
)
_ABSENT = {10, 21, 22, 23, *range(52, 68), 117}
"""Stations without an antenna in 2026: 96 of 117 are in the data."""


def station_positions_m(telescope: Telescope = DSA110) -> np.ndarray:
    """ITRF positions minus the array centre, shape (117, 3)."""
    steps = np.full(50, _PITCH_EW_M)
    steps[21], steps[[27, 28, 34]] = 63.18, 22.97
    east = -234.0 + np.concatenate([[0.0], np.cumsum(steps)])
    north = 5.3 + _PITCH_NS_M * np.arange(51)
    enu = np.vstack(
        [
            np.stack([east, np.full(51, -3.3), np.full(51, -5.5)], axis=1),
            np.stack([np.full(51, -35.9), north, np.full(51, -5.5)], axis=1),
            np.array(_OUTRIGGERS_EAST_NORTH_UP_M, float),
        ]
    )
    lat, lon = np.deg2rad([telescope.latitude_deg, telescope.longitude_deg])
    axes = astrometry.tangent_axes(lon, lat)
    return enu @ axes


def antennas_in_data(count: int = 96) -> np.ndarray:
    """Indices of `count` stations that have antennas, spread over arms and outriggers."""
    present = np.array([n - 1 for n in range(1, 118) if n not in _ABSENT])
    if not 2 <= count <= present.size:
        raise ValueError(f"between 2 and {present.size} antennas, not {count}")
    outriggers = present[present >= 102]
    n_out = min(outriggers.size, max(1, round(count / 4)))
    core = present[present < 102]
    return np.concatenate(
        [
            core[np.linspace(0, core.size - 1, count - n_out).round().astype(int)],
            outriggers[np.linspace(0, outriggers.size - 1, n_out).round().astype(int)],
        ]
    )


@dataclass(frozen=True, eq=False)
class AntennaGains:
    """Gains of antennas as functions of time and frequency (Measurement Set convention).

    Attributes
    ----------
    amplitude : ndarray, shape (nantenna, npol)
        Raw units per sqrt(Jy).
    phase_rad, drift_rad_s : ndarray, shape (nantenna, npol)
        Phase at the reference time, and its drift.
    delay_s : ndarray, shape (nantenna, npol)
    reference_time_s : float
        Unix seconds.
    """

    amplitude: np.ndarray
    phase_rad: np.ndarray
    drift_rad_s: np.ndarray
    delay_s: np.ndarray
    reference_time_s: float

    def at(self, time_s: float, frequencies_hz: np.ndarray) -> np.ndarray:
        """Complex gains, shape (nantenna, nfreq, npol), with the band's edges rolled off."""
        f = frequencies_hz[None, :, None]
        middle = 0.5 * (DSA110.band_top_hz + DSA110.band_bottom_hz)
        half = 0.5 * (DSA110.band_top_hz - DSA110.band_bottom_hz)
        shape = 1 - 0.2 * ((f - middle) / half) ** 8
        phase = (self.phase_rad + self.drift_rad_s * (time_s - self.reference_time_s))[
            :, None, :
        ] + 2 * np.pi * self.delay_s[:, None, :] * (f - middle)
        return self.amplitude[:, None, :] * shape * np.exp(1j * phase)


def random_gains(
    count: int, rng: np.random.Generator, reference_time_s: float, drift_deg_h: float = 12.0
) -> AntennaGains:
    """Plausible gains: amplitudes near 0.06, any phase, delays of nanoseconds, slow drifts."""
    shape = (count, 2)
    return AntennaGains(
        amplitude=0.06 * rng.uniform(0.75, 1.25, shape),
        phase_rad=rng.uniform(-np.pi, np.pi, shape),
        drift_rad_s=np.deg2rad(drift_deg_h) / 3600 * rng.normal(size=(count, 1)) * np.ones(shape),
        delay_s=rng.normal(0, 2e-9, shape),
        reference_time_s=reference_time_s,
    )


def meridian_uvw_m(
    positions_m: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    apparent_dec_rad: float,
    longitude_rad: float,
) -> np.ndarray:
    """u, v, w toward the meridian as the files hold them: position 2 minus position 1."""
    # Hour angle zero lies at the site's longitude: an Earth-fixed direction like any other.
    axes = astrometry.tangent_axes(longitude_rad, apparent_dec_rad)
    return (positions_m[antenna2] - positions_m[antenna1]) @ axes.T


def noise_sigma_jy(sefd_jy: float, channel_width_hz: float, integration_s: float) -> float:
    """Standard deviation of the real (or imaginary) part of one visibility.

    ``SEFD / sqrt(2 B t)`` (Thompson, Moran and Swenson 2017, equation 6.50).
    """
    return sefd_jy / np.sqrt(2 * channel_width_hz * integration_s)
