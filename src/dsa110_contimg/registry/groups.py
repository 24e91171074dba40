"""Mosaic groups: consecutive tiles that make one mosaic."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.models import GroupState, MosaicGroup, Tile, TileState

UNFINISHED = (GroupState.READY, GroupState.PROCESSING, GroupState.FAILED)
_DECIDED_TILES = (TileState.CONVERTED, TileState.REJECTED, TileState.QUARANTINED)


@dataclass(frozen=True)
class ObservedTile:
    """What forming groups asks of a tile.

    Attributes
    ----------
    id : str
    start : float
        Time of observation, Unix seconds.
    apparent_dec_deg : float
    state : TileState
    last_arrival : float
        When its newest sub-band file arrived, Unix seconds.
    """

    id: str
    start: float
    apparent_dec_deg: float
    state: TileState
    last_arrival: float


def tiles_since(session: Session, since: float) -> list[ObservedTile]:
    """Tiles observed from a moment on."""
    rows = session.execute(
        select(Tile.id, Tile.start, Tile.apparent_dec_deg, Tile.state, Tile.last_arrival).where(
            Tile.start >= since
        )
    )
    return [
        ObservedTile(
            row.id, row.start, row.apparent_dec_deg, TileState(row.state), row.last_arrival
        )
        for row in rows
    ]


def groups_since(session: Session, since: float) -> list[MosaicGroup]:
    """Groups that begin from a moment on."""
    return list(session.scalars(select(MosaicGroup).where(MosaicGroup.start >= since)))


def tiles_of_groups(session: Session, states: Iterable[GroupState]) -> set[str]:
    """Tiles of all groups in some states."""
    wanted = select(MosaicGroup.tile_ids).where(MosaicGroup.state.in_(list(states)))
    return {tile_id for tile_ids in session.scalars(wanted) for tile_id in tile_ids}


def newest_group_start(session: Session, no_later_than: float | None = None) -> float | None:
    """When the newest group begins, or the newest one that begins by some moment."""
    begin = select(func.max(MosaicGroup.start))
    if no_later_than is not None:
        begin = begin.where(MosaicGroup.start <= no_later_than)
    return session.scalar(begin)


def first_unsettled_tile(session: Session, recently: float) -> float | None:
    """Start of the first tile that may still change.

    Parameters
    ----------
    session : Session
    recently : float
        Tiles that came or were converted after that moment may, Unix seconds.
    """
    may_change = or_(
        Tile.last_arrival > recently,
        Tile.converted_at > recently,
        Tile.state.not_in(_DECIDED_TILES),
    )
    return session.scalar(select(func.min(Tile.start)).where(may_change))


def next_waiting_group(session: Session) -> MosaicGroup | None:
    """The oldest group that waits to be processed."""
    waiting = MosaicGroup.state.in_((GroupState.READY, GroupState.FAILED))
    return session.scalars(
        select(MosaicGroup).where(waiting).order_by(MosaicGroup.start).limit(1)
    ).first()


def has_undecided_group(session: Session) -> bool:
    """True if a group waits for earlier ones, which is no failure."""
    undecided = (MosaicGroup.state == GroupState.FAILED) & (MosaicGroup.failures == 0)
    return session.scalar(select(MosaicGroup.id).where(undecided).limit(1)) is not None


def earlier_are_finished(session: Session, group: MosaicGroup) -> bool:
    """True if no group before this one can still bring a calibration set.

    What is chosen must not depend on what happened to be finished.
    """
    earlier = MosaicGroup.start < group.start
    unfinished = MosaicGroup.state.in_(UNFINISHED)
    return session.scalar(select(MosaicGroup.id).where(earlier, unfinished).limit(1)) is None


def form_group(session: Session, tile_ids: Sequence[str]) -> bool:
    """Add a group, named after its first tile; False if it exists."""
    if session.get(MosaicGroup, tile_ids[0]) is not None:
        return False
    start = session.get_one(Tile, tile_ids[0]).start
    session.add(
        MosaicGroup(id=tile_ids[0], start=start, tile_ids=list(tile_ids), state=GroupState.READY)
    )
    record_event(session, tile_ids[0], f"mosaic group of {len(tile_ids)} tiles formed")
    return True


def group_and_tiles(session: Session, group_id: str) -> tuple[MosaicGroup, list[Tile]]:
    """A group and its tiles in order of time."""
    group = session.get_one(MosaicGroup, group_id)
    return group, [session.get_one(Tile, tile_id) for tile_id in group.tile_ids]


def groups_set_aside(session: Session) -> list[MosaicGroup]:
    """Groups that wait for an operator."""
    aside = MosaicGroup.state.in_((GroupState.HELD, GroupState.QUARANTINED))
    return list(session.scalars(select(MosaicGroup).where(aside).order_by(MosaicGroup.start)))


def decide_by_hand(session: Session, group_id: str, state: GroupState, reason: str) -> None:
    """Put a finished group into another state of a finished one, if there is such a group."""
    group = session.get(MosaicGroup, group_id)
    if group is not None and group.state in (GroupState.PUBLISHED, GroupState.HELD):
        group.state, group.reason = state, f"by hand: {reason}"
