"""Solution intervals, and gains at times between them."""

import numpy as np

from dsa110_contimg.calibration.gains import Gains


def solution_intervals(
    times_s: np.ndarray, solint_s: float = np.inf, max_gap_s: float = np.inf
) -> np.ndarray:
    """Interval of each integration.

    Parameters
    ----------
    times_s : ndarray, shape (ntime,)
        Ascending.
    solint_s : float
        Longest interval; infinite for one a scan.
    max_gap_s : float
        A longer gap begins a new scan, and with it a new interval.

    Returns
    -------
    ndarray of int, shape (ntime,)
        Ascending from zero.
    """
    interval = np.zeros(times_s.size, np.int64)
    begin = times_s[0]
    for k in range(1, times_s.size):
        new = times_s[k] - begin >= solint_s or times_s[k] - times_s[k - 1] > max_gap_s
        if new:
            begin = times_s[k]
        interval[k] = interval[k - 1] + new
    return interval


def interpolated(
    gains: Gains, times_s: np.ndarray, at_s: np.ndarray, bridge_flagged: bool = True
) -> Gains:
    """Gains at other times: amplitude and phase linear between good solutions.

    Before the first and after the last good solution of an antenna its nearest one holds. Phases
    take the shorter way round.

    Parameters
    ----------
    gains : Gains
        Shape (ninterval, nantenna, nchan, npol).
    times_s : ndarray, shape (ninterval,)
        Ascending.
    at_s : ndarray, shape (nat,)
    bridge_flagged : bool
        False flags what lies next to a flagged solution, as CASA's applycal does.

    Returns
    -------
    Gains
        Shape (nat, nantenna, nchan, npol); flagged where an antenna has no good solution.
    """
    shape = (at_s.size, *gains.values.shape[1:])
    values, flags = np.ones(shape, complex), np.ones(shape, bool)
    snr = np.zeros(shape, np.float32)
    for cell in np.ndindex(shape[1:]):
        good = ~gains.flags[(slice(None), *cell)]
        if not good.any():
            continue
        at = (slice(None), *cell)
        solutions = gains.values[at][good]
        amplitude = np.interp(at_s, times_s[good], np.abs(solutions))
        phase = np.interp(at_s, times_s[good], np.unwrap(np.angle(solutions)))
        values[at], flags[at] = amplitude * np.exp(1j * phase), False
        snr[at] = np.interp(at_s, times_s[good], gains.snr[at][good])
    if not bridge_flagged:
        after = np.searchsorted(times_s, at_s)
        for beside in (after - 1, after):
            flags |= gains.flags[np.clip(beside, 0, times_s.size - 1)]
    return Gains(values, flags, snr)


def interpolated_in_frequency(
    gains: Gains, channel_bin: np.ndarray, frequencies_hz: np.ndarray
) -> Gains:
    """Gains of single channels from those of bins of channels, as `interpolated` does in time.

    Parameters
    ----------
    gains : Gains
        Shape (ninterval, nantenna, nbin, npol).
    channel_bin : ndarray of int, shape (nchan,)
        Bin of each channel.
    frequencies_hz : ndarray, shape (nchan,)
        Ascending.
    """
    centres_hz = np.bincount(channel_bin, frequencies_hz) / np.bincount(channel_bin)

    def swapped(some: Gains) -> Gains:
        return Gains(some.values.swapaxes(0, 2), some.flags.swapaxes(0, 2), some.snr.swapaxes(0, 2))

    return swapped(interpolated(swapped(gains), centres_hz, frequencies_hz))
