"""Measure what the beams of single antennas differ by from the array's.

An antenna that points 6 arcmin beside the others sees a source at half power 4 % stronger or weaker
than they do. Over all sources of a tile these differences are linear in the antenna's pointing and
in the logarithm of its width: data minus model of the antennas i and j is
``sum_k (p_ik + p_jk) M_k``, where ``M_k`` is the model with each source times the slope of the
antenna's voltage towards it (`sky.primary_beam.voltage_slopes`). Gain and phase of each antenna are
solved along with its beam, because a gain solved with the wrong beam fits the strongest source.

A source that long baselines resolve looks like distant antennas whose beams differ. A beam belongs
to an antenna, whatever the baseline: what shorter and longer baselines do not agree on is no beam.
"""

from dataclasses import dataclass

import numba
import numpy as np

from dsa110_contimg.calibration import predict
from dsa110_contimg.robust import MEDIAN_OVER_MEAN, robust_rms
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.primary_beam import AntennaBeams, voltage_slopes
from dsa110_contimg.visibilities.data import Visibilities

_BEAM_TERMS = 3
_TERMS = 5
"""Width, pointing east, pointing north, gain, phase."""
_SIGN = np.array([1.0, 1.0, 1.0, 1.0, -1.0])
"""Signs with which the terms of the second antenna of a baseline enter."""
_UNITS = np.array([0.01, np.deg2rad(1 / 60), np.deg2rad(1 / 60), 0.01, 0.01])
_PRIOR = np.array([0.1, np.deg2rad(15 / 60), np.deg2rad(15 / 60), 0.1, 0.2])
"""Prior standard errors, before the antennas themselves say how much they differ."""
_SIGNIFICANT = 3.0
_LEAST_AGREEMENT = 0.4
"""Minimum correlation between what shorter and longer baselines say of the antennas."""
_IN_HALF, _MIN_IN_BOTH = 6, 8
"""Minimum number of baselines of an antenna in each half, and of antennas that have them."""
_CLIP = 20.0
"""Times the variance of a real component: noise exceeds it once in twenty thousand samples."""
_ROUNDS = 2
_DECIMALS = 7
"""The last bits of matrix products depend on the number of threads."""


def measure_antenna_beams(
    vis: Visibilities, sky: np.ndarray, model: SkyModel, left_out: np.ndarray
) -> AntennaBeams | None:
    """Fit width and pointing of each antenna.

    Parameters
    ----------
    vis : Visibilities
        Calibrated.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of all sources.
    model : SkyModel
        The strongest of them, which show the antennas' beams.
    left_out : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.

    Returns
    -------
    AntennaBeams or None
        None where the antennas differ by no more than noise.
    """
    here = vis.antennas_present()
    sums, noise = _sums(vis, sky, model, left_out, here)
    if noise <= 0:
        return None
    normal, right = sums.equations(here.size)
    unscale = np.tile(_UNITS, here.size)
    normal, right = normal * unscale[:, None] * unscale[None], right * unscale
    prior = np.tile((_UNITS / _PRIOR) ** 2, here.size)
    agreed = _agreement(sums, noise, here.size, unscale, prior)
    if not agreed.any():
        return None
    seen = np.ones(_BEAM_TERMS, bool)
    for _ in range(_ROUNDS):
        covariance = np.linalg.inv(normal / noise + np.diag(prior))
        found = (covariance @ right).reshape(here.size, _TERMS) / noise
        noise *= sums.excess(found * _UNITS, noise)
        error = np.sqrt(np.diag(covariance)).reshape(here.size, _TERMS)
        scatter2 = np.array([robust_rms(one) ** 2 for one in found.T])
        noise2 = np.median(error**2, axis=0)
        doubt = _SIGNIFICANT * MEDIAN_OVER_MEAN * np.sqrt(2 / here.size) * noise2
        seen = agreed & (scatter2 - noise2 > doubt)[:_BEAM_TERMS]
        spread2 = np.maximum(scatter2 - noise2, 1e-3 * noise2)
        prior = np.tile(1 / spread2, here.size)
    if not seen.any():
        return None
    beams = np.where(seen, found[:, :_BEAM_TERMS], 0.0)
    beams = np.round((beams - np.median(beams, axis=0)) * _UNITS[:_BEAM_TERMS], _DECIMALS)
    names = tuple(vis.array.names[a] for a in here)
    return AntennaBeams(names, *(tuple(one.tolist()) for one in beams.T))


