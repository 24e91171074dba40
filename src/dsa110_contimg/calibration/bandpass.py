"""Solve a bandpass; use no solution of it that rests on few samples."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from dsa110_contimg.calibration.channels import solve_bins
from dsa110_contimg.calibration.delay import MIN_CHANNELS, delay_gains, fit_delays
from dsa110_contimg.calibration.gains import Gains, refer_phases
from dsa110_contimg.calibration.intervals import interpolated_in_frequency
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.visibilities.data import Visibilities

MAX_FLAGGED = 0.5
"""Maximum share of flagged channels of a hand, and of a bandpass, that is used."""
_MAX_WEAK = 0.3
"""Maximum share of weak solutions before more channels are solved together."""
_SMOOTH_HZ = 2.2e6
"""Bandpasses are smooth over so much; wider channels are left as they are."""
_WIDTHS = (1, 2, 4, 8, 16, 32)
_STRONG_SNR = 2.0
"""A solution this many times above the minimum signal-to-noise ratio is no gamble."""
_FEW_SAMPLES = 3.0
"""A solution with this many times the antenna's median error rests on a tenth of the samples or
fewer: interference took the others."""
_BRIDGED_HZ = 4.5e6
"""Maximum distance of the solutions that those between are interpolated from; the two neighbours
of a single channel may be further apart."""


def solve_bandpass(
    vis: Visibilities, sky: np.ndarray, rfi: np.ndarray, limits: SolveOptions, alive: np.ndarray
) -> tuple[Gains, str, int]:
    """Solve single channels, or where the sky is too weak several together, interpolated.

    Parameters
    ----------
    vis : Visibilities
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of total intensity.
    rfi : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    limits : SolveOptions
    alive : ndarray of int
        Antennas with data.

    Returns
    -------
    gains : Gains
        Of single channels, phases relative to the reference antenna.
    reference : str
        Name of that antenna.
    width : int
        Channels per solution.
    """
    nchan = vis.frequencies_hz.size
    for width in _WIDTHS:
        channel_bin = np.arange(nchan) // width
        found = solve_bins(vis, sky, rfi, limits, channel_bin, phase_only=False)
        weak = found.snr[0, alive] < _STRONG_SNR * max(limits.min_snr, 1.0)
        if weak.mean() <= _MAX_WEAK or 2 * width > nchan:
            break
    if width == 1:
        found = without_chance(found)
        found = replace(found, flags=found.flags | _on_few_samples(found))
        found, reference = in_phase(found, vis, limits)
        return bridged(found, vis.frequencies_hz), reference, 1
    found, reference = refer_phases(found, vis.array.names, limits.reference_antennas)
    found = interpolated_in_frequency(found, channel_bin, vis.frequencies_hz)
    return found, reference, width


def solve_channels(
    vis: Visibilities, sky: np.ndarray, rfi: np.ndarray, limits: SolveOptions
) -> Gains:
    """Solve single channels; see `channels.solve_bins`."""
    single = np.arange(vis.frequencies_hz.size)
    return without_chance(solve_bins(vis, sky, rfi, limits, single, phase_only=False))


def in_phase(gains: Gains, vis: Visibilities, limits: SolveOptions) -> tuple[Gains, str]:
    """Make the phases of single channels relative to those of one antenna.

    The phase that all antennas have in common is another one in each solution. Where the reference
    antenna has no solution, the others are turned to agree with those of the nearest channel where
    it has one, their delays apart.

    Parameters
    ----------
    gains : Gains
        Shape (1, nantenna, nchan, npol).
    vis : Visibilities
    limits : SolveOptions

    Returns
    -------
    gains : Gains
    reference : str
        Name of the reference antenna.
    """
    gains, reference = refer_phases(gains, vis.array.names, limits.reference_antennas)
    missing = gains.flags[0, vis.array.names.index(reference)]
    solved = ~gains.flags[0]
    if not (missing & solved.any(axis=0)).any() or len(missing) < MIN_CHANNELS:
        return gains, reference
    known = Gains(gains.values, gains.flags | missing, gains.snr)
    straight = gains.values[0] * np.conj(_turns(known, vis.frequencies_hz)[0])
    values = gains.values.copy()
    for hand in np.flatnonzero(~missing.all(axis=0)):
        there = np.flatnonzero(~missing[:, hand])
        for channel in np.flatnonzero(missing[:, hand]):
            nearest = there[np.argmin(np.abs(there - channel))]
            both = solved[:, channel, hand] & solved[:, nearest, hand]
            common = np.vdot(straight[both, nearest, hand], straight[both, channel, hand])
            values[0, :, channel, hand] *= np.exp(-1j * np.angle(common))
    return Gains(np.where(gains.flags, 1.0, values), gains.flags, gains.snr), reference


def _turns(gains: Gains, frequencies_hz: np.ndarray) -> np.ndarray:
    """Phasors of the antennas' delays, of the shape of the gains."""
    reference_hz = float(frequencies_hz.mean())
    delays_s, unknown = fit_delays(gains, frequencies_hz, reference_hz)
    return delay_gains(delays_s, unknown, frequencies_hz, reference_hz).values


