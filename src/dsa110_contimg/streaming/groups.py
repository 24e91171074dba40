"""Which tiles make the next mosaic groups: a pure function of what is there.

Tiles in order of time fall into runs, which end at a gap or a change of declination. A run is cut
into windows of `n_ms` tiles; with a sliding window each shares `overlap` tiles with the one
before, and the first needs none before it; what is left over when a run has ended is a short
group. A window that spans a tile which may still come waits for it; a tile that never will
(rejected, quarantined) is passed over. A tile that comes when the windows over it are formed
(sent again, released, observed before the rest arrived) gets a window of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from dsa110_contimg.telescope import SAME_STRIP_DEG


class Prospect(Enum):
    """What may be expected of a tile."""

    CONVERTED = "converted"
    PENDING = "pending"
    NEVER = "never"


@dataclass(frozen=True)
class GroupableTile:
    """What group formation needs to know of a tile."""

    id: str
    start: float
    apparent_dec_deg: float
    prospect: Prospect
    arrived: float = 0.0


def runs(tiles: Iterable[GroupableTile], max_gap_s: float) -> list[list[GroupableTile]]:
    """Tiles in order of time, cut at gaps and at changes of declination."""
    out: list[list[GroupableTile]] = []
    previous: GroupableTile | None = None
    for tile in sorted(tiles, key=lambda t: t.start):
        if (
            previous is None
            or tile.start - previous.start > max_gap_s
            or abs(tile.apparent_dec_deg - previous.apparent_dec_deg) > SAME_STRIP_DEG
        ):
            out.append([])
        # The telescope observed while a rejected tile was taken: it is no gap.
        previous = tile
        if tile.prospect is not Prospect.NEVER:
            out[-1].append(tile)
    return [run for run in out if run]


def next_complete_groups(
    tiles: Iterable[GroupableTile],
    formed: Sequence[Sequence[str]],
    *,
    n_ms: int = 10,
    sliding_window: bool = True,
    overlap: int = 2,
    max_gap_s: float = 900.0,
    min_tiles: int = 3,
    quiet_since: float | None = None,
) -> list[list[str]]:
    """Groups that can be formed now.

    Parameters
    ----------
    tiles : iterable of GroupableTile
        Every tile that is known.
    formed : sequence of sequence of str
        Tile ids of the groups that exist.
    n_ms : int
        Tiles in a group.
    sliding_window : bool
        Let a group share tiles with the one before.
    overlap : int
        How many.
    max_gap_s : float
        Between the starts of consecutive tiles.
    min_tiles : int
        Fewest in the short group that is made of what is left over at the end of a run.
    quiet_since : float, optional
        A run has ended if nothing of it arrived after this time (Unix seconds). That a later run
        has begun proves nothing: data may arrive in any order.

    Returns
    -------
    list of list of str
        Tile ids of the new groups, in order of time.
    """
    shared = min(overlap, n_ms - 1) if sliding_window else 0
    tiles = list(tiles)
    order = {tile.id: tile.start for tile in tiles}
    last_of_group = {group[-1] for group in formed}
    out: list[list[str]] = []
    for run in runs(tiles, max_gap_s):
        covered = max((i + 1 for i, tile in enumerate(run) if tile.id in last_of_group), default=0)
        at = max(0, covered - shared)
        while at + n_ms <= len(run) and _settled(run[at : at + n_ms]):
            out.append([tile.id for tile in run[at : at + n_ms]])
            covered, at = at + n_ms, at + n_ms - shared
        ended = quiet_since is not None and max(t.arrived for t in run) <= quiet_since
        at = max(0, min(at, len(run) - min_tiles))
        left = run[at:]
        # A few tiles take some of those before them along rather than be left alone.
        if ended and covered < len(run) and min_tiles <= len(left) < n_ms and _settled(left):
            out.append([tile.id for tile in left])
        out += _straggling(run[:covered], [*formed, *out], n_ms, shared, min_tiles, quiet_since)
    return sorted(out, key=lambda group: order[group[0]])


def _straggling(
    run: Sequence[GroupableTile],
    formed: Sequence[Sequence[str]],
    n_ms: int,
    shared: int,
    min_tiles: int,
    quiet_since: float | None,
) -> list[list[str]]:
    """Windows over tiles of the part of a run that is grouped, but who are in no group."""
    if quiet_since is None:
        return []
    grouped = {tile_id for group in formed for tile_id in group}
    # A group is named after its first tile.
    taken = {group[0] for group in formed}
    out = []
    for i, tile in enumerate(run):
        if tile.id in grouped or tile.prospect is Prospect.PENDING or tile.arrived > quiet_since:
            continue
        for first in (i - shared, *range(i, -1, -1)):
            window = run[max(first, 0) : max(first, 0) + n_ms]
            if first >= 0 and window[0].id not in taken and len(window) >= min_tiles:
                break
        else:
            continue
        if _settled(window):
            out.append([one.id for one in window])
            grouped.update(out[-1])
            taken.add(out[-1][0])
    return out


def _settled(window: Sequence[GroupableTile]) -> bool:
    return not any(tile.prospect is Prospect.PENDING for tile in window)
