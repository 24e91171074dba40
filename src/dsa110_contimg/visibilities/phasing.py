r"""Bring a drift scan to one phase centre.

Each integration of a sub-band file is phased to the position that transits at its
middle. In the Earth-fixed frame that is one direction, ``s0``, for ever. A tile is
brought to one ICRS centre by the difference in delay between ``s0`` and the centre's
apparent direction.

Coordinates follow the Measurement Set: the baseline is position(ANTENNA1) minus
position(ANTENNA2) and a source of flux density S at direction cosines (l, m) appears as
``S exp(+2 pi i (u l + v m + w (n - 1)))``, u, v, w in wavelengths.
u and v are the derivatives of the delay with respect to l and m *including aberration*:
rotating the baseline alone, as is common, misplaces a source by up to 1e-4 of its
distance from the centre (0.4 arcsec at one degree).
"""

from dataclasses import dataclass, replace

import numba
import numpy as np

from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.sky import astrometry
from dsa110_contimg.visibilities.data import Visibilities

_ABSURD = np.float32(1e30)
"""Squared amplitude that no correlator gives."""
_STEP = 1e-4
"""Step in l and m for the derivative of the delay; the second-order term cancels."""


@dataclass(frozen=True)
class DriftGeometry:
    """Where a tile points and how the sky moves over its antennas.

    Attributes
    ----------
    phase_centre_rad : tuple of float
        ICRS right ascension and declination of the tile's centre.
    pointings : ndarray, shape (ntime, 3)
        ICRS unit vectors of the dish axis at each integration.
    axes_itrf : ndarray, shape (ntime, 3, 3)
        Rows: derivative of the apparent direction with l, with m, and the direction of
        the centre itself, ITRF.
    drift_itrf : ndarray, shape (3,)
        The direction the data are phased to on arrival.
    beyond_earth_orientation_table : bool
        True if the installed Earth-orientation table ends before the data.
    """

    phase_centre_rad: tuple[float, float]
    pointings: np.ndarray
    axes_itrf: np.ndarray
    drift_itrf: np.ndarray
    beyond_earth_orientation_table: bool


def drift_geometry(
    times_jd: np.ndarray, apparent_dec_rad: float, site: astrometry.Site
) -> DriftGeometry:
    """Geometry of a meridian drift scan.

    Parameters
    ----------
    times_jd : ndarray, shape (ntime,)
        Centres of the integrations, Julian date UTC.
    apparent_dec_rad : float
        Apparent declination that the array points at.
    site : Site
        Array centre.
    """
    frame = astrometry.EarthFrame(times_jd, site)
    drift = astrometry.meridian_direction(apparent_dec_rad, site.longitude_rad)
    middle = astrometry.EarthFrame(np.array([0.5 * (times_jd[0] + times_jd[-1])]), site)
    ra, dec = astrometry.vector_to_radec(middle.icrs_direction(drift)[0])
    return DriftGeometry(
        phase_centre_rad=(float(ra), float(dec)),
        pointings=frame.icrs_direction(drift),
        axes_itrf=delay_axes(frame, float(ra), float(dec)),
        drift_itrf=drift,
        beyond_earth_orientation_table=frame.beyond_table,
    )


def delay_axes(frame: astrometry.EarthFrame, ra_rad: float, dec_rad: float) -> np.ndarray:
    """Vectors whose products with a baseline are u, v and w.

    Returns
    -------
    ndarray, shape (ntime, 3, 3)
        Rows: d(direction)/dl, d(direction)/dm, direction; ITRF.
    """
    east, north, centre = astrometry.tangent_axes(ra_rad, dec_rad)
    n = np.sqrt(1 - _STEP**2)
    around = np.stack(
        [
            centre,
            n * centre + _STEP * east,
            n * centre - _STEP * east,
            n * centre + _STEP * north,
            n * centre - _STEP * north,
        ]
    )
    apparent = frame.itrf_directions(around)
    d_l = (apparent[:, 1] - apparent[:, 2]) / (2 * _STEP)
    d_m = (apparent[:, 3] - apparent[:, 4]) / (2 * _STEP)
    return np.stack([d_l, d_m, apparent[:, 0]], axis=1)


def baseline_uvw(
    axes_itrf: np.ndarray,
    antenna_positions_m: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
) -> np.ndarray:
    """u, v, w in metres of every baseline at every time (Measurement Set sign).

    Parameters
    ----------
    axes_itrf : ndarray, shape (ntime, 3, 3)
        From `delay_axes`.
    antenna_positions_m : ndarray, shape (nant, 3)
        ITRF, relative to any common origin.
    antenna1, antenna2 : ndarray of int, shape (nbaseline,)

    Returns
    -------
    ndarray, shape (ntime, nbaseline, 3)
    """
    per_antenna = np.einsum("tkx,ax->tak", axes_itrf, antenna_positions_m)
    return per_antenna[:, antenna1] - per_antenna[:, antenna2]


def drift_w(
    drift_itrf: np.ndarray,
    antenna_positions_m: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
) -> np.ndarray:
    """w in metres that the data carry on arrival, shape (nbaseline,)."""
    per_antenna = antenna_positions_m @ drift_itrf
    return per_antenna[antenna1] - per_antenna[antenna2]


