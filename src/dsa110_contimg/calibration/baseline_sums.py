"""Sum over baselines what a fit of terms that belong to single antennas needs.

Data minus model of the antennas i and j is ``sum_k (p_ik + s_k p_jk) T_k``, where ``T_k`` is the
visibility that a unit of the term k makes in the first antenna of a baseline, and ``s_k`` its sign
in the second. Gain and phase of each antenna are always solved along: a gain that was solved
without the other terms fits the strongest source.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from dsa110_contimg.robust import component_variance
from dsa110_contimg.visibilities.data import Visibilities

_GAIN_AND_PHASE = (1.0, -1.0)
"""Signs with which they enter in the second antenna."""
_CLIP = 20.0
"""Times the variance of a real component: noise exceeds it once in twenty thousand samples."""


@dataclass(frozen=True, eq=False)
class BaselineSums:
    """Sums over the samples of each baseline.

    Attributes
    ----------
    sign : ndarray, shape (nterm,)
        Of each term in the second antenna; gain and phase are the last two terms.
    first, second : ndarray of int, shape (npair,)
        Antennas.
    length_m : ndarray, shape (npair,)
    gram : ndarray, shape (npair, nterm, nterm)
        Products of the terms' visibilities with each other, weighted.
    cross : ndarray, shape (npair, nterm)
        Products of the terms' visibilities with data minus model, weighted.
    noise : float
        Variance per weight of a real component.
    """

    sign: np.ndarray
    first: np.ndarray
    second: np.ndarray
    length_m: np.ndarray
    gram: np.ndarray
    cross: np.ndarray
    noise: float

    def select(self, some: np.ndarray) -> "BaselineSums":
        """The baselines of a mask."""
        return BaselineSums(
            self.sign,
            self.first[some],
            self.second[some],
            self.length_m[some],
            self.gram[some],
            self.cross[some],
            self.noise,
        )

    def equations(self, nantenna: int) -> tuple[np.ndarray, np.ndarray]:
        """Normal matrix and right side of all antennas' terms."""
        nterm, sign = self.sign.size, self.sign
        normal = np.zeros((nantenna, nterm, nantenna, nterm))
        right = np.zeros((nantenna, nterm))
        for i, j, one, towards in zip(self.first, self.second, self.gram, self.cross, strict=True):
            normal[i, :, i] += one
            normal[j, :, j] += sign[:, None] * one * sign
            normal[i, :, j] += one * sign
            normal[j, :, i] += sign[:, None] * one
            right[i] += towards
            right[j] += sign * towards
        n = nantenna * nterm
        return normal.reshape(n, n), right.ravel()

    def excess(self, found: np.ndarray, noise: float) -> float:
        """Variance of what is left on the baselines over that of the noise; at least one.

        Sources that the model does not hold are alike in all samples of a baseline, so errors
        follow from baselines, not from samples (Liang and Zeger 1986, Biometrika 73, 13).
        """
        expected = found[self.first] + self.sign * found[self.second]
        left = self.cross - np.einsum("bkm,bm->bk", self.gram, expected)
        ratio = np.sum(left**2, axis=0) / (noise * np.einsum("bkk->k", self.gram))
        return max(1.0, float(ratio[: -len(_GAIN_AND_PHASE)].max()))


def sum_baselines(
    vis: Visibilities,
    sky: np.ndarray,
    terms: Sequence[np.ndarray],
    sign: Sequence[float],
    here: np.ndarray,
) -> BaselineSums:
    """Sum over all baselines of some antennas.

    Parameters
    ----------
    vis : Visibilities
        Calibrated.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of all sources.
    terms : sequence of ndarray of complex64, shape (nrow, nchan)
        Those besides gain and phase, whose visibilities are the model and a quarter turn of it.
    sign : sequence of float
        Of each of `terms` in the second antenna of a baseline.
    here : ndarray of int
        Antennas with data; numbers in the sums are places in this list.
    """
    nantenna = here.size
    index = np.zeros(len(vis.array.names), np.int64)
    index[here] = np.arange(nantenna)
    columns = np.stack([*terms, sky], axis=2)
    hands = vis.parallel_hands
    some = slice(None, None, max(1, len(vis.data) // 5000))
    squares = (
        vis.weights[some][:, :, hands]
        * np.abs(vis.data[some][:, :, hands] - sky[some, :, None]) ** 2
    )
    kept = ~vis.flags[some][:, :, hands]
    noise = component_variance(squares[kept]) if kept.any() else 0.0
    pair = index[vis.antenna1] * nantenna + index[vis.antenna2]
    pairs, pair_of_row = np.unique(pair, return_inverse=True)
    nterm = len(terms) + len(_GAIN_AND_PHASE)
    gram = np.zeros((pairs.size, nterm, nterm))
    cross = np.zeros((pairs.size, nterm))
    _accumulate(
        vis.data,
        vis.weights,
        vis.flags,
        columns,
        pair_of_row,
        np.array(hands),
        _CLIP * noise,
        gram,
        cross,
    )
    first, second = np.divmod(pairs, nantenna)
    place = vis.array.positions_itrf_m[here]
    length_m = np.linalg.norm(place[first] - place[second], axis=1)
    signs = np.array([*sign, *_GAIN_AND_PHASE])
    return BaselineSums(signs, first, second, length_m, gram, cross, noise)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _accumulate(
    data: np.ndarray,
    weights: np.ndarray,
    flags: np.ndarray,
    columns: np.ndarray,
    pair_of_row: np.ndarray,
    hands: np.ndarray,
    clip: float,
    gram: np.ndarray,
    cross: np.ndarray,
) -> None:
    """Add to the sums of each baseline over products of columns, and of columns with the rest.

    The last column is the sky; a phase turns it by a right angle.
    """
    nterm = columns.shape[2]
    terms = np.empty(nterm + 1, np.complex128)
    for row in range(data.shape[0]):
        pair = pair_of_row[row]
        for f in range(data.shape[1]):
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
