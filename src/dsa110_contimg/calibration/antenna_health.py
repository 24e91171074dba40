"""Compare each antenna in a tile with the same antenna in the reference tile.

A tile is calibrated with gains of another tile, so an antenna whose gain or delay has changed since
spoils every baseline it is part of. Each polarization of each antenna is therefore solved again,
with its amplitude, in bins along the band. Where amplitude or delay depart significantly from those
of the reference tile, the antenna takes its own solution; where there is none to take, it is
flagged in this tile. All other antennas keep their amplitudes: only departures from what the
antennas have in common are looked at, since what they have in common may be a source that varies.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from dsa110_contimg.calibration.antenna_state import (
    MIN_AMPLITUDE_CHANGE,
    MIN_DELAY_NS,
    SIGNIFICANT,
    AntennaHealth,
    AntennaState,
)
from dsa110_contimg.calibration.channels import solve_bins
from dsa110_contimg.calibration.delay import delay_gains, fit_delays
from dsa110_contimg.calibration.gains import Gains, refer_phases
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.robust import component_variance, robust_rms
from dsa110_contimg.visibilities.data import Visibilities

_BINS = 16
_MIN_DELAY_BINS = 4
_MIN_COHERENCE = 0.7
"""Minimum coherence of the gains of all bins after delay and phase are removed. An antenna below it
has changed in a way that a gain and a delay do not describe."""
_MIN_AMPLITUDE = 0.2
"""An antenna that receives less of the sky than this, relative to the others, has failed."""
_SIGNIFICANT, _CLIP_SIGMA = 3.0, 10.0
_LEAST_NOISE = 0.05
"""Minimum share of the noise of both hands that one has."""
_NEIGHBOURS = 9
"""Antennas at like distance from the centre that an amplitude is compared with."""
_NOISY = 2.0
"""Variance of the residuals, relative to the median antenna, from which on it is remarkable."""
_DECIMALS = 4
"""More than the errors need: what is kept of months is rounded."""


@dataclass(frozen=True, eq=False)
class TileGains:
    """Differences of the antennas of a tile from the reference tile.

    Attributes
    ----------
    flat : ndarray of complex128, shape (nantenna, npol)
        Phases of all antennas in mid-band, and amplitudes where they have changed.
    own_delay_s : ndarray, shape (nantenna, npol)
        Delays where they have changed, else zero.
    reference_hz : float
        Where a delay's phase is zero.
    frequencies_hz : ndarray, shape (nchan,)
        Of the data.
    flags : ndarray of bool, shape (nantenna, npol)
        Antennas that have failed or are not in the data.
    snr : ndarray, shape (nantenna, npol)
    amplitude, amplitude_error : ndarray, shape (nantenna, npol)
        Relative to antennas as far from the array's centre; NaN where unsolved.
    delay_s, delay_error_s : ndarray, shape (nantenna, npol)
        Relative to the median; NaN where unsolved.
    changed : ndarray of bool, shape (nantenna, npol)
    failed : ndarray of bool, shape (nantenna, npol)
        Have data and a solution in the reference tile, and none here.
    """

    flat: np.ndarray
    own_delay_s: np.ndarray
    reference_hz: float
    frequencies_hz: np.ndarray
    flags: np.ndarray
    snr: np.ndarray
    amplitude: np.ndarray
    amplitude_error: np.ndarray
    delay_s: np.ndarray
    delay_error_s: np.ndarray
    changed: np.ndarray
    failed: np.ndarray

    @property
    def gains(self) -> Gains:
        """The same as gains, shape (1, nantenna, nchan, npol)."""
        return self.gains_at(self.frequencies_hz)

    def gains_at(self, frequencies_hz: np.ndarray) -> Gains:
        """The same for other channels."""
        slope = delay_gains(
            self.own_delay_s[None, :, None],
            self.flags[None, :, None],
            frequencies_hz,
            self.reference_hz,
        )
        values = np.where(slope.flags, 1.0, self.flat[None, :, None] * slope.values)
        snr = np.broadcast_to(self.snr[None, :, None], values.shape).astype(np.float32)
        return Gains(values, slope.flags, snr)

    def health(self, vis: Visibilities, noise: np.ndarray) -> tuple[AntennaHealth, ...]:
        """State of every antenna that is in the data.

        Parameters
        ----------
        vis : Visibilities
        noise : ndarray, shape (nantenna, npol)
            Relative variance of the residuals, NaN without unflagged data.
        """
        phase = np.rad2deg(np.angle(self.flat))
        found = []
        for a, p in itertools.product(vis.antennas_present().tolist(), range(noise.shape[1])):
            state = AntennaState.STEADY
            if self.failed[a, p]:
                state = AntennaState.FAILED
            elif not np.isfinite(self.amplitude[a, p]):
                state = AntennaState.UNSOLVED
            elif self.changed[a, p]:
                state = AntennaState.CHANGED
            elif noise[a, p] > _NOISY:
                state = AntennaState.NOISY
            numbers = (
                self.amplitude[a, p],
                self.amplitude_error[a, p],
                1e9 * self.delay_s[a, p],
                1e9 * self.delay_error_s[a, p],
                phase[a, p],
                noise[a, p],
            )
            values = (round(float(np.nan_to_num(x, posinf=0.0)), _DECIMALS) for x in numbers)
            found.append(AntennaHealth(vis.array.names[a], p, state, *values))
        return tuple(found)


def solve_tile_gains(
    vis: Visibilities, sky: np.ndarray, rfi: np.ndarray, limits: SolveOptions
) -> TileGains:
    """Solve how the antennas of a tile differ from the reference tile.

    Parameters
    ----------
    vis : Visibilities
        Calibrated with the reference tile's solution.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of total intensity.
    rfi : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    limits : SolveOptions
        Its minimum signal-to-noise ratio is that of all bins together.
    """
    frequencies = vis.frequencies_hz
    reference_hz = float(frequencies.mean())
    channel_bin = np.arange(frequencies.size) * min(_BINS, frequencies.size) // frequencies.size
    solved = solve_bins(
        vis, sky, rfi, limits.model_copy(update={"min_snr": 0.0}), channel_bin, phase_only=False
    )
    solved, _ = refer_phases(solved, vis.array.names, limits.reference_antennas)
    centres = np.bincount(channel_bin, frequencies) / np.bincount(channel_bin)
    delay, delay_error = _delays(solved, centres, reference_hz)
    turned = _turned(solved, centres, reference_hz, delay)
    # A slip of the reference antenna would otherwise be everyone else's.
    shared = _median(delay)
    delay = delay - shared
    weight = np.where(solved.flags[0], 0.0, (solved.snr[0] / np.abs(solved.values[0])) ** 2)
    total = weight.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.sum(weight * turned, axis=1) / total
        coherence = np.abs(mean) / (np.sum(weight * np.abs(turned), axis=1) / total)
        error = 1 / np.sqrt(total)
        absolute = np.abs(mean)
        good = (total > 0) & (absolute > limits.min_snr * error) & (coherence > _MIN_COHERENCE)
    # What all antennas far from the centre have in common is a resolved source of the model.
    usual = _usual_amplitude(absolute, good, vis.array.positions_itrf_m)
    good &= absolute > _MIN_AMPLITUDE * usual
    amplitude, error = absolute / usual, error / usual
    departs = good & _departs(amplitude - 1, error, good, MIN_AMPLITUDE_CHANGE)
    slips = good & _departs(delay, delay_error, good, 1e-9 * MIN_DELAY_NS)
    # The phase in mid-band belongs to the delay that is taken out.
    own_delay = np.where(slips, delay, 0.0)
    straight = _turned(solved, centres, reference_hz, own_delay + shared)
    phase = np.angle(np.sum(weight * straight, axis=1))
    nothing = solved.flags[0].all(axis=1)
    return TileGains(
        flat=np.where(good, np.where(departs, amplitude, 1.0) * np.exp(1j * phase), 1.0),
        own_delay_s=np.where(good, own_delay, 0.0),
        reference_hz=reference_hz,
        frequencies_hz=frequencies,
        flags=~good,
        snr=np.where(good, amplitude / error, 0.0),
        amplitude=np.where(good, amplitude, np.nan),
        amplitude_error=np.where(good, error, np.nan),
        delay_s=np.where(good, delay, np.nan),
        delay_error_s=np.where(good, delay_error, np.nan),
        changed=departs | slips,
        failed=~good & ~nothing,
    )


def antenna_noise(vis: Visibilities, sky: np.ndarray) -> np.ndarray:
    """Noise variance of each antenna, relative to the median antenna.

    What the model lacks of the sky is the same in both hands: it adds nothing to the variance of
    their difference, nor to the difference of their variances. Without that, a resolved source
    that is modelled as a point takes weight from the longest baselines.

    Parameters
    ----------
    vis : Visibilities
        Calibrated; or some rows of it.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of the same rows.

    Returns
    -------
    ndarray, shape (nantenna, npol)
        Of the parallel hands; NaN without unflagged data. Of a hand without its twin, the variance
        of data minus model.
    """
    hands = vis.parallel_hands
    residual = np.sqrt(vis.weights[:, :, hands]) * (vis.data[:, :, hands] - sky[:, :, None])
    residual[vis.flags[:, :, hands]] = np.nan
    noise = np.full((len(vis.array.names), len(hands)), np.nan)
    for antenna in vis.antennas_present():
        rows = (vis.antenna1 == antenna) | (vis.antenna2 == antenna)
        own = residual[rows].reshape(-1, len(hands))
        twins = own[np.isfinite(own).all(axis=1)]
        if len(hands) == 2 and len(twins):
            noise[antenna] = _without_sky(twins)
        else:
            noise[antenna] = [_variance(own[:, p]) for p in range(len(hands))]
    typical = np.nanmedian(noise) if np.isfinite(noise).any() else 1.0
    return np.asarray(noise / typical) if typical > 0 else noise


def _without_sky(twins: np.ndarray) -> np.ndarray:
    """Variances of the noise of two hands that see the same sky.

    Parameters
    ----------
    twins : ndarray of complex, shape (nsample, 2)
        Data minus model.
    """
    both = _variance(twins[:, 1] - twins[:, 0])
    unequal = np.abs(twins[:, 0]) ** 2 - np.abs(twins[:, 1]) ** 2
    spread = robust_rms(unequal)
    kept = unequal[np.abs(unequal) <= _CLIP_SIGMA * spread]
    # The sky beats with the noise of each hand: of a strong one, too much is left of this.
    significant = abs(kept.mean()) > _SIGNIFICANT * spread / np.sqrt(kept.size)
    more = float(kept.mean()) if significant else 0.0
    return np.maximum(np.array([both + more, both - more]) / 2, _LEAST_NOISE * both)


def _variance(values: np.ndarray) -> float:
    """Variance of the complex numbers that are known."""
    return 2 * component_variance(np.abs(values[np.isfinite(values)]) ** 2)


def noise_weights(noise: np.ndarray) -> np.ndarray:
    """Factors that make the weights of antennas those of their measured noise."""
    return np.where(noise > 0, 1 / np.where(noise > 0, noise, 1.0), 1.0)


def _delays(
    solved: Gains, centres_hz: np.ndarray, reference_hz: float
) -> tuple[np.ndarray, np.ndarray]:
    """Delays and their standard errors (s), shape (nantenna, npol); zero in too few bins."""
    shape = (solved.values.shape[1], solved.values.shape[3])
    if centres_hz.size < _MIN_DELAY_BINS:
        return np.zeros(shape), np.full(shape, np.inf)
    delays, _ = fit_delays(solved, centres_hz, reference_hz)
    weight = np.where(solved.flags[0], 0.0, solved.snr[0].astype(float) ** 2)
    offset = 2 * np.pi * (centres_hz - reference_hz)[None, :, None]
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-30)
    middle = np.sum(weight * offset, axis=1, keepdims=True) / total
    spread = np.sum(weight * (offset - middle) ** 2, axis=1)
    with np.errstate(divide="ignore"):
        return delays[0, :, 0], 1 / np.sqrt(spread)


def _turned(
    solved: Gains, centres_hz: np.ndarray, reference_hz: float, delay_s: np.ndarray
) -> np.ndarray:
    """Gains with delays taken out, shape (nantenna, nbin, npol)."""
    slope = 2 * np.pi * (centres_hz - reference_hz)[None, :, None] * delay_s[:, None]
    return np.asarray(solved.values[0] * np.exp(-1j * slope))


def _median(delay_s: np.ndarray) -> np.ndarray:
    """Median of antennas with a delay, each polarization by itself, shape (npol,)."""
    return np.array([np.median(one[one != 0]) if np.any(one) else 0.0 for one in delay_s.T])


def _usual_amplitude(
    amplitude: np.ndarray, good: np.ndarray, positions_m: np.ndarray
) -> np.ndarray:
    """Median amplitude of the antennas that are as far from the array's centre as each one.

    Parameters
    ----------
    amplitude : ndarray, shape (nantenna, npol)
    good : ndarray of bool, shape (nantenna, npol)
    positions_m : ndarray, shape (nantenna, 3)
    """
    usual = np.ones(amplitude.shape)
    for p in range(amplitude.shape[1]):
        solved = np.flatnonzero(good[:, p])
        if solved.size == 0:
            continue
        centre = np.median(positions_m[solved], axis=0)
        distance = np.linalg.norm(positions_m - centre, axis=1)
        for antenna in range(len(distance)):
            near = np.argsort(np.abs(distance[solved] - distance[antenna]), kind="stable")
            usual[antenna, p] = np.median(amplitude[solved[near[:_NEIGHBOURS]], p])
    return usual


def _departs(
    difference: np.ndarray, error: np.ndarray, good: np.ndarray, minimum: float
) -> np.ndarray:
    """Return True where a difference is large and exceeds the scatter of all antennas."""
    scatter = robust_rms(difference[good]) if good.any() else 0.0
    limit: np.ndarray = np.maximum(SIGNIFICANT * np.hypot(error, scatter), minimum)
    return np.abs(difference) > limit