def _agreement(
    sums: "_Sums", noise: float, nantenna: int, unscale: np.ndarray, prior: np.ndarray
) -> np.ndarray:
    """Say for each of the beam's terms whether shorter and longer baselines agree on it."""
    halves, known = [], np.ones(nantenna, bool)
    longer = sums.length_m > np.median(sums.length_m)
    for half in (~longer, longer):
        part = sums.select(half)
        normal, right = part.equations(nantenna)
        normal = normal * unscale[:, None] * unscale[None] / noise + np.diag(prior)
        found = np.linalg.solve(normal, right * unscale / noise)
        halves.append(found.reshape(nantenna, _TERMS)[:, :_BEAM_TERMS])
        known &= np.bincount(np.append(part.first, part.second), minlength=nantenna) >= _IN_HALF
    count = np.count_nonzero(known)
    if count < _MIN_IN_BOTH:
        return np.zeros(_BEAM_TERMS, bool)
    # From robust variances: cov(a, b) = (var(a + b) - var(a - b)) / 4 of a and b of variance one.
    one, other = (half[known] / [robust_rms(x) for x in half[known].T] for half in halves)
    correlation = np.array([
        (robust_rms(a + b) ** 2 - robust_rms(a - b) ** 2) / 4
        for a, b in zip(one.T, other.T, strict=True)
    ])  # fmt: skip
    return correlation > max(_LEAST_AGREEMENT, _SIGNIFICANT / np.sqrt(count))


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the samples of each baseline.

    Attributes
    ----------
    first, second : ndarray of int, shape (npair,)
        Antennas.
    length_m : ndarray, shape (npair,)
    gram : ndarray, shape (npair, nterm, nterm)
        Products of the terms' visibilities with each other, weighted.
    cross : ndarray, shape (npair, nterm)
        Products of the terms' visibilities with data minus model, weighted.
    """

    first: np.ndarray
    second: np.ndarray
    length_m: np.ndarray
    gram: np.ndarray
    cross: np.ndarray

    def select(self, some: np.ndarray) -> "_Sums":
        """The baselines of a mask."""
        return _Sums(
            self.first[some], self.second[some], self.length_m[some], self.gram[some],
            self.cross[some],
        )  # fmt: skip

    def equations(self, nantenna: int) -> tuple[np.ndarray, np.ndarray]:
        """Normal matrix and right side of all antennas' terms."""
        normal = np.zeros((nantenna, _TERMS, nantenna, _TERMS))
        right = np.zeros((nantenna, _TERMS))
        for i, j, one, towards in zip(self.first, self.second, self.gram, self.cross, strict=True):
            normal[i, :, i] += one
            normal[j, :, j] += _SIGN[:, None] * one * _SIGN
            normal[i, :, j] += one * _SIGN
            normal[j, :, i] += _SIGN[:, None] * one
            right[i] += towards
            right[j] += _SIGN * towards
        n = nantenna * _TERMS
        return normal.reshape(n, n), right.ravel()

    def excess(self, found: np.ndarray, noise: float) -> float:
        """Variance of what is left on the baselines over that of the noise; at least one.

        Sources that the model does not hold are alike in all samples of a baseline, so errors
        follow from baselines, not from samples (Liang and Zeger 1986, Biometrika 73, 13).
        """
        expected = found[self.first] + _SIGN * found[self.second]
        left = self.cross - np.einsum("bkm,bm->bk", self.gram, expected)
        ratio = np.sum(left**2, axis=0) / (noise * np.einsum("bkk->k", self.gram))
        return max(1.0, float(ratio[:_BEAM_TERMS].max()))


