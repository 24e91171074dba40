"""Flags that people add: antennas, times, channels, and why."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.errors import UsageError
from dsa110_contimg.times import STANDARD, iso
from dsa110_contimg.visibilities import observations

if TYPE_CHECKING:
    from dsa110_contimg.visibilities.data import Visibilities


@dataclass(frozen=True)
class ManualFlag:
    """What is not to be used; an empty or absent part means all.

    Attributes
    ----------
    antennas : tuple of str
        Names; every baseline of theirs.
    start, end : float or None
        Unix seconds, both included.
    channels : tuple of (int, int)
        First and last of each range, both included, counted from 0 in order of frequency.
    reason : str
    """

    antennas: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    channels: tuple[tuple[int, int], ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        ranges = self.channel_text()
        parts = [
            f"antennas {','.join(self.antennas)}" if self.antennas else "all antennas",
            f"from {iso(self.start, STANDARD)}" if self.start is not None else "",
            f"to {iso(self.end, STANDARD)}" if self.end is not None else "",
            f"channels {ranges}" if ranges else "",
        ]
        return " ".join(part for part in parts if part) + (f": {self.reason}" * bool(self.reason))

    def channel_text(self) -> str:
        """Ranges of channels as `parse_channels` reads them."""
        return ",".join(f"{first}-{last}" for first, last in self.channels)

    def overlaps(self, start: float, end: float) -> bool:
        """True if it concerns a span of time."""
        return (self.start is None or self.start <= end) and (self.end is None or self.end >= start)


def check(flag: ManualFlag, known_antennas: Collection[str], n_channels: int) -> None:
    """Refuse a flag that would never apply to anything.

    Parameters
    ----------
    flag : ManualFlag
    known_antennas : collection of str
        Names of the antennas that data may have.
    n_channels : int
        Maximum number of channels that data may have.

    Raises
    ------
    UsageError
    """
    for name in flag.antennas:
        if name not in known_antennas:
            near = difflib.get_close_matches(name, known_antennas, 3, 0.5)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise UsageError(f"antenna {name}: is in no data of this telescope{hint}")
    if flag.start is not None and flag.end is not None and flag.start > flag.end:
        raise UsageError(
            f"the first time flagged, {iso(flag.start, STANDARD)}, is after the last, "
            f"{iso(flag.end, STANDARD)}"
        )
    last = max((last for _, last in flag.channels), default=0)
    if last >= n_channels:
        raise UsageError(f"channel {last}: the data have {n_channels} at most, counted from 0")


def parse_channels(text: str) -> tuple[tuple[int, int], ...]:
    """Ranges like ``10-20,300``.

    Raises
    ------
    UsageError
    """
    ranges = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise UsageError(f"channels {text!r}: give ranges like 10-20,300")
        ranges.append((int(first), int(last or first)))
        if ranges[-1][0] > ranges[-1][1]:
            raise UsageError(f"channels {part!r}: the first is after the last")
    return tuple(ranges)


def apply_manual(vis: "Visibilities", given: Sequence[ManualFlag]) -> list[str]:
    """Set the flags of visibilities in place.

    Returns
    -------
    list of str
        What was flagged, for the history.
    """
    times_s = np.array([observations.unix_seconds(jd) for jd in vis.times_jd])
    names = np.array(vis.array.names)
    done = []
    for flag in given:
        during = np.ones(times_s.size, bool)
        half = 0.5 * vis.integration_s
        if flag.start is not None:
            during &= times_s + half >= flag.start
        if flag.end is not None:
            during &= times_s - half <= flag.end
        rows = during[vis.time_index]
        if flag.antennas:
            chosen = np.isin(names, flag.antennas)
            rows &= chosen[vis.antenna1] | chosen[vis.antenna2]
        channels = np.ones(vis.frequencies_hz.size, bool)
        if flag.channels:
            rank = np.argsort(np.argsort(vis.frequencies_hz))
            channels = np.any([(rank >= a) & (rank <= b) for a, b in flag.channels], axis=0)
        if rows.any() and channels.any():
            vis.flags[np.ix_(rows, channels)] = True
            done.append(f"flagged by hand: {flag}")
    return done
