"""Which tiles make the next mosaic groups: a pure function of what is there.

Tiles in order of time fall into runs, which end at a gap or a change of declination. A run is cut
into windows of `n_ms` tiles; with a sliding window each shares `overlap` tiles with the one
before, and the first needs none before it. A window that spans a tile which may still come waits
for it; a tile that never will (rejected, quarantined) is passed over.
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

    Returns
    -------
    list of list of str
        Tile ids of the new groups, in order of time.
    """
    step = n_ms - min(overlap, n_ms - 1) if sliding_window else n_ms
    first_of_group = {group[0] for group in formed}
    out = []
    for run in runs(tiles, max_gap_s):
        begins = [i for i, tile in enumerate(run) if tile.id in first_of_group]
        at = begins[-1] + step if begins else 0
        while at + n_ms <= len(run):
            window = run[at : at + n_ms]
            if any(tile.prospect is Prospect.PENDING for tile in window):
                break
            out.append([tile.id for tile in window])
            at += step
    return out