def _sums(
    vis: Visibilities, sky: np.ndarray, model: SkyModel, left_out: np.ndarray, here: np.ndarray
) -> tuple[_Sums, float]:
    """Sums of all baselines of some antennas, and the variance per weight of a real component."""
    nantenna = here.size
    index = np.zeros(len(vis.array.names), np.int64)
    index[here] = np.arange(nantenna)
    apparent = model.apparent_jy(vis.beam_axis, vis.frequencies_hz, vis.dish_m)
    middle_hz = float(vis.frequencies_hz.mean())
    slopes = voltage_slopes(vis.beam_axis, model.directions, middle_hz, vis.dish_m)
    columns = np.empty((*vis.data.shape[:2], _BEAM_TERMS + 1), np.complex64)
    for k in range(_BEAM_TERMS):
        columns[:, :, k] = predict.predict_apparent(
            vis, model.directions, apparent * slopes[:, :, k, None], shapes=model.shapes
        )
    columns[:, :, _BEAM_TERMS] = sky
    hands = vis.parallel_hands
    some = slice(None, None, max(1, len(vis.data) // 5000))
    squares = (
        vis.weights[some][:, :, hands]
        * np.abs(vis.data[some][:, :, hands] - sky[some, :, None]) ** 2
    )
    kept = ~(vis.flags[some][:, :, hands] | left_out[some, :, None])
    noise = float(np.median(squares[kept]) / (2 * np.log(2))) if kept.any() else 0.0
    pair = index[vis.antenna1] * nantenna + index[vis.antenna2]
    pairs, pair_of_row = np.unique(pair, return_inverse=True)
    gram = np.zeros((pairs.size, _TERMS, _TERMS))
    cross = np.zeros((pairs.size, _TERMS))
    _accumulate(
        vis.data, vis.weights, vis.flags, left_out, columns, pair_of_row, np.array(hands),
        _CLIP * noise, gram, cross,
    )  # fmt: skip
    first, second = np.divmod(pairs, nantenna)
    place = vis.array.positions_itrf_m[here]
    length_m = np.linalg.norm(place[first] - place[second], axis=1)
    return _Sums(first, second, length_m, gram, cross), noise


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _accumulate(
    data: np.ndarray, weights: np.ndarray, flags: np.ndarray, left_out: np.ndarray,
    columns: np.ndarray, pair_of_row: np.ndarray, hands: np.ndarray, clip: float,
    gram: np.ndarray, cross: np.ndarray,
) -> None:  # fmt: skip
    """Add to the sums of each baseline over products of columns, and of columns with the rest.

    The last column is the sky; a phase turns it by a right angle.
    """
    nterm = columns.shape[2]
    terms = np.empty(nterm + 1, np.complex128)
    for row in range(data.shape[0]):
        pair = pair_of_row[row]
        for f in range(data.shape[1]):
            if left_out[row, f]:
                continue
            terms[:nterm] = columns[row, f]
            terms[nterm] = 1j * terms[nterm - 1]
            total, rest = 0.0, 0j
            for p in hands:
                w = weights[row, f, p]
                r = data[row, f, p] - terms[nterm - 1]
                if flags[row, f, p] or w * (r.real * r.real + r.imag * r.imag) > clip:
                    continue
                total += w
                rest += w * r
            if total == 0:
                continue
            for k in range(nterm + 1):
                a = terms[k]
                cross[pair, k] += a.real * rest.real + a.imag * rest.imag
                for m in range(nterm + 1):
                    b = terms[m]
                    gram[pair, k, m] += total * (a.real * b.real + a.imag * b.imag)
