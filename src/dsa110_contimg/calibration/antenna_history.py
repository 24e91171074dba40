"""Name what happens to antennas over consecutive tiles.

`antenna_health` measures each polarization of each antenna in one tile. Here its measurements are
put in order of time: tiles in which the same thing is wrong make one event, and an antenna that is
steady on one side of a tile's border and changed on the other has jumped there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np

from dsa110_contimg.calibration.antenna_state import (
    MIN_AMPLITUDE_CHANGE,
    MIN_DELAY_NS,
    SIGNIFICANT,
    AntennaHealth,
    AntennaState,
    in_words,
)
from dsa110_contimg.errors import UsageError
from dsa110_contimg.telescope import antenna_order
from dsa110_contimg.times import iso
from dsa110_contimg.wording import counted


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
    antennas : tuple of AntennaHealth
    """

    tile_id: str
    start: float
    duration_s: float
    calibration_set_id: str
    antennas: tuple[AntennaHealth, ...]

    @property
    def departing(self) -> tuple[str, ...]:
        """Antennas that are not steady in both polarizations."""
        names = {one.antenna for one in self.antennas if one.state is not AntennaState.STEADY}
        return tuple(sorted(names, key=antenna_order))


@dataclass(frozen=True)
class AntennaEvent:
    """Consecutive tiles in which an antenna departs in the same way.

    Attributes
    ----------
    antenna : str
    polarizations : str
        "X", "Y" or "XY".
    state : AntennaState
    what : str
        The departure in words, its values the medians over the tiles.
    since, until : float
        Start of the first and end of the last of these tiles, Unix seconds.
    n_tiles : int
    jumped_at : float or None
        Where it was steady before, or is steady after; to the length of a tile. None for noise,
        which changes gradually and may cross its limit in any tile.
    """

    antenna: str
    polarizations: str
    state: AntennaState
    what: str
    since: float
    until: float
    n_tiles: int
    jumped_at: float | None = None

    def __str__(self) -> str:
        jumped = "" if self.jumped_at is None else f"; jumped at {iso(self.jumped_at)}"
        return (
            f"{self.antenna} {self.polarizations}: {self.what}, {iso(self.since)} to "
            f"{iso(self.until)} ({counted(self.n_tiles, 'tile')}){jumped}"
        )


_Measurement = tuple[TileAntennas, AntennaHealth]


@dataclass(frozen=True)
class AntennaMeasurement(AntennaHealth):
    """One polarization of an antenna during a tile, with the tile.

    Attributes
    ----------
    tile : str
    start : float
        Time of observation, Unix seconds.
    """

    tile: str = ""
    start: float = 0.0


def measurements_of(tiles: Sequence[TileAntennas], antenna: str) -> list[AntennaMeasurement]:
    """Return one row for each tile and polarization of an antenna.

    Parameters
    ----------
    tiles : sequence of TileAntennas
    antenna : str

    Raises
    ------
    UsageError
        If no tile has it.
    """
    rows = [
        AntennaMeasurement(**vars(one), tile=tile.tile_id, start=tile.start)
        for tile in tiles
        for one in tile.antennas
        if one.antenna == antenna
    ]
    if not rows:
        raise UsageError(f"no tile in this time has an antenna {antenna!r}")
    return rows


def find_events(tiles: Sequence[TileAntennas]) -> tuple[AntennaEvent, ...]:
    """Find the events of all antennas, in order of antenna and time.

    Parameters
    ----------
    tiles : sequence of TileAntennas
        In order of time.
    """
    histories: dict[tuple[str, int], list[_Measurement]] = {}
    for tile in tiles:
        for one in tile.antennas:
            histories.setdefault((one.antenna, one.polarization), []).append((tile, one))
    ordered = sorted(histories, key=lambda key: (antenna_order(key[0]), key[1]))
    return tuple(_of_both_hands([event for key in ordered for event in _events(histories[key])]))


def _goes_on(one: _Measurement, two: _Measurement) -> bool:
    """Return True if two consecutive tiles of an antenna belong to one event."""
    (tile1, before), (tile2, after) = one, two
    if before.state is not AntennaState.CHANGED or after.state is not AntennaState.CHANGED:
        return before.state is after.state
    if tile1.calibration_set_id != tile2.calibration_set_id:
        return False
    differences = (
        (
            before.amplitude - after.amplitude,
            before.amplitude_error,
            after.amplitude_error,
            MIN_AMPLITUDE_CHANGE,
        ),
        (
            before.delay_ns - after.delay_ns,
            before.delay_error_ns,
            after.delay_error_ns,
            MIN_DELAY_NS,
        ),
    )
    return all(
        abs(difference) < max(SIGNIFICANT * float(np.hypot(error1, error2)), minimum)
        for difference, error1, error2, minimum in differences
    )


def _events(history: Sequence[_Measurement]) -> Iterator[AntennaEvent]:
    """Find the events of one polarization of an antenna."""
    begins = [0, *(i + 1 for i, pair in enumerate(pairwise(history)) if not _goes_on(*pair))]
    for first, end in zip(begins, [*begins[1:], len(history)], strict=True):
        (tile, one), last = history[first], history[end - 1][0]
        if one.state is AntennaState.STEADY:
            continue
        sudden, jumped_at = one.state is not AntennaState.NOISY, None
        if sudden and first and _steady_beside(history[first - 1], tile):
            jumped_at = tile.start
        elif sudden and end < len(history) and _steady_beside(history[end], last):
            jumped_at = history[end][0].start
        yield AntennaEvent(
            antenna=one.antenna,
            polarizations="XY"[one.polarization],
            state=one.state,
            what=_median_in_words([one for _, one in history[first:end]]),
            since=tile.start,
            until=last.start + last.duration_s,
            n_tiles=end - first,
            jumped_at=jumped_at,
        )


def _steady_beside(one: _Measurement, tile: TileAntennas) -> bool:
    beside, health = one
    return (
        health.state is AntennaState.STEADY and beside.calibration_set_id == tile.calibration_set_id
    )


def _median_in_words(found: Sequence[AntennaHealth]) -> str:
    return in_words(
        replace(
            found[0],
            amplitude=float(np.median([one.amplitude for one in found])),
            delay_ns=float(np.median([one.delay_ns for one in found])),
            noise=float(np.median([one.noise for one in found])),
        )
    )


def _of_both_hands(events: Sequence[AntennaEvent]) -> Iterator[AntennaEvent]:
    """Join the events of the two polarizations of an antenna where they are the same."""
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
