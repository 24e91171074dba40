"""Take the Sun, the Moon and the strongest sources off, where they are far outside the beam.

Sidelobes of a dish far from its axis differ from antenna to antenna and are not known, and of what
comes through them only short baselines keep something: on long ones channels and integrations are
wide against its fringes. Each short baseline therefore gets an amplitude of its own that changes
slowly in time and frequency, in the frame in which the source stands still. Its fringes tell a
source: it is taken off only if data minus model has more of its fringes than of those that the same
source would have elsewhere in the sky.
"""

from dataclasses import dataclass

import numba
import numpy as np

from dsa110_contimg.calibration.channels import some_channels
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.predict import source_delays_m
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.strong_sources import FarSource, strong_sources
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.phasing import phasor

_LONGEST_M = 250.0
"""Longer baselines resolve the Sun and keep little of any source's fringes."""
_NEAREST_RAD = np.deg2rad(8.0)
"""Sources that are nearer to the beam's centre are in the sky model."""
_CELLS = 24
"""Along the band; fringes are taken out before samples are summed."""
_TIME_DEGREE, _BAND_DEGREE = 2, 3
"""Degrees of the polynomials that each baseline gets: in five minutes a source moves by half a
sidelobe, and over the band sidelobes scale by 13 %."""
_DECOYS_RAD = np.deg2rad([-50.0, -40.0, -30.0, -20.0, 20.0, 30.0, 40.0, 50.0])
"""Turns about the pole that make the decoys of a source."""
_SOME_PAIRS, _SOME_CHANNELS = 50, 48
"""Detection reads so many of the shortest baselines, as many of all short ones, and so many
channels."""
_MIN_EXCESS = 0.3
"""Minimum excess of the logarithm of the power over that of the strongest decoy. It is at most 0.1
where there is no source, with crosstalk of 30 Jy too, and 0.7 for 1 Jy of the Sun
(tests/calibration/test_far_sources.py)."""
_SIGNIFICANT = 5.0
"""Standard errors of the noise above which a baseline gets an amplitude."""
_SAMPLES, _CENTRE, _WEIGHTS = range(3)
"""What sums over cells hold."""


