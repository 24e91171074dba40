"""Measure how the phase of each antenna drifts during a tile.

A tile has one gain for each hand of each antenna. Where the sky is strong, what the phase does
meanwhile stands far above the noise: with a source of 100 Jy a drift of one degree leaves 2 Jy in
every visibility, which looks like interference and spoils the image.

For data ``D = exp(e_i + conj(e_j)) M`` with small drifts e of both antennas, real and imaginary
parts of ``D conj(M) - |M|^2`` are ``|M|^2 (Re e_i + Re e_j)`` and ``|M|^2 (Im e_i - Im e_j)`` to
first order: two real linear systems of as many unknowns as there are antennas, for each of some
Legendre polynomials in time. What was found is taken out and the rest is solved again. Every drift
is then shrunk towards zero by what its noise makes of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.row_sums import RowSums
from dsa110_contimg.robust import cauchy_weights
from dsa110_contimg.visibilities.data import Visibilities

_ORDER = 3
"""Highest Legendre polynomial in time."""
_ROUNDS = 4
_SIGNIFICANT = 3.0
_MIN_EFFECT = 0.15
"""In units of the noise of the image; a smaller one adds less than one per cent to it."""
_UNKNOWN = 0.01
"""Variance of the logarithm of a gain above which it is left alone: its linear steps diverge."""
_SINGULAR = 1e-10
"""Smaller eigenvalues, relative to the largest, are zero: a phase that all have is not seen."""
_DECIMALS = 7
"""The last bits of matrix products depend on the number of threads."""
_MEDIAN_SQUARE = 0.455
"""Median of the square of a normal variable, in units of its variance."""


@dataclass(frozen=True, eq=False)
class LogGains:
    """Logarithms of gains as polynomials in time.

    Attributes
    ----------
    basis : ndarray, shape (ntime, norder)
        The polynomials; the first is constant.
    antennas : ndarray of complex128, shape (norder, nantenna, nhand)
        What each antenna differs by from all together.
    common : ndarray, shape (norder, nhand)
        Amplitude that all antennas have in common.
    """

    basis: np.ndarray
    antennas: np.ndarray
    common: np.ndarray


@dataclass(frozen=True, eq=False)
class GainDrift:
    """Drifts of the gains of a tile.

    Attributes
    ----------
    values : ndarray of complex128, shape (ntime, nantenna, nhand)
        Logarithm of each antenna's gain, about its mean during the tile and about what all
        antennas have in common: phases only.
    effect : float
        Noise that the drifts add to an image if they stay, relative to the thermal noise.
    sky_factor : ndarray, shape (ntime,)
        The sky over its model: what the amplitudes of all antennas have in common.
    """

    values: np.ndarray
    effect: float
    sky_factor: np.ndarray

    @property
    def is_significant(self) -> bool:
        """True where the drift would be seen in an image."""
        return self.effect > _MIN_EFFECT

    @property
    def gains(self) -> Gains:
        """The drifts as gains of each integration, shape (ntime, nantenna, 1, nhand)."""
        values = np.exp(self.values[:, :, None, :])
        return Gains(values, np.zeros(values.shape, bool), np.ones(values.shape, np.float32))


def measure_drift(vis: Visibilities, sums: RowSums, share: float = 1.0) -> GainDrift:
    """Measure the drift of each antenna.

    Parameters
    ----------
    vis : Visibilities
    sums : RowSums
        Of its rows, at rest.
    share : float
        Of the samples of the tile that `sums` was made of.
    """
    found = solve_log_gains(vis, sums)
    # Mean phases are solved elsewhere, in bins along the band. Within minutes amplitudes change
    # because a source drifts through a beam that points elsewhere, which is no gain.
    values = 1j * np.einsum("tn,nah->tah", found.basis[:, 1:], found.antennas[1:].imag)
    sky_factor = np.exp(2 * np.mean(found.basis @ found.common, axis=1))
    at = vis.time_index
    left = values[at, vis.antenna1] + values[at, vis.antenna2].conj()
    baselines = np.unique(vis.antenna1.astype(np.int64) * values.shape[1] + vis.antenna2)
    effect = 0.0
    if sums.noise > 0:
        signal = np.sum(sums.power * np.abs(left) ** 2) / share
        effect = float(np.sqrt(signal / (2 * sums.noise * baselines.size * values.shape[2])))
    return GainDrift(values, effect, sky_factor)


def _polynomials(vis: Visibilities, power: np.ndarray) -> np.ndarray:
    """Polynomials over a tile that are orthogonal where the sky changes, shape (ntime, norder).

    Solved by themselves, they then agree with a solution of all together.
    """
    ntime = vis.times_jd.size
    weight = np.bincount(vis.time_index, power, ntime)
    basis = legendre.legvander(np.linspace(-1, 1, ntime), min(_ORDER, ntime - 1))
    for order in range(basis.shape[1]):
        for lower in basis[:, :order].T:
            norm = np.sum(weight * lower**2)
            if norm > 0:
                basis[:, order] -= np.sum(weight * lower * basis[:, order]) / norm * lower
    return np.asarray(basis)


def solve_log_gains(vis: Visibilities, sums: RowSums) -> LogGains:
    """Solve the logarithms of all antennas' gains.

    Parameters
    ----------
    vis : Visibilities
        Says which antennas and integrations the rows are of.
    sums : RowSums
    """
    nantenna, nhand = len(vis.array.names), sums.power.shape[1]
    basis = _polynomials(vis, sums.power.sum(axis=1))
    antennas = np.zeros((basis.shape[1], nantenna, nhand), complex)
    common = np.zeros((basis.shape[1], nhand))
    for hand in range(nhand):
        antennas[:, :, hand], common[:, hand] = _solve(vis, sums, hand, basis)
    return LogGains(basis, np.round(antennas, _DECIMALS), np.round(common, _DECIMALS))


def _solve(
    vis: Visibilities, sums: RowSums, hand: int, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve one hand: shapes (norder, nantenna) and (norder,)."""
    power = sums.power[:, hand]
    rows = np.flatnonzero(power > 0)
    a1, a2, at, power = vis.antenna1[rows], vis.antenna2[rows], vis.time_index[rows], power[rows]
    cross = sums.cross[rows, hand]
    sigma = np.sqrt(power * sums.noise)
    nantenna, shapes = len(vis.array.names), basis[at].T
    total = np.zeros((len(shapes), nantenna), complex)
    error = np.zeros((len(shapes), 2, nantenna))
    weight = np.ones(rows.size)
    excess = 1.0
    for _ in range(_ROUNDS):
        # Each baseline has weights of its own, so the polynomials are orthogonal but nearly.
        for order, shape in enumerate(shapes):
            step, error[order] = _antennas(
                a1, a2, nantenna, weight * shape * (cross - power), weight * shape**2 * power
            )
            # A hand without signal knows nothing of the sky.
            step[(error[order] * sums.noise > _UNKNOWN).any(axis=0)] = 0
            total[order] += step
            cross = cross * np.exp(-shape * (step[a1] + step[a2].conj()))
        pull = np.abs(cross - power) / (np.sqrt(2 * np.log(2)) * sigma)
        excess = max(1.0, float(np.median(pull))) if rows.size else 1.0
        weight = cauchy_weights(pull / excess)
    variance = error * sums.noise * excess**2
    common = np.zeros(len(shapes))
    for order in range(len(shapes)):
        real, imag = total[order].real, total[order].imag
        solved = variance[order, 0] > 0
        if solved.any():
            common[order] = np.median(real[solved])
            real = np.where(solved, real - common[order], 0.0)
            imag = np.where(solved, imag - np.median(imag[solved]), 0.0)
        total[order] = _shrunk(real, variance[order, 0]) + 1j * _shrunk(imag, variance[order, 1])
    return total, common


