"""Measure what stands still while the sky drifts, and take it off.

What one antenna radiates into its neighbour is constant in the Earth's frame, where the fringes of
the sky turn. The mean of data minus model over a tile, in the frame that the telescope's files
have, therefore shows it. It is measured in the reference tile, belongs to the calibration set, and
is taken off all tiles: nothing of the sky in the other tiles goes with it.

Sources that the model does not hold look like crosstalk on baselines where their fringes stand
still. What both hands of data minus model have in common on long baselines tells how strong they
are, and the turn of the fringes how much of it a mean keeps. Only what is well above that counts.
In the reference tile itself such sources lose what they have on the baselines that are corrected.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numba
import numpy as np

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.sky import astrometry
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.phasing import phasor

_LONGEST_M = 100.0
"""Antennas farther apart do not hear each other."""
_SIGNIFICANT = 5.0
"""Standard errors of the noise above which a baseline has crosstalk."""
_UNLIKE_SKY = 10.0
"""Excess over the power expected of sources, in units of it. One baseline sees all sources with one
amplitude and phase in all its channels, so it exceeds this with a probability of exp(-11)."""
_MODEL_ERROR = 0.003
"""Relative error of the sky model: flux densities and beam are known no better."""
_ROWS_FOR_SKY = 20_000


@dataclass(frozen=True, eq=False)
class Crosstalk:
    """What baselines hold besides the sky.

    Attributes
    ----------
    pairs : tuple of (str, str)
        Names of the first and second antenna.
    values_jy : ndarray of complex64, shape (npair, nchan, nhand)
        In the frame of the telescope's files, in units of the sky.
    frequencies_hz : ndarray, shape (nchan,)
    still : ndarray, shape (npair,)
        Share of a source without a model that the mean over the reference tile keeps.
    """

    pairs: tuple[tuple[str, str], ...]
    values_jy: np.ndarray
    frequencies_hz: np.ndarray
    still: np.ndarray

    @property
    def rms_jy(self) -> float:
        """Root mean square over baselines, channels and hands."""
        return float(np.sqrt(np.mean(np.abs(self.values_jy) ** 2))) if self.pairs else 0.0

    def source_error_jy(self, n_antennas: int) -> float:
        """Standard error of a source's flux density that is measured on all baselines."""
        squares = (np.abs(self.values_jy) ** 2).mean(axis=(1, 2)).sum()
        return float(np.sqrt(squares)) / max(1, n_antennas * (n_antennas - 1) // 2)

    def sky_loss(self, n_antennas: int) -> float:
        """Share of its flux density that a source without a model loses in the reference tile."""
        return float(self.still.sum()) / max(1, n_antennas * (n_antennas - 1) // 2)

    def channels(self, chosen: np.ndarray) -> "Crosstalk":
        """The same of some channels."""
        return replace(
            self, values_jy=self.values_jy[:, chosen], frequencies_hz=self.frequencies_hz[chosen]
        )


def none(frequencies_hz: np.ndarray) -> Crosstalk:
    """No crosstalk."""
    values = np.zeros((0, frequencies_hz.size, 2), np.complex64)
    return Crosstalk((), values, frequencies_hz, np.zeros(0))


def short_rows(vis: Visibilities) -> np.ndarray:
    """Rows of antennas so near to each other that one may hear the other."""
    apart = _apart_m(vis)
    return np.flatnonzero((apart > 0) & (apart < _LONGEST_M))


def some_long_rows(vis: Visibilities) -> np.ndarray:
    """Rows of antennas that do not hear each other; of many, evenly spread ones."""
    rows = np.flatnonzero(_apart_m(vis) >= _LONGEST_M)
    return rows[:: max(1, rows.size // _ROWS_FOR_SKY)]


def _apart_m(vis: Visibilities) -> np.ndarray:
    positions = vis.array.positions_itrf_m
    return np.asarray(np.linalg.norm(positions[vis.antenna1] - positions[vis.antenna2], axis=1))


def unmodelled_power(vis: Visibilities, sky: np.ndarray, left_out: np.ndarray) -> float:
    """Mean square of the visibilities of sources that the model does not hold, Jy**2.

    Both hands hold them alike, and their noise is independent. Zero for one hand alone.

    Parameters
    ----------
    vis : Visibilities
        Calibrated; rows without crosstalk.
    sky : ndarray of complex64, shape (nrow, nchan)
    left_out : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    """
    if len(vis.parallel_hands) < 2:
        return 0.0
    one, other = (vis.data[:, :, p] - sky for p in vis.parallel_hands)
    used = ~(left_out | vis.flags[:, :, vis.parallel_hands].any(axis=2))
    return max(0.0, float(np.mean((one * other.conj()).real[used]))) if used.any() else 0.0


def measure_crosstalk(
    vis: Visibilities, sky: np.ndarray, left_out: np.ndarray, unmodelled_jy2: float
) -> Crosstalk:
    """Measure crosstalk in a tile.

    Parameters
    ----------
    vis : Visibilities
        Calibrated; the rows of `short_rows`.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of the same rows.
    left_out : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    unmodelled_jy2 : float
        As of `unmodelled_power`; the error of the model is added.
    """
    nantenna = len(vis.array.names)
    code = vis.antenna1.astype(np.int64) * nantenna + vis.antenna2
    pairs, pair_of_row = np.unique(code, return_inverse=True)
    hands = np.array(vis.parallel_hands)
    shape = (pairs.size, vis.frequencies_hz.size, hands.size)
    total, count = np.zeros(shape, np.complex128), np.zeros(shape, np.int64)
    squares, turned = np.zeros(shape), np.zeros(shape, np.complex128)
    modelled = np.zeros(shape, np.complex128)
    _sum_at_rest(
        vis.data,
        sky,
        vis.flags,
        left_out,
        _w_shift_m(vis),
        vis.frequencies_hz,
        hands,
        pair_of_row,
        total,
        squares,
        turned,
        modelled,
        count,
    )
    known = count > 2
    mean = np.where(known, total / np.maximum(count, 1), 0)
    # With count - 2, noise alone gives a ratio of one in the mean; with count - 1, 4 % more.
    variance = (squares - count * np.abs(mean) ** 2) / np.maximum(count * (count - 2), 1)
    known &= variance > 0
    safe = np.where(known, variance, 1.0)
    still = np.abs(turned / np.maximum(count, 1)) ** 2
    wrong = np.abs(_MODEL_ERROR * modelled / np.maximum(count, 1)) ** 2
    noise = np.count_nonzero(known, axis=1, keepdims=True)
    sky_jy2 = unmodelled_jy2 * still + wrong
    sources = np.sum(np.where(known, sky_jy2 / safe, 0), axis=1, keepdims=True)
    power = np.sum(np.where(known, np.abs(mean) ** 2 / safe, 0), axis=1, keepdims=True)
    expected = noise + sources
    seen = power - expected > _SIGNIFICANT * np.sqrt(np.maximum(noise, 1)) + _UNLIKE_SKY * sources
    # What noise and sources make of a mean is shrunk away (James and Stein 1961).
    kept = np.where(seen, mean * (1 - expected / np.maximum(power, 1e-30)), 0)
    heard = np.flatnonzero(seen.any(axis=(1, 2)))
    names = vis.array.names
    return Crosstalk(
        tuple((names[pairs[k] // nantenna], names[pairs[k] % nantenna]) for k in heard),
        kept[heard].astype(np.complex64),
        vis.frequencies_hz,
        np.where(seen, still, 0.0).mean(axis=(1, 2))[heard],
    )


def added(first: Crosstalk, second: Crosstalk) -> Crosstalk:
    """Both together, of the same channels."""
    pairs = tuple(dict.fromkeys((*first.pairs, *second.pairs)))
    values = np.zeros((len(pairs), *first.values_jy.shape[1:]), np.complex64)
    still = np.zeros(len(pairs))
    for one in (first, second):
        at = [pairs.index(pair) for pair in one.pairs]
        values[at] += one.values_jy
        still[at] = np.maximum(still[at], one.still)
    return Crosstalk(pairs, values, first.frequencies_hz, still)


def subtract_crosstalk(vis: Visibilities, crosstalk: Crosstalk, gains: Gains | None) -> None:
    """Take crosstalk off a tile, in place.

    Parameters
    ----------
    vis : Visibilities
        Of the channels of `crosstalk`.
    crosstalk : Crosstalk
    gains : Gains or None
        Shape (1, nantenna, 1 or nchan, npol), still in the data.
    """
    if not crosstalk.pairs:
        return
    position = {name: k for k, name in enumerate(vis.array.names)}
    nantenna, nchan, nhand = len(position), vis.frequencies_hz.size, crosstalk.values_jy.shape[2]
    number = np.full((nantenna, nantenna), -1)
    for k, (first, second) in enumerate(crosstalk.pairs):
        if first in position and second in position:
            number[position[first], position[second]] = k
    pair_of_row = number[vis.antenna1, vis.antenna2]
    rows = np.flatnonzero(pair_of_row >= 0)
    gain = np.ones((nantenna, nchan, nhand), np.complex64)
    if gains is not None:
        gain = np.broadcast_to(gains.values[0], gain.shape).astype(np.complex64)
    _subtract(
        vis.data,
        rows,
        pair_of_row,
        crosstalk.values_jy,
        gain,
        _w_shift_m(vis),
        vis.frequencies_hz,
        vis.antenna1,
        vis.antenna2,
        np.array(vis.parallel_hands),
    )


def write(path: Path, crosstalk: Crosstalk) -> None:
    """Write crosstalk to a file of numpy arrays."""
    np.savez(
        path,
        pairs=np.array(crosstalk.pairs, str).reshape(-1, 2),
        values_jy=crosstalk.values_jy,
        frequencies_hz=crosstalk.frequencies_hz,
        still=crosstalk.still,
    )


def read(path: Path, frequencies_hz: np.ndarray) -> Crosstalk:
    """Read crosstalk; there is none where the file is not, or for other channels."""
    if not path.exists():
        return none(frequencies_hz)
    with np.load(path) as file:
        same = file["frequencies_hz"].shape == frequencies_hz.shape and np.allclose(
            file["frequencies_hz"], frequencies_hz, rtol=0, atol=1.0
        )
        if not same:
            return none(frequencies_hz)
        pairs = tuple((str(a), str(b)) for a, b in file["pairs"])
        # The first sets with crosstalk did not say what it costs.
        still = file.get("still", np.zeros(len(pairs)))
        return Crosstalk(pairs, file["values_jy"], frequencies_hz, still)


def _w_shift_m(vis: Visibilities) -> np.ndarray:
    """w towards the phase centre minus w in the telescope's files, shape (nrow,)."""
    frame = astrometry.EarthFrame(vis.times_jd, vis.array.site)
    centre = frame.itrf_directions(astrometry.radec_to_vector(*vis.phase_centre_rad)[None])[:, 0]
    # The dish axis is one direction on Earth for ever.
    drift = frame.itrf_directions(vis.pointings[:1])[0, 0]
    positions = vis.array.positions_itrf_m - np.median(vis.array.positions_itrf_m, axis=0)
    path = (centre - drift) @ positions.T
    return np.asarray(path[vis.time_index, vis.antenna1] - path[vis.time_index, vis.antenna2])


@numba.njit(cache=True, error_model="numpy")
def _sum_at_rest(
    data: np.ndarray,
    sky: np.ndarray,
    flags: np.ndarray,
    left_out: np.ndarray,
    w_shift_m: np.ndarray,
    frequencies_hz: np.ndarray,
    hands: np.ndarray,
    pair_of_row: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
    turned: np.ndarray,
    modelled: np.ndarray,
    count: np.ndarray,
) -> None:
    """Add data minus model in the Earth's frame, the turn to it and the model, to the sums."""
    for row in range(data.shape[0]):
        k = pair_of_row[row]
        for f in range(data.shape[1]):
            if left_out[row, f]:
                continue
            turn = phasor(w_shift_m[row] / SPEED_OF_LIGHT_M_S * frequencies_hz[f])
            for h in range(hands.size):
                p = hands[h]
                if flags[row, f, p]:
                    continue
                value = (data[row, f, p] - sky[row, f]) * turn
                total[k, f, h] += value
                turned[k, f, h] += turn
                modelled[k, f, h] += sky[row, f] * turn
                squares[k, f, h] += value.real * value.real + value.imag * value.imag
                count[k, f, h] += 1


@numba.njit(cache=True, error_model="numpy")
def _subtract(
    data: np.ndarray,
    rows: np.ndarray,
    pair_of_row: np.ndarray,
    values: np.ndarray,
    gain: np.ndarray,
    w_shift_m: np.ndarray,
    frequencies_hz: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    hands: np.ndarray,
) -> None:
    """Take values, turned to the phase centre and times gains, off the rows of their pairs."""
    for row in rows:
        k, i, j = pair_of_row[row], antenna1[row], antenna2[row]
        for f in range(data.shape[1]):
            turn = phasor(-w_shift_m[row] / SPEED_OF_LIGHT_M_S * frequencies_hz[f])
            for h in range(hands.size):
                g = gain[i, f, h] * np.conj(gain[j, f, h])
                data[row, f, hands[h]] -= np.complex64(values[k, f, h] * turn * g)
