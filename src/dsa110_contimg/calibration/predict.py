"""Visibilities of points and Gaussians: w-terms, astrometry and drifting beam.

Per source the phase is a sum of one term an antenna, so sines are taken per antenna
and the sum over baselines is multiplications only.
"""

import numba
import numpy as np

from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.primary_beam import voltage_slopes
from dsa110_contimg.sky.shapes import POINTS, Shapes
from dsa110_contimg.visibilities.data import Array, Visibilities
from dsa110_contimg.visibilities.phasing import phasor

_BLOCK = 64
"""Channels at a time: the phasors of some hundred sources then fit the cache."""
_LANES = 16
"""Loops over channels run in multiples of this, for vector instructions."""
NO_GAINS = np.zeros((0, 0, 0), np.complex64)
_NARROW = 0.06
"""Relative width of a block of channels over which the visibility of a Gaussian is a parabola of
frequency to 1e-4."""


def predict(vis: Visibilities, model: SkyModel) -> np.ndarray:
    """Model visibilities of total intensity on the rows and channels of a data set.

    Parameters
    ----------
    vis : Visibilities
    model : SkyModel

    Returns
    -------
    ndarray of complex64, shape (nrow, nchan)
    """
    apparent = model.apparent_jy(vis.beam_axis, vis.frequencies_hz, vis.dish_m)
    gains = antenna_gains(vis, model)
    return predict_apparent(vis, model.directions, apparent, gains, shapes=model.shapes)


def antenna_gains(vis: Visibilities, model: SkyModel) -> np.ndarray | None:
    """Gains of the antennas towards the sources, where their beams differ from the array's.

    Returns
    -------
    ndarray, shape (ntime, nsource, nantenna), or None
        In mid-band.
    """
    if vis.beam.antennas is None:
        return None
    slopes = voltage_slopes(
        vis.beam_axis, model.directions, float(vis.frequencies_hz.mean()), vis.dish_m
    )
    return np.asarray(np.exp(slopes @ vis.beam.antennas.of(vis.array.names).T))


def mean_apparent_jy(vis: Visibilities, model: SkyModel) -> np.ndarray:
    """Flux densities through the beam in mid-band, in the mean over the tile, shape (nsource,)."""
    middle_hz = np.array([vis.frequencies_hz.mean()])
    return np.asarray(model.apparent_jy(vis.beam_axis, middle_hz, vis.dish_m).mean(axis=(0, 2)))


def predict_apparent(
    vis: Visibilities,
    directions: np.ndarray,
    apparent_jy: np.ndarray,
    gains: np.ndarray | None = None,
    times: slice = slice(None),
    rows: slice = slice(None),
    shapes: Shapes = POINTS,
) -> np.ndarray:
    """Visibilities of sources whose apparent flux densities are given.

    Parameters
    ----------
    vis : Visibilities
    directions : ndarray, shape (nsource, 3)
        ICRS.
    apparent_jy : ndarray, shape (ntime, nsource, nchan)
    gains : ndarray of complex, shape (ntime, nsource, nantenna), optional
        Of each antenna towards each source.
    times, rows : slice
        Integrations to predict, and their rows; the arrays above hold only these integrations.
    shapes : Shapes

    Returns
    -------
    ndarray of complex64, shape (nrow, nchan)
    """
    jd = vis.times_jd[times]
    delays = source_delays_m(vis.array, jd, vis.phase_centre_rad, directions)
    antenna1, antenna2 = vis.antenna1[rows], vis.antenna2[rows]
    out = np.zeros((antenna1.size, vis.frequencies_hz.size), np.complex64)
    first = times.start or 0
    starts = np.searchsorted(vis.time_index[rows], first + np.arange(jd.size + 1))
    sum_sources(
        delays,
        np.ascontiguousarray(apparent_jy, np.float32),
        vis.frequencies_hz,
        antenna1,
        antenna2,
        starts,
        out,
        NO_GAINS if gains is None else gains.astype(np.complex64),
        shapes.uv_forms(),
        np.ascontiguousarray(vis.uvw_m[rows, :2]),
    )
    return out


