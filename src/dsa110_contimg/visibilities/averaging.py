"""Baseline-dependent averaging: short baselines rotate slowly, so few samples hold them.

Averaging N samples whose phase at the field edge turns by x from one to the next loses
``(pi x)**2 / 6 (N**2 - 1)`` of a source's flux there. What is allowed is the loss of a
source in the image, the mean over all samples with their imaging weights: spending it where it
saves most samples for least weight leaves a fraction of what equal losses would leave.
"""

import functools
from dataclasses import dataclass

import numba
import numpy as np
from scipy import sparse

from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.visibilities.baselines import by_baseline
from dsa110_contimg.visibilities.data import Visibilities


@dataclass(frozen=True, eq=False)
class Samples:
    """Visibilities of one Stokes parameter, one number a sample.

    Attributes
    ----------
    uvw_lambda : ndarray, shape (nsample, 3)
    values : ndarray of complex64, shape (nsample,)
    weights : ndarray of float32, shape (nsample,)
    time : ndarray of float32, shape (nsample,)
        Mean integration number.
    frequency_hz : ndarray of float32, shape (nsample,)
    baseline : ndarray of int32, shape (nsample,)
    smearing : ndarray, shape (nbaseline, 3)
        What averaging took: a source at direction cosines (l, m) has lost
        ``s0 l**2 + 2 s1 l m + s2 m**2`` of its amplitude in the baseline's samples.
    integrations : ndarray of int, shape (nbaseline,)
        Maximum number of integrations in one sample.
    """

    uvw_lambda: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    time: np.ndarray
    frequency_hz: np.ndarray
    baseline: np.ndarray
    smearing: np.ndarray
    integrations: np.ndarray

    def select(self, some: slice | np.ndarray) -> "Samples":
        """The samples of a slice, index or mask."""
        return Samples(
            self.uvw_lambda[some],
            self.values[some],
            self.weights[some],
            self.time[some],
            self.frequency_hz[some],
            self.baseline[some],
            self.smearing,
            self.integrations,
        )

    def thinned(self, count: int) -> "Samples":
        """Select evenly spaced samples: at least `count`, fewer than twice as many, or all."""
        return self.select(slice(None, None, max(1, self.weights.size // count)))

    def baseline_weights(self, weights: np.ndarray) -> np.ndarray:
        """Sums of weights by baseline, shape (nbaseline,)."""
        return np.bincount(self.baseline, weights, self.smearing.shape[0])

    def mean_smearing(self, weights: np.ndarray) -> np.ndarray:
        """Smearing in an image with these weights, shape (3,)."""
        per_baseline = self.baseline_weights(weights)
        total = per_baseline.sum()
        return per_baseline @ self.smearing / total if total > 0 else np.zeros(3)


def integration_shares(samples: Samples, ntime: int) -> tuple[sparse.csr_array, np.ndarray]:
    """Compute the weight of each integration in each sample.

    A source drifts through the beam within one sample: at the centre of the beam its mean over a
    tile is 3 per cent below its value in the middle of the tile.

    Returns
    -------
    shares : csr_array, shape (nkind, ntime)
        One row per kind of sample (length and mean time); each row sums to one.
    kind : ndarray of int32, shape (nsample,)
    """
    lengths, which = np.unique(samples.integrations, return_inverse=True)
    shares = sparse.vstack([_shares_of_window(int(length), ntime) for length in lengths], "csr")
    half_step = np.clip(np.rint(2 * samples.time), 0, 2 * ntime - 2)
    kind = which[samples.baseline] * (2 * ntime - 1) + half_step
    return shares, kind.astype(np.int32)


@functools.lru_cache(maxsize=64)
def _shares_of_window(length: int, ntime: int) -> sparse.coo_array:
    """Compute the weight of each integration in running means of `length` integrations.

    The means are centred on every integration and halfway between neighbours; a window that would
    reach beyond the first or the last integration is shorter.
    """
    last = 2 * ntime - 2
    half_step = np.arange(last + 1)
    used = np.minimum(length, np.minimum(half_step, last - half_step) + 1)
    row = np.repeat(half_step, used)
    number = np.arange(row.size) - np.repeat(np.cumsum(used) - used, used)
    place = row - used[row] + 1 + 2 * number
    # A place between two integrations is half of each.
    columns = np.concatenate([place // 2, (place + 1) // 2])
    values = np.tile(0.5 / used[row], 2)
    return sparse.coo_array((values, (np.tile(row, 2), columns)), shape=(last + 1, ntime))


def averaging_factors(
    uvw_m: np.ndarray,
    time_index: np.ndarray,
    order: np.ndarray,
    edges: np.ndarray,
    frequencies_hz: np.ndarray,
    field_radius_rad: float,
    allowed_loss: float,
    importance: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrations and channels that each baseline is averaged over.

    Parameters
    ----------
    uvw_m : ndarray, shape (nrow, 3)
    time_index : ndarray of int, shape (nrow,)
    order : ndarray of int, shape (nrow,)
        Rows sorted by baseline, then time.
    edges : ndarray of int, shape (nbaseline + 1,)
        Where each baseline begins in `order`.
    frequencies_hz : ndarray, shape (nchan,)
    field_radius_rad : float
        Where the loss is allowed, north, south, east and west of the phase centre.
    allowed_loss : float
        Mean fraction of the flux density.
    importance : ndarray, shape (nbaseline,), optional
        Weight of each baseline in that mean; without it, its number of rows.

    Returns
    -------
    ntime, nchan : ndarray of int, shape (nbaseline,)
    smearing : ndarray, shape (nbaseline, 3)
        See `Samples`.
    """
    nchan = frequencies_hz.size
    mean_square_hz = float(np.mean(np.square(frequencies_hz)))
    width_hz = float(np.median(np.diff(frequencies_hz))) if nchan > 1 else 0.0
    sorted_uv = uvw_m[order, :2]
    step = np.diff(sorted_uv, axis=0, append=sorted_uv[-1:])
    span = np.diff(time_index[order], append=time_index[order[-1:]] + 1)
    # The last row of a baseline has no next one.
    rate = np.where((span > 0)[:, None], step / np.maximum(span, 1)[:, None], 0.0)
    moves = np.maximum(np.add.reduceat(span > 0, edges[:-1]), 1)[:, None]
    rows_of = np.diff(edges)[:, None]
    unit = np.pi**2 / 6 / SPEED_OF_LIGHT_M_S**2
    in_time = np.add.reduceat(_products(rate), edges[:-1]) / moves * unit * mean_square_hz
    in_channels = np.add.reduceat(_products(sorted_uv), edges[:-1]) / rows_of * unit * width_hz**2

    ntime = int(time_index.max()) + 1
    pairs = np.array([(t, c) for t in _candidates(ntime) for c in _candidates(nchan)])
    time_growth = _mean_square_minus_one(pairs[:, 0], ntime)
    channel_growth = _mean_square_minus_one(pairs[:, 1], nchan)
    both_ways = field_radius_rad**2 * np.array([1, 0, 1])
    losses = np.outer(in_time @ both_ways, time_growth)
    losses += np.outer(in_channels @ both_ways, channel_growth)
    samples = 1 / pairs.prod(axis=1)
    share = np.diff(edges) / order.size
    importance = share if importance is None else importance / importance.sum()
    size_of, loss_of = np.outer(share, samples), importance[:, None] * losses

    def choose(price: float) -> tuple[np.ndarray, np.ndarray]:
        best = (size_of + price * loss_of).argmin(axis=1)
        return best, in_time * time_growth[best, None] + in_channels * channel_growth[best, None]

    cheap, dear = 1e-6, 1e12
    while dear > 1.01 * cheap:
        middle = np.sqrt(cheap * dear)
        if edge_loss(importance @ choose(middle)[1], field_radius_rad) > allowed_loss:
            cheap = middle
        else:
            dear = middle
    best, smearing = choose(dear)
    return pairs[best, 0], pairs[best, 1], smearing


def edge_loss(smearing: np.ndarray, field_radius_rad: float) -> float:
    """What smearing, shape (3,), takes in the middle of the edge where it takes most."""
    return float(max(smearing[0], smearing[2]) * field_radius_rad**2)


def _products(vectors: np.ndarray) -> np.ndarray:
    """x x, x y and y y of vectors (n, 2)."""
    x, y = vectors.T
    return np.column_stack([x * x, x * y, y * y])


def _mean_square_minus_one(length: np.ndarray, total: int) -> np.ndarray:
    """Mean of N**2 - 1 over samples, N being the length of each one's block; the last is short."""
    whole, rest = total // length, total % length
    return np.asarray((whole * length * (length**2 - 1.0) + rest * (rest**2 - 1.0)) / total)


def _candidates(most: int) -> np.ndarray:
    """Averaging lengths to choose from: every small one, then steps of about a quarter."""
    steps = np.unique(np.round(1.25 ** np.arange(0, 60)).astype(int))
    return np.unique(np.append(steps[steps < most], most))


def stokes_i_samples(
    vis: Visibilities,
    flags: np.ndarray,
    field_radius_rad: float,
    allowed_loss: float,
    importance: np.ndarray | None = None,
    subtract: np.ndarray | None = None,
) -> Samples:
    """Average total intensity baseline by baseline.

    It is the mean of both parallel hands, or the one that is unflagged where the other is not.

    Parameters
    ----------
    vis : Visibilities
        The first and last polarization are the parallel hands.
    flags : ndarray of bool, shape (nrow, nchan, npol)
    field_radius_rad, allowed_loss, importance
        See `averaging_factors`; a loss of zero averages nothing. Baselines are in order of
        their antennas.
    subtract : ndarray of complex64, shape (nrow, nchan), optional
        Taken off the total intensity before averaging.
    """
    order, edges = by_baseline(vis.antenna1, vis.antenna2, vis.time_index)
    if allowed_loss > 0:
        nt, nc, smearing = averaging_factors(
            vis.uvw_m,
            vis.time_index,
            order,
            edges,
            vis.frequencies_hz,
            field_radius_rad,
            allowed_loss,
            importance,
        )
    else:
        nt = nc = np.ones(edges.size - 1, int)
        smearing = np.zeros((edges.size - 1, 3))
    size = int(np.sum(np.diff(edges) * -(-vis.frequencies_hz.size // nc)))
    out: tuple[np.ndarray, ...] = (
        np.empty((size, 3)),
        np.empty(size, np.complex64),
        *(np.empty(size, np.float32) for _ in range(3)),
        np.empty(size, np.int32),
    )
    n = _average(
        vis.data,
        flags,
        vis.weights,
        np.zeros((0, 0), np.complex64) if subtract is None else subtract,
        vis.uvw_m,
        vis.time_index,
        vis.frequencies_hz,
        order,
        edges,
        nt,
        nc,
        *out,
    )
    uvw, values, out_weights, times, at_hz, baseline = (array[:n] for array in out)
    return Samples(uvw, values, out_weights, times, at_hz, baseline, smearing, nt)


@numba.njit(cache=True, error_model="numpy")
def _average(
    data: np.ndarray,
    flags: np.ndarray,
    weights: np.ndarray,
    subtract: np.ndarray,
    uvw_m: np.ndarray,
    time_index: np.ndarray,
    frequencies_hz: np.ndarray,
    order: np.ndarray,
    edges: np.ndarray,
    ntimes: np.ndarray,
    nchans: np.ndarray,
    uvw: np.ndarray,
    values: np.ndarray,
    out_weights: np.ndarray,
    times: np.ndarray,
    frequencies: np.ndarray,
    baselines: np.ndarray,
) -> int:
    last = data.shape[2] - 1
    nchan = frequencies_hz.size
    less = subtract.size > 0
    n = 0
    for b in range(edges.size - 1):
        begin = edges[b]
        while begin < edges[b + 1]:
            block = time_index[order[begin]] // ntimes[b]
            end = begin
            while end < edges[b + 1] and time_index[order[end]] // ntimes[b] == block:
                end += 1
            for c0 in range(0, nchan, nchans[b]):
                total = 0.0
                value = 0j
                u = v = w = at = hz = 0.0
                for k in range(begin, end):
                    row = order[k]
                    for f in range(c0, min(nchan, c0 + nchans[b])):
                        wx, wy = weights[row, f, 0], weights[row, f, last]
                        has_x = not flags[row, f, 0] and wx > 0
                        has_y = not flags[row, f, last] and wy > 0
                        if has_x and has_y:
                            # Inverse variance of (XX + YY) / 2.
                            weight = 4 * wx * wy / (wx + wy)
                            sample = 0.5 * (data[row, f, 0] + data[row, f, last])
                        elif has_x:
                            weight, sample = wx, data[row, f, 0]
                        elif has_y:
                            weight, sample = wy, data[row, f, last]
                        else:
                            continue
                        if less:
                            sample -= subtract[row, f]
                        value += weight * sample
                        scale = weight * frequencies_hz[f]
                        u += scale * uvw_m[row, 0]
                        v += scale * uvw_m[row, 1]
                        w += scale * uvw_m[row, 2]
                        at += weight * time_index[row]
                        hz += scale
                        total += weight
                if total > 0:
                    uvw[n, 0] = u / total / SPEED_OF_LIGHT_M_S
                    uvw[n, 1] = v / total / SPEED_OF_LIGHT_M_S
                    uvw[n, 2] = w / total / SPEED_OF_LIGHT_M_S
                    values[n] = value / total
                    out_weights[n] = total
                    times[n] = at / total
                    frequencies[n] = hz / total
                    baselines[n] = b
                    n += 1
            begin = end
    return n