def _antennas(
    a1: np.ndarray, a2: np.ndarray, nantenna: int, cross: np.ndarray, power: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares drifts, and the inverse weights of their real and imaginary parts."""
    pair = np.zeros((nantenna, nantenna))
    np.add.at(pair, (a1, a2), power)
    pair += pair.T
    right = np.zeros(nantenna, complex)
    np.add.at(right, a1, cross)
    np.add.at(right, a2, cross.conj())
    there = np.flatnonzero(pair.sum(axis=1) > 0)
    step, error = np.zeros(nantenna, complex), np.zeros((2, nantenna))
    own, pair = np.diag(pair[there].sum(axis=1)), pair[np.ix_(there, there)]
    for number, (matrix, part) in enumerate(((own + pair, right.real), (own - pair, right.imag))):
        inverse = np.linalg.pinv(matrix, _SINGULAR, hermitian=True)
        step[there] += (1, 1j)[number] * (inverse @ part[there])
        error[number, there] = np.diag(inverse)
    return step, error


def _shrunk(values: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Values times the share of their squares that is not noise.

    The share is that of all antennas together, or the antenna's own where it stands out
    (James and Stein 1961).
    """
    solved = variance > 0
    if not solved.any():
        return np.zeros_like(values)
    square = np.where(solved, values**2, 0.0)
    typical = max(0.0, float(np.median((square - _MEDIAN_SQUARE * variance)[solved])))
    typical /= _MEDIAN_SQUARE
    with np.errstate(divide="ignore", invalid="ignore"):
        common = typical / (typical + variance)
        alone = 1 - _SIGNIFICANT**2 * variance / square
    share = np.where(solved & (square > 0), np.maximum(common, np.maximum(alone, 0)), 0.0)
    return np.asarray(share * values)
