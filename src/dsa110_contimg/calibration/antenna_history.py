"""Name what happens to antennas over consecutive tiles.

`antenna_health` measures each polarization of each antenna in one tile. Here its measurements are
put in order of time: tiles in which the same thing is wrong make one event, and an antenna that is
steady on one side of a tile's border and changed on the other has jumped there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np

from dsa110_contimg.calibration.antenna_state import AntennaHealth, AntennaState, in_words
from dsa110_contimg.times import iso

_SAME = 5.0
"""Two values are one event if they differ by less than this number of standard errors ..."""
_SAME_AMPLITUDE = 0.1
_SAME_DELAY_NS = 0.3
"""... or by less than a change counts from."""


@dataclass(frozen=True)
class TileAntennas:
    """Antennas of one tile.

    Attributes
    ----------
    tile_id : str
    start : float
        Unix seconds.
    duration_s : float
    calibration_set_id : str
        Whose reference tile the antennas are compared with.
    no_signal : tuple of str
        Antennas whose data hold no power; they are not in `antennas`.
    antennas : tuple of AntennaHealth
    """

    tile_id: str
    start: float
    duration_s: float
    calibration_set_id: str
    no_signal: tuple[str, ...]
    antennas: tuple[AntennaHealth, ...]


@dataclass(frozen=True)
class AntennaEvent:
    """Consecutive tiles in which an antenna departs in the same way.

    Attributes
    ----------
    antenna : str
    polarizations : str
        "X", "Y" or "XY".
    state : str
        An `AntennaState`, or "no signal".
    what : str
        The departure in words, its values the medians over the tiles.
    since, until : float
        Start of the first and end of the last of these tiles, Unix seconds.
    n_tiles : int
    jumped_at : float or None
        Where it was steady before, or is steady after; to the length of a tile.
    """

    antenna: str
    polarizations: str
    state: str
    what: str
    since: float
    until: float
    n_tiles: int
    jumped_at: float | None = None

    def __str__(self) -> str:
        tiles = "1 tile" if self.n_tiles == 1 else f"{self.n_tiles} tiles"
        jumped = "" if self.jumped_at is None else f"; jumped at {iso(self.jumped_at)}"
        return (
            f"{self.antenna} {self.polarizations}: {self.what}, {iso(self.since)} to "
            f"{iso(self.until)} ({tiles}){jumped}"
        )


NO_SIGNAL = "no signal"


def find_events(tiles: Sequence[TileAntennas]) -> tuple[AntennaEvent, ...]:
    """Events of all antennas, in order of antenna and time.

    Parameters
    ----------
    tiles : sequence of TileAntennas
        In order of time.
    """
    histories: dict[tuple[str, int], list[tuple[TileAntennas, AntennaHealth | None]]] = {}
    for tile in tiles:
        for one in tile.antennas:
            if one.antenna in tile.no_signal:
                continue
            histories.setdefault((one.antenna, one.polarization), []).append((tile, one))
        for name in tile.no_signal:
            for polarization in (0, 1):
                histories.setdefault((name, polarization), []).append((tile, None))
    events = [
        event for key in sorted(histories, key=_order) for event in _events(key, histories[key])
    ]
    return tuple(_of_both_hands(events))


def _order(key: tuple[str, int]) -> tuple[int, str, int]:
    """Antennas by number; names of another kind by length."""
    return (len(key[0]), *key)


def _state(one: AntennaHealth | None) -> str:
    return NO_SIGNAL if one is None else str(one.state)


def _goes_on(
    one: tuple[TileAntennas, AntennaHealth | None], two: tuple[TileAntennas, AntennaHealth | None]
) -> bool:
    """True if two consecutive tiles of an antenna belong to one event."""
    (tile1, before), (tile2, after) = one, two
    if _state(before) != _state(after):
        return False
    if before is None or after is None or before.state is not AntennaState.CHANGED:
        return True
    if tile1.calibration_set_id != tile2.calibration_set_id:
        return False
    differences = (
        (before.amplitude - after.amplitude, before.amplitude_error, after.amplitude_error,
         _SAME_AMPLITUDE),
        (before.delay_ns - after.delay_ns, before.delay_error_ns, after.delay_error_ns,
         _SAME_DELAY_NS),
    )  # fmt: skip
    return all(
        abs(difference) < max(_SAME * float(np.hypot(error1, error2)), minimum)
        for difference, error1, error2, minimum in differences
    )


def _events(
    key: tuple[str, int], history: Sequence[tuple[TileAntennas, AntennaHealth | None]]
) -> Iterator[AntennaEvent]:
    """Events of one polarization of an antenna."""
    begins = [0, *(i + 1 for i, pair in enumerate(pairwise(history)) if not _goes_on(*pair))]
    for first, end in zip(begins, [*begins[1:], len(history)], strict=True):
        (tile, one), last = history[first], history[end - 1][0]
        if one is not None and one.state is AntennaState.STEADY:
            continue
        before = history[first - 1] if first else None
        after = history[end] if end < len(history) else None
        jumped_at = None
        if before is not None and _steady_beside(before, tile):
            jumped_at = tile.start
        elif after is not None and _steady_beside(after, last):
            jumped_at = after[0].start
        yield AntennaEvent(
            antenna=key[0], polarizations="XY"[key[1]], state=_state(one),
            what=_median_in_words([one for _, one in history[first:end]]), since=tile.start,
            until=last.start + last.duration_s, n_tiles=end - first, jumped_at=jumped_at,
        )  # fmt: skip


def _steady_beside(one: tuple[TileAntennas, AntennaHealth | None], tile: TileAntennas) -> bool:
    beside, health = one
    return (
        health is not None
        and health.state is AntennaState.STEADY
        and beside.calibration_set_id == tile.calibration_set_id
    )


def _median_in_words(found: Sequence[AntennaHealth | None]) -> str:
    values = [one for one in found if one is not None]
    if not values:
        return NO_SIGNAL
    return in_words(
        replace(
            values[0],
            amplitude=float(np.median([one.amplitude for one in values])),
            delay_ns=float(np.median([one.delay_ns for one in values])),
            noise=float(np.median([one.noise for one in values])),
        )
    )


def _of_both_hands(events: Sequence[AntennaEvent]) -> Iterator[AntennaEvent]:
    """One event instead of two where both polarizations of an antenna do the same."""
    for _, group in groupby(events, key=lambda event: event.antenna):
        left = list(group)
        while left:
            event = left.pop(0)
            twin = next((other for other in left if _alike(event, other)), None)
            if twin is not None:
                left.remove(twin)
                what = event.what if event.what == twin.what else f"{event.what} | {twin.what}"
                event = replace(event, polarizations="XY", what=what)
            yield event


def _alike(one: AntennaEvent, other: AntennaEvent) -> bool:
    return (
        one.polarizations != other.polarizations
        and one.state == other.state
        and (one.since, one.until, one.jumped_at) == (other.since, other.until, other.jumped_at)
    )