def without_chance(gains: Gains) -> Gains:
    """Flag the hands that have no solution in most channels: their few came by chance.

    Divided by such a gain, a hand without signal looks like interference in both hands.

    Parameters
    ----------
    gains : Gains
        Shape (1, nantenna, nchan, npol).
    """
    came = ~gains.flags.all(axis=(0, 1, 3))
    share = gains.flags[:, :, came].mean(axis=2, keepdims=True) if came.any() else 1.0
    return replace(gains, flags=gains.flags | (share > MAX_FLAGGED))


def _on_few_samples(gains: Gains) -> np.ndarray:
    """Return True for solutions whose error is far above that of the antenna's others."""
    error = np.abs(gains.values) / np.where(gains.flags, np.nan, gains.snr)
    error[np.broadcast_to(gains.flags.all(axis=2, keepdims=True), error.shape)] = np.inf
    return np.asarray(error > _FEW_SAMPLES * np.nanmedian(error, axis=2, keepdims=True))


def bridged(gains: Gains, frequencies_hz: np.ndarray) -> Gains:
    """Interpolate over channels without a solution.

    Amplitude and phase are linear between the nearest solutions, the antenna's delay apart.
    Channels that are too far from them, or not between two, stay flagged.

    Parameters
    ----------
    gains : Gains
        Shape (1, nantenna, nchan, npol); phases relative to a reference antenna.
    frequencies_hz : ndarray, shape (nchan,)
        Ascending.
    """
    gaps: np.ndarray = gains.flags & ~gains.flags.all(axis=2, keepdims=True)
    if not gaps.any() or frequencies_hz.size < MIN_CHANNELS:
        return gains
    turn = _turns(gains, frequencies_hz)
    straight = gains.values * np.conj(turn)
    values, flags, snr = gains.values.copy(), gains.flags.copy(), gains.snr.copy()
    for a, p in np.argwhere(gaps[0].any(axis=1)):
        known = np.flatnonzero(~gaps[0, a, :, p])
        wanted = np.flatnonzero(gaps[0, a, :, p])
        after = np.searchsorted(known, wanted)
        inside = (after > 0) & (after < known.size)
        wanted, after = wanted[inside], after[inside]
        left, right = known[after - 1], known[after]
        gap_hz = frequencies_hz[right] - frequencies_hz[left]
        near = (gap_hz <= _BRIDGED_HZ) | (right - left == 2)
        wanted, left, right, gap_hz = wanted[near], left[near], right[near], gap_hz[near]
        share = (frequencies_hz[wanted] - frequencies_hz[left]) / gap_hz
        ratio = straight[0, a, right, p] / straight[0, a, left, p]
        grown = (1 + share * (np.abs(ratio) - 1)) * np.exp(1j * share * np.angle(ratio))
        values[0, a, wanted, p] = straight[0, a, left, p] * grown * turn[0, a, wanted, p]
        snr[0, a, wanted, p] = np.minimum(snr[0, a, left, p], snr[0, a, right, p])
        flags[0, a, wanted, p] = False
    return Gains(values, flags, snr)


def smoothed(gains: Gains, vis: Visibilities, limits: SolveOptions) -> Gains:
    """Take out what single channels have: lasting interference would fit into those.

    Parameters
    ----------
    gains : Gains
        Of single channels of `vis`.
    vis : Visibilities
    limits : SolveOptions
    """
    frequencies_hz = vis.frequencies_hz
    step_hz = float(np.median(np.diff(frequencies_hz))) if frequencies_hz.size > 1 else _SMOOTH_HZ
    nchan = 2 * int(_SMOOTH_HZ / step_hz / 2) + 1
    if nchan == 1 or frequencies_hz.size < MIN_CHANNELS:
        return gains
    gains, _ = in_phase(gains, vis, limits)
    turn = _turns(gains, frequencies_hz)
    values = gains.values * np.conj(turn)
    for part in (values.real, values.imag):
        part[:] = ndimage.median_filter(part, (1, 1, nchan, 1), mode="mirror")
    return Gains(np.where(np.abs(values) > 0, values * turn, 1.0), gains.flags, gains.snr)


def split_bandpass(raw: Gains) -> tuple[Gains, Gains]:
    """Bandpass of rms amplitude one and mean phase zero, and the gain that was taken out."""
    used = ~raw.flags
    count = np.maximum(used.sum(axis=2, keepdims=True), 1)
    power = np.sum(np.where(used, np.abs(raw.values) ** 2, 0), axis=2, keepdims=True) / count
    total = np.sum(np.where(used, raw.values, 0), axis=2, keepdims=True)
    phase = np.where(np.abs(total) > 0, total / np.maximum(np.abs(total), 1e-30), 1.0)
    none: np.ndarray = ~np.any(used, axis=2, keepdims=True)
    gain = np.where(none, 1.0, np.sqrt(power) * phase)
    snr = np.sqrt(np.sum(np.where(used, raw.snr, 0) ** 2, axis=2, keepdims=True))
    bandpass = np.where(used, raw.values / gain, 1.0)
    return Gains(bandpass, raw.flags, raw.snr), Gains(gain, none, snr.astype(np.float32))