@numba.njit(cache=True, error_model="numpy")
def rephase(
    visdata: np.ndarray,
    flags: np.ndarray,
    nsamples: np.ndarray,
    rows: np.ndarray,
    w_shift_m: np.ndarray,
    frequencies_hz: np.ndarray,
    channels: np.ndarray,
    out: np.ndarray,
    out_flags: np.ndarray,
    out_samples: np.ndarray,
    out_power: np.ndarray,
) -> int:
    """Conjugate, rotate and reorder one sub-band into a tile's arrays, in one pass.

    Parameters
    ----------
    visdata : ndarray of complex64, shape (nblt, nfreq, npol)
        As in the sub-band file (conjugate of the Measurement Set's DATA).
    flags : ndarray of bool, shape (nblt, nfreq, npol)
    nsamples : ndarray of float32, shape (nblt, nfreq, npol)
        A sample of none is flagged.
    rows : ndarray of int, shape (nrow,)
        Row of `visdata` for each output row.
    w_shift_m : ndarray, shape (nrow,)
        New w minus the w on arrival, Measurement Set sign.
    frequencies_hz : ndarray, shape (nfreq,)
        In the file's order.
    channels : ndarray of int, shape (nfreq,)
        Output channel of each of the file's channels.
    out : ndarray of complex64, shape (nrow, nchan, npol)
        Filled at `channels`.
    out_flags : ndarray of bool, shape (nrow, nchan, npol)
        Filled at `channels`; also true where the input is not finite or absurd (above 1e15), the
        output being zero there.
    out_samples : ndarray of float32, shape (nrow, npol)
        The mean sample count is added.
    out_power : ndarray, shape (nrow,)
        The sum of squared amplitudes is added.

    Returns
    -------
    int
        Number of samples that were not finite or absurd.
    """
    n_bad = 0
    npol = out.shape[2]
    nfreq = frequencies_hz.size
    total = np.empty(npol, np.float32)
    for i in range(rows.size):
        row = rows[i]
        total[:] = 0
        power = 0.0
        turns_per_hz = -w_shift_m[i] / SPEED_OF_LIGHT_M_S
        rotation = phasor(turns_per_hz * frequencies_hz[0])
        last_step = 0.0
        turn = 1.0 + 0.0j
        for f in range(nfreq):
            if f > 0:
                # Channels are evenly spaced: one more step of phase each, no sine.
                step = frequencies_hz[f] - frequencies_hz[f - 1]
                if step != last_step:
                    turn = phasor(turns_per_hz * step)
                    last_step = step
                rotation *= turn
            channel = channels[f]
            cos, sin = np.float32(rotation.real), np.float32(rotation.imag)
            for p in range(npol):
                re, im = visdata[row, f, p].real, visdata[row, f, p].imag
                count = nsamples[row, f, p]
                square = re * re + im * im
                # False for NaN too, which a comparison the other way round would let through.
                good = square < _ABSURD
                if not good:
                    re = im = square = np.float32(0)
                    n_bad += 1
                # The conjugate, rotated.
                out[i, channel, p] = complex(re * cos + im * sin, re * sin - im * cos)
                out_flags[i, channel, p] = flags[row, f, p] or not count > 0 or not good
                # A count that is negative or no number weighs nothing.
                if count > 0:
                    total[p] += count
                power += square
        for p in range(npol):
            out_samples[i, p] += total[p] / np.float32(nfreq)
        out_power[i] += power
    return n_bad


def move_centre(vis: Visibilities, centre_rad: tuple[float, float]) -> Visibilities:
    """The same data phased to another centre; the arrays of `vis` are overwritten.

    Parameters
    ----------
    vis : Visibilities
    centre_rad : tuple of float
        ICRS.
    """
    frame = astrometry.EarthFrame(vis.times_jd, vis.array.site)
    positions = vis.array.positions_itrf_m - np.median(vis.array.positions_itrf_m, axis=0)
    before, after = (
        np.einsum("tkx,ax->tak", delay_axes(frame, *centre), positions)
        for centre in (vis.phase_centre_rad, centre_rad)
    )
    # Not the w of the file, which may follow another convention.
    moved = (after - before)[:, :, 2]
    at, first, second = vis.time_index, vis.antenna1, vis.antenna2
    _turn(vis.data, moved[at, first] - moved[at, second], vis.frequencies_hz)
    return replace(vis, uvw_m=after[at, first] - after[at, second], phase_centre_rad=centre_rad)


@numba.njit(cache=True, error_model="numpy")
def _turn(data: np.ndarray, w_shift_m: np.ndarray, frequencies_hz: np.ndarray) -> None:
    """Rotate visibilities, shape (nrow, nchan, npol), by a change of w (Measurement Set sign)."""
    for i in range(data.shape[0]):
        turns_per_hz = -w_shift_m[i] / SPEED_OF_LIGHT_M_S
        rotation = phasor(turns_per_hz * frequencies_hz[0])
        last_step = 0.0
        turn = 1.0 + 0.0j
        for f in range(data.shape[1]):
            if f > 0:
                step = frequencies_hz[f] - frequencies_hz[f - 1]
                if step != last_step:
                    turn = phasor(turns_per_hz * step)
                    last_step = step
                rotation *= turn
            for p in range(data.shape[2]):
                data[i, f, p] *= np.complex64(rotation)


@numba.njit(cache=True, error_model="numpy")
def phasor(turns: float) -> complex:
    """``exp(2 pi i turns)``, for use in compiled loops."""
    phase = 2 * np.pi * (turns - np.round(turns))
    return complex(np.cos(phase), np.sin(phase))