def subtract_far_sources(
    vis: Visibilities, sky: np.ndarray, left_out: np.ndarray, gains: Gains | None = None
) -> tuple[FarSource, ...]:
    """Find sources far outside the beam and take them off a tile, in place.

    Samples of short baselines beyond those that tell of a source are flagged.

    Parameters
    ----------
    vis : Visibilities
        Calibrated, but for the gains.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of total intensity.
    left_out : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    gains : Gains, optional
        Shape (1, nantenna, 1 or nchan, npol), still in the data.
    """
    rows, pair_of_row = _short_pairs(vis)
    if rows.size == 0:
        return ()
    axis = vis.pointings[vis.times_jd.size // 2]
    zenith = _zenith(vis)
    # The model leaves something of the sky in the beam, which has fringes, too.
    known, candidates = [axis], dict[str, np.ndarray]()
    for name, direction in strong_sources(float(vis.times_jd.mean())).items():
        if astrometry.separation_rad(direction, axis) < _NEAREST_RAD:
            known.append(direction)
        elif direction @ zenith > 0:
            candidates[name] = direction
    found = []
    while candidates:
        some = _some(vis, sky, left_out, gains, rows, pair_of_row)
        left = some.powers(np.array(known)).max(axis=0)
        excess = {name: some.excess(candidates[name], left) for name in candidates}
        # The strongest first: others may only have been heard because they are near to it.
        name = max(excess, key=lambda name: excess[name])
        if excess[name] < _MIN_EXCESS:
            break
        every = _Fringes(vis, sky, left_out, gains, rows, pair_of_row)
        found.append(every.take_off(name, candidates.pop(name)))
    return tuple(found)


def _zenith(vis: Visibilities) -> np.ndarray:
    """Direction of the zenith in the middle of a tile, ICRS, shape (3,)."""
    site = vis.array.site
    up = astrometry.tangent_axes(site.longitude_rad, site.latitude_rad)[2]
    frame = astrometry.EarthFrame(vis.times_jd[[vis.times_jd.size // 2]], site)
    return np.asarray(frame.icrs_direction(up)[0])


def _about_pole(direction: np.ndarray, angle_rad: float) -> np.ndarray:
    ra, dec = astrometry.vector_to_radec(direction)
    return astrometry.radec_to_vector(float(ra) + angle_rad, float(dec))


def _short_pairs(vis: Visibilities) -> tuple[np.ndarray, np.ndarray]:
    """Rows of short baselines, and the number of the baseline of each, the shortest first."""
    positions, nantenna = vis.array.positions_itrf_m, len(vis.array.names)
    apart = np.linalg.norm(positions[vis.antenna1] - positions[vis.antenna2], axis=1)
    rows = np.flatnonzero((apart > 0) & (apart < _LONGEST_M))
    code = vis.antenna1[rows].astype(np.int64) * nantenna + vis.antenna2[rows]
    _, first, pair_of_row = np.unique(code, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(apart[rows[first]], kind="stable"))
    return rows, rank[pair_of_row]


class _Fringes:
    """Data minus model of some baselines, turned to any direction."""

    def __init__(
        self,
        vis: Visibilities,
        sky: np.ndarray,
        left_out: np.ndarray,
        gains: Gains | None,
        rows: np.ndarray,
        pair_of_row: np.ndarray,
    ):
        self._vis, self._sky, self._left_out = vis, sky, left_out
        self._rows, self._pair_of_row = rows, pair_of_row
        self._hands = np.array(vis.parallel_hands)
        nchan = vis.frequencies_hz.size
        self._cell_of_channel = np.arange(nchan) * min(_CELLS, nchan) // nchan
        shape = (len(vis.array.names), nchan, self._hands.size)
        self._gain = np.ones(shape, np.complex64)
        if gains is not None:
            # Samples of a gain of zero are passed over.
            known = np.where(gains.flags[0], 0, gains.values[0])
            self._gain = np.broadcast_to(known, shape).astype(np.complex64)
        ncell = int(self._cell_of_channel[-1]) + 1
        self._shape = (int(pair_of_row.max()) + 1, vis.times_jd.size, ncell, self._hands.size)
        centres_hz = np.bincount(self._cell_of_channel, vis.frequencies_hz) / np.bincount(
            self._cell_of_channel
        )
        self._in_time = _polynomials(np.arange(float(vis.times_jd.size)), _TIME_DEGREE)
        self._in_band = _polynomials(centres_hz, _BAND_DEGREE, vis.frequencies_hz)
        self._of_channels = _polynomials(vis.frequencies_hz, _BAND_DEGREE, vis.frequencies_hz)
        self._basis = np.einsum("ti,fj->tfij", self._in_time, self._in_band).reshape(
            vis.times_jd.size * ncell, -1
        )
        # They are the same for all directions.
        self._weight = self._sum(_WEIGHTS, np.zeros(rows.size)).real.copy()
        flat = self._by_pair_and_hand(self._weight)
        normal = np.einsum("qk,ki,kj->qij", flat, self._basis, self._basis, optimize=True)
        # Keeps baselines without samples, or with few, solvable.
        ridge = 1e-9 * np.trace(normal, axis1=1, axis2=2) + 1e-30
        self._normal = normal + ridge[:, None, None] * np.eye(self._basis.shape[1])

    def _by_pair_and_hand(self, cells: np.ndarray) -> np.ndarray:
        """Cells of time and frequency side by side, shape (npair * nhand, ntime * ncell)."""
        npair, _, _, nhand = self._shape
        return np.moveaxis(cells, 3, 1).reshape(npair * nhand, -1)

    def _sum(self, what: int, paths_m: np.ndarray) -> np.ndarray:
        """Sums over cells of what comes along paths; see `_sum_cells`."""
        vis, total = self._vis, np.zeros(self._shape, complex)
        _sum_cells(
            vis.data,
            self._sky,
            vis.flags,
            vis.weights,
            self._left_out,
            self._gain,
            paths_m,
            vis.frequencies_hz,
            self._rows,
            self._pair_of_row,
            vis.time_index,
            vis.antenna1,
            vis.antenna2,
            self._hands,
            self._cell_of_channel,
            what,
            total,
        )
        return total

    def _paths_m(self, directions: np.ndarray) -> np.ndarray:
        """Paths of sources relative to the phase centre, shape (nsource, nrow)."""
        vis = self._vis
        paths = source_delays_m(vis.array, vis.times_jd, vis.phase_centre_rad, directions)
        times = vis.time_index[self._rows]
        first, second = vis.antenna1[self._rows], vis.antenna2[self._rows]
        return np.asarray(paths[times, :, first] - paths[times, :, second]).T.copy()

    def _fit(self, what: int, paths_m: np.ndarray) -> "_Fit":
        """Fit the amplitudes of all baselines to what comes along paths, shape (nrow,)."""
        total = self._sum(what, paths_m)
        projected = self._by_pair_and_hand(total) @ self._basis
        solved = np.linalg.solve(self._normal, projected[:, :, None])[:, :, 0]
        npair, _, _, nhand = self._shape
        explained = np.sum(projected.conj() * solved, axis=1).real.reshape(npair, nhand)
        return _Fit(total, solved.reshape(npair, nhand, -1), explained)

    def _power(self, fit: "_Fit") -> np.ndarray:
        """Chi-square that a fit explains, over what noise would give it, shape (npair, nhand)."""
        nbasis = self._basis.shape[1]
        count = np.maximum(np.count_nonzero(self._weight, axis=(1, 2)) - nbasis, 1)
        squares = np.abs(fit.total) ** 2 / np.maximum(self._weight, 1e-30)
        noise = np.maximum(np.sum(squares, axis=(1, 2)) - fit.explained, 1e-30) / count
        return np.asarray(fit.explained / (noise * nbasis))

    def powers(self, directions: np.ndarray) -> np.ndarray:
        """Logarithms of the power of fringes over that of noise, of some directions.

        Returns
        -------
        ndarray, shape (nsource, 2)
            Mean of the shortest baselines, and of all.
        """
        powers = [self._power(self._fit(_SAMPLES, paths)) for paths in self._paths_m(directions)]
        logarithms = np.log(np.maximum(powers, 1e-3))
        means = [logarithms[:, :_SOME_PAIRS].mean(axis=(1, 2)), logarithms.mean(axis=(1, 2))]
        return np.stack(means, axis=1)

    def excess(self, direction: np.ndarray, left: np.ndarray) -> float:
        """Logarithm of the power of a source's fringes over that of the strongest decoy.

        Parameters
        ----------
        direction : ndarray, shape (3,)
        left : ndarray, shape (2,)
            Power of the fringes of what the model may have left.
        """
        decoys = [_about_pole(direction, angle) for angle in _DECOYS_RAD]
        own, *others = self.powers(np.array([direction, *decoys]))
        return float(np.max(own - np.max([left, *others], axis=0)))

    def take_off(self, name: str, direction: np.ndarray) -> FarSource:
        """Take a source off the data."""
        vis = self._vis
        (paths_m,) = self._paths_m(direction[None])
        fit = self._fit(_SAMPLES, paths_m)
        power = self._power(fit)
        heard = power - 1 > _SIGNIFICANT / np.sqrt(self._basis.shape[1])
        # Amplitudes are shrunk by their noise.
        kept = np.where(heard, 1 - 1 / np.maximum(power, 1e-30), 0.0)
        amplitudes = fit.amplitudes * kept[:, :, None]
        of_centre = self._fit(_CENTRE, paths_m).explained
        loss = kept * of_centre / np.maximum(self._weight.sum(axis=(1, 2)), 1e-30)
        npair, nhand = self._shape[0], self._shape[3]
        shape = (npair, nhand, self._in_time.shape[1], self._in_band.shape[1])
        # Of each polynomial along the band, at each time.
        waves = np.einsum("phij,ti->ptjh", amplitudes.reshape(shape), self._in_time)
        _subtract_waves(
            vis.data,
            waves.astype(np.complex64),
            self._of_channels,
            self._gain,
            paths_m,
            vis.frequencies_hz,
            self._rows,
            self._pair_of_row,
            vis.time_index,
            vis.antenna1,
            vis.antenna2,
            self._hands,
        )
        self._flag_beyond(heard)
        taken = np.einsum("ptjh,cj->ptch", waves, self._in_band)[self._weight > 0]
        n_antennas = vis.antennas_present().size
        n_pairs = max(1, n_antennas * (n_antennas - 1) // 2)
        return FarSource(
            name,
            float(np.sqrt(np.mean(np.abs(taken) ** 2))),
            float(loss.mean(axis=1).sum() / n_pairs),
        )

    def _flag_beyond(self, heard: np.ndarray) -> None:
        """Flag what lies before the first or after the last sample that was fitted.

        A polynomial says nothing there, and what it would leave is too smooth to be found as
        interference.

        Parameters
        ----------
        heard : ndarray of bool, shape (npair, nhand)
        """
        seen = self._weight > 0
        beyond_in_time = ~_between(np.asarray(seen.any(axis=2)))[
            self._pair_of_row, self._vis.time_index[self._rows]
        ]
        beyond_in_band = ~_between(np.asarray(seen.any(axis=1)))[self._pair_of_row][
            :, self._cell_of_channel
        ]
        beyond = (beyond_in_time[:, None] | beyond_in_band) & heard[self._pair_of_row][:, None]
        flags = self._vis.flags
        for number, hand in enumerate(self._hands):
            flags[self._rows, :, hand] |= beyond[:, :, number]


def _between(seen: np.ndarray) -> np.ndarray:
    """From the first to the last that was seen along the second axis, shape (npair, n, nhand)."""
    since = np.maximum.accumulate(seen, axis=1)
    until = np.maximum.accumulate(seen[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(since & until)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Amplitudes of baselines.

    Attributes
    ----------
    total : ndarray of complex, shape (npair, ntime, ncell, nhand)
        Weighted sums over cells of what was fitted.
    amplitudes : ndarray of complex, shape (npair, nhand, nbasis)
    explained : ndarray, shape (npair, nhand)
        By how much the fit lowers chi-square.
    """

    total: np.ndarray
    amplitudes: np.ndarray
    explained: np.ndarray


def _some(
    vis: Visibilities,
    sky: np.ndarray,
    left_out: np.ndarray,
    gains: Gains | None,
    rows: np.ndarray,
    pair_of_row: np.ndarray,
) -> _Fringes:
    """Fringes of some baselines and channels."""
    step = max(1, (int(pair_of_row.max()) + 1) // _SOME_PAIRS)
    few = (pair_of_row < _SOME_PAIRS) | (pair_of_row % step == 0)
    _, number = np.unique(pair_of_row[few], return_inverse=True)
    chosen = some_channels(vis, _SOME_CHANNELS)
    part = vis.rows(rows[few]).channels(chosen)
    if gains is not None and gains.values.shape[2] > 1:
        gains = gains.channels(chosen)
    cut = np.ix_(rows[few], chosen)
    return _Fringes(part, sky[cut], left_out[cut], gains, np.arange(part.data.shape[0]), number)


def _polynomials(x: np.ndarray, degree: int, reach: np.ndarray | None = None) -> np.ndarray:
    """Legendre polynomials at some values, shape (nx, at most degree + 1).

    Parameters
    ----------
    x : ndarray, shape (nx,)
    degree : int
    reach : ndarray, optional
        Values that span the interval from -1 to 1; default: `x`.
    """
    reach = x if reach is None else reach
    half = max(float(np.ptp(reach)) / 2, 1e-30)
    scaled = (x - (reach.min() + half)) / half if reach.size > 1 else np.zeros(x.size)
    return np.polynomial.legendre.legvander(scaled, min(degree, reach.size - 1))


@numba.njit(cache=True, error_model="numpy")
def _sum_cells(
    data: np.ndarray,
    sky: np.ndarray,
    flags: np.ndarray,
    weights: np.ndarray,
    left_out: np.ndarray,
    gain: np.ndarray,
    path_m: np.ndarray,
    frequencies_hz: np.ndarray,
    rows: np.ndarray,
    pair_of_row: np.ndarray,
    time_index: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    hands: np.ndarray,
    cell_of_channel: np.ndarray,
    what: int,
    total: np.ndarray,
) -> None:
    """Sum samples, turned to a source, over cells of time and frequency.

    `what` says of what: data minus model or a source of one in the phase centre, with weights, or
    the weights themselves.
    """
    for n in range(rows.size):
        row, k = rows[n], pair_of_row[n]
        t, i, j = time_index[row], antenna1[row], antenna2[row]
        for f in range(data.shape[1]):
            if left_out[row, f]:
                continue
            turn = 1.0 + 0.0j
            if what != _WEIGHTS:
                turn = phasor(-path_m[n] / SPEED_OF_LIGHT_M_S * frequencies_hz[f])
            c = cell_of_channel[f]
            for h in range(hands.size):
                p = hands[h]
                w = weights[row, f, p]
                if flags[row, f, p] or not w > 0:
                    continue
                g = gain[i, f, h] * np.conj(gain[j, f, h])
                power = g.real * g.real + g.imag * g.imag
                if not power > 0:
                    continue
                # Divided by the gains, a sample weighs so much more.
                w *= power
                if what == _SAMPLES:
                    total[k, t, c, h] += w * (data[row, f, p] / g - sky[row, f]) * turn
                elif what == _CENTRE:
                    total[k, t, c, h] += w * turn
                else:
                    total[k, t, c, h] += w


@numba.njit(cache=True, error_model="numpy")
def _subtract_waves(
    data: np.ndarray,
    waves: np.ndarray,
    of_channels: np.ndarray,
    gain: np.ndarray,
    path_m: np.ndarray,
    frequencies_hz: np.ndarray,
    rows: np.ndarray,
    pair_of_row: np.ndarray,
    time_index: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    hands: np.ndarray,
) -> None:
    """Take amplitudes, turned to the phase centre and times gains, off the data.

    `waves` has the coefficients of the polynomials in `of_channels` (shape (nchan, npolynomial)),
    shape (npair, ntime, npolynomial, nhand).
    """
    for n in range(rows.size):
        row, k = rows[n], pair_of_row[n]
        t, i, j = time_index[row], antenna1[row], antenna2[row]
        for f in range(data.shape[1]):
            turn = phasor(path_m[n] / SPEED_OF_LIGHT_M_S * frequencies_hz[f])
            for h in range(hands.size):
                value = 0.0j
                for m in range(of_channels.shape[1]):
                    value += waves[k, t, m, h] * of_channels[f, m]
                g = gain[i, f, h] * np.conj(gain[j, f, h])
                data[row, f, hands[h]] -= np.complex64(value * turn * g)
