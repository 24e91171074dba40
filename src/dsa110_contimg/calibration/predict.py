"""Visibilities of point sources, exactly: w-terms, astrometry and drifting beam.

Per source the phase is a sum of one term an antenna, so sines are taken per antenna
and the sum over baselines is multiplications only.
"""

import numba
import numpy as np

from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.telescope import SPEED_OF_LIGHT_M_S
from dsa110_contimg.visibilities.measurement_set import Array, Visibilities


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
    dish_m = float(np.median(vis.array.dish_diameters_m))
    apparent = model.apparent_jy(vis.pointings, vis.frequencies_hz, dish_m)
    return predict_apparent(vis, model.directions, apparent)


def predict_apparent(
    vis: Visibilities, directions: np.ndarray, apparent_jy: np.ndarray
) -> np.ndarray:
    """Visibilities of sources whose apparent flux densities are given.

    Parameters
    ----------
    vis : Visibilities
    directions : ndarray, shape (nsource, 3)
        ICRS.
    apparent_jy : ndarray, shape (ntime, nsource, nchan)

    Returns
    -------
    ndarray of complex64, shape (nrow, nchan)
    """
    delays = source_delays_m(vis.array, vis.times_jd, vis.phase_centre_rad, directions)
    out = np.zeros(vis.data.shape[:2], np.complex64)
    starts = np.searchsorted(vis.time_index, np.arange(vis.times_jd.size + 1))
    sum_sources(
        delays, np.ascontiguousarray(apparent_jy, np.float32), vis.frequencies_hz,
        vis.antenna1, vis.antenna2, starts, out,
    )  # fmt: skip
    return out


def source_delays_m(
    array: Array, times_jd: np.ndarray, phase_centre_rad: tuple[float, float],
    directions: np.ndarray,
) -> np.ndarray:  # fmt: skip
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


@numba.njit(cache=True, error_model="numpy")
def sum_sources(
    delays_m: np.ndarray, apparent_jy: np.ndarray, frequencies_hz: np.ndarray,
    antenna1: np.ndarray, antenna2: np.ndarray, starts: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
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
    """
    ntime, nsource, nant = delays_m.shape
    nchan = frequencies_hz.size
    phasor = np.empty((nant, nchan), np.complex64)
    for t in range(ntime):
        for s in range(nsource):
            for a in range(nant):
                turns_per_hz = delays_m[t, s, a] / SPEED_OF_LIGHT_M_S
                for f in range(nchan):
                    turns = turns_per_hz * frequencies_hz[f]
                    phase = 2 * np.pi * (turns - np.round(turns))
                    phasor[a, f] = complex(np.cos(phase), np.sin(phase))
            for row in range(starts[t], starts[t + 1]):
                first, second = phasor[antenna1[row]], phasor[antenna2[row]]
                for f in range(nchan):
                    out[row, f] += apparent_jy[t, s, f] * first[f] * np.conj(second[f])