def source_delays_m(
    array: Array,
    times_jd: np.ndarray,
    phase_centre_rad: tuple[float, float],
    directions: np.ndarray,
) -> np.ndarray:
    """Path of each source relative to the phase centre, per antenna.

    Returns
    -------
    ndarray, shape (ntime, nsource, nantenna), metres
    """
    centre = astrometry.radec_to_vector(*phase_centre_rad)
    frame = astrometry.EarthFrame(times_jd, array.site)
    apparent = frame.itrf_directions(np.vstack([centre, directions]))
    positions = array.positions_itrf_m - np.median(array.positions_itrf_m, axis=0)
    return (apparent[:, 1:] - apparent[:, :1]) @ positions.T


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def sum_sources(
    delays_m: np.ndarray,
    apparent_jy: np.ndarray,
    frequencies_hz: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    starts: np.ndarray,
    out: np.ndarray,
    gains: np.ndarray,
    forms: np.ndarray,
    uv_m: np.ndarray,
) -> None:
    """Add sources to visibilities.

    Parameters
    ----------
    delays_m : ndarray, shape (ntime, nsource, nantenna)
        Path relative to the phase centre.
    apparent_jy : ndarray of float32, shape (ntime, nsource, nchan)
    frequencies_hz : ndarray, shape (nchan,)
    antenna1, antenna2 : ndarray of int, shape (nrow,)
        Rows in order of time.
    starts : ndarray of int, shape (ntime + 1,)
        Where each time's rows begin.
    out : ndarray of complex64, shape (nrow, nchan)
        Measurement Set sign.
    gains : ndarray of complex64, shape (ntime, nsource, nantenna)
        Of each antenna towards each source; empty where all are one.
    forms : ndarray, shape (nsource, 3)
        As of `Shapes.uv_forms`; empty where all are points.
    uv_m : ndarray, shape (nrow, 2)
        Not looked at where all are points.
    """
    ntime, nsource, nant = delays_m.shape
    nchan = frequencies_hz.size
    # A block of channels keeps the phasors of one time in the cache; real and imaginary parts
    # apart let the compiler use vector instructions.
    real = np.zeros((nant, nsource, _BLOCK), np.float32)
    imag = np.zeros((nant, nsource, _BLOCK), np.float32)
    flux = np.zeros((nsource, _BLOCK), np.float32)
    sum_re = np.empty(_BLOCK, np.float32)
    sum_im = np.empty(_BLOCK, np.float32)
    tapered = np.zeros(_BLOCK, np.float32)
    share = np.empty(_BLOCK, np.float32)
    for t in range(ntime):
        for c0 in range(0, nchan, _BLOCK):
            n = min(_BLOCK, nchan - c0)
            width = min(_BLOCK, -(-n // _LANES) * _LANES)
            flux[:, :n] = apparent_jy[t, :, c0 : c0 + n]
            low_hz, high_hz = frequencies_hz[c0], frequencies_hz[c0 + n - 1]
            narrow = abs(high_hz - low_hz) < _NARROW * low_hz
            for k in range(n):
                share[k] = (frequencies_hz[c0 + k] - low_hz) / (high_hz - low_hz) if k > 0 else 0.0
            for a in range(nant):
                for s in range(nsource):
                    per_hz = delays_m[t, s, a] / SPEED_OF_LIGHT_M_S
                    value = phasor(per_hz * frequencies_hz[c0])
                    if gains.size > 0:
                        value *= gains[t, s, a]
                    last_step = 0.0
                    turn = 1.0 + 0.0j
                    for k in range(n):
                        if k > 0:
                            step = frequencies_hz[c0 + k] - frequencies_hz[c0 + k - 1]
                            if step != last_step:
                                turn = phasor(per_hz * step)
                                last_step = step
                            value *= turn
                        real[a, s, k] = value.real
                        imag[a, s, k] = value.imag
            for row in range(starts[t], starts[t + 1]):
                i, j = antenna1[row], antenna2[row]
                for k in range(width):
                    sum_re[k] = 0
                    sum_im[k] = 0
                for s in range(nsource):
                    per_hz2 = 0.0
                    if forms.size > 0:
                        u, v = uv_m[row, 0], uv_m[row, 1]
                        per_hz2 = forms[s, 0] * u * u + 2 * forms[s, 1] * u * v
                        per_hz2 += forms[s, 2] * v * v
                        per_hz2 /= SPEED_OF_LIGHT_M_S**2
                    seen = flux[s]
                    if per_hz2 > 0:
                        seen = tapered
                        if narrow:
                            middle_hz = 0.5 * (low_hz + high_hz)
                            low = np.float32(np.exp(-per_hz2 * low_hz**2))
                            middle = np.float32(np.exp(-per_hz2 * middle_hz**2))
                            high = np.float32(np.exp(-per_hz2 * high_hz**2))
                            slope = np.float32(4 * middle - 3 * low - high)
                            bend = np.float32(2 * (low + high - 2 * middle))
                            for k in range(n):
                                curve = low + share[k] * (slope + bend * share[k])
                                tapered[k] = flux[s, k] * curve
                        else:
                            for k in range(n):
                                hz = frequencies_hz[c0 + k]
                                tapered[k] = flux[s, k] * np.exp(-per_hz2 * hz * hz)
                    for k in range(width):
                        a_re, a_im = real[i, s, k], imag[i, s, k]
                        b_re, b_im = real[j, s, k], imag[j, s, k]
                        sum_re[k] += seen[k] * (a_re * b_re + a_im * b_im)
                        sum_im[k] += seen[k] * (a_im * b_re - a_re * b_im)
                for k in range(n):
                    out[row, c0 + k] += complex(sum_re[k], sum_im[k])
