"""Mosaic groups: consecutive tiles that make one mosaic."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import events_about, record_event
from dsa110_contimg.registry.models import CalibrationChoice, Mosaic, MosaicGroup, Step, Tile
from dsa110_contimg.registry.read_models import LoggedEvent, ReadModel, WorkSummary
from dsa110_contimg.registry.statements import existing, neighbours
from dsa110_contimg.registry.states import GroupState, MosaicState, TileState

UNFINISHED = (GroupState.READY, GroupState.PROCESSING, GroupState.FAILED)
_DECIDED_TILES = (TileState.CONVERTED, TileState.REJECTED, TileState.QUARANTINED)


@dataclass(frozen=True)
class ObservedTile:
    """The facts of a tile that decide which group it joins.

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
        ObservedTile(row.id, row.start, row.apparent_dec_deg, row.state, row.last_arrival)
        for row in rows
    ]


def groups_since(session: Session, since: float) -> list[MosaicGroup]:
    """Groups that begin from a moment on."""
    return list(session.scalars(select(MosaicGroup).where(MosaicGroup.start >= since)))


def group_tiles_since(session: Session, since: float) -> list[list[str]]:
    """Tiles of each group that begins from a moment on."""
    return list(session.scalars(select(MosaicGroup.tile_ids).where(MosaicGroup.start >= since)))


def tiles_of_groups(session: Session, states: Iterable[GroupState]) -> set[str]:
    """Tiles of all groups in some states."""
    wanted = select(MosaicGroup.tile_ids).where(MosaicGroup.state.in_(list(states)))
    return {tile_id for tile_ids in session.scalars(wanted) for tile_id in tile_ids}


def count_after_groups(session: Session) -> int:
    """Number of converted tiles that were observed after the last tile of the newest group."""
    newest = session.scalars(
        select(MosaicGroup).order_by(MosaicGroup.start.desc()).limit(1)
    ).first()
    wanted = select(func.count()).where(Tile.state == TileState.CONVERTED)
    if newest is not None:
        last = select(func.max(Tile.start)).where(Tile.id.in_(newest.tile_ids))
        wanted = wanted.where(Tile.start > last.scalar_subquery())
    return session.scalar(wanted) or 0


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
    """Publish a held group or hold a published one; a group in another state stays as it is."""
    group = session.get(MosaicGroup, group_id)
    if group is not None and {group.state, state} == {GroupState.PUBLISHED, GroupState.HELD}:
        group.state, group.reason = state, f"by hand: {reason}"


class GroupSummary(WorkSummary):
    """A mosaic group."""

    state: GroupState
    n_tiles: int


class TileMention(ReadModel):
    """A tile of a group."""

    id: str
    start: float
    state: TileState
    reason: str


class MosaicMention(ReadModel):
    """A mosaic of a group."""

    name: str
    state: MosaicState
    verdict: str


class StageCalls(ReadModel):
    """Calls of a stage that are done, and when the last one was."""

    stage: str
    calls: int
    last: float


class ChoiceRecord(ReadModel):
    """A choice of calibration sets, with what spoke for and against each."""

    at: float
    bandpass: str
    gains: str
    reasons: dict[str, str]


class GroupDetail(GroupSummary):
    """Everything that is known of a mosaic group but what its files hold."""

    finished_at: float | None
    tile_ids: list[str]
    tiles: list[TileMention]
    mosaics: list[MosaicMention]
    steps: list[StageCalls]
    choices: list[ChoiceRecord]
    events: list[LoggedEvent]
    before: str | None
    after: str | None


def list_groups(
    registry: Registry, state: str | None = None, before: float | None = None, limit: int = 100
) -> list[GroupSummary]:
    """The newest mosaic groups, by observation time."""
    query = select(MosaicGroup).order_by(MosaicGroup.start.desc()).limit(limit)
    if state is not None:
        query = query.where(MosaicGroup.state == state)
    if before is not None:
        query = query.where(MosaicGroup.start < before)
    with registry.read() as session:
        return [_summary(row) for row in session.scalars(query)]


def _summary(row: MosaicGroup) -> GroupSummary:
    work = WorkSummary.model_validate(row).model_dump()
    return GroupSummary(**work, state=row.state, n_tiles=len(row.tile_ids))


def get_group(registry: Registry, group_id: str) -> GroupDetail:
    """One mosaic group with its tiles, mosaics, calls and events.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    with registry.read() as session:
        row = existing(session, MosaicGroup, group_id, f"no mosaic group {group_id!r}")
        tiles = session.scalars(select(Tile).where(Tile.id.in_(row.tile_ids)).order_by(Tile.start))
        mosaics = session.scalars(select(Mosaic).where(Mosaic.group_id == group_id)).all()
        names = [mosaic.name for mosaic in mosaics]
        steps = session.execute(
            select(Step.stage, func.count().label("calls"), func.max(Step.at).label("last"))
            .where(Step.group_id == group_id)
            .group_by(Step.stage)
            .order_by(func.min(Step.at))
        )
        choices = session.scalars(
            select(CalibrationChoice)
            .where(CalibrationChoice.subject.in_([group_id, *names]))
            .order_by(CalibrationChoice.id.desc())
        )
        return GroupDetail(
            **_summary(row).model_dump(),
            finished_at=row.finished_at,
            tile_ids=row.tile_ids,
            tiles=[TileMention.model_validate(one) for one in tiles],
            mosaics=[MosaicMention.model_validate(one) for one in mosaics],
            steps=[StageCalls.model_validate(one) for one in steps],
            choices=[
                ChoiceRecord(
                    at=one.at, bandpass=one.bandpass_id, gains=one.gains_id, reasons=one.reasons
                )
                for one in choices
            ],
            events=events_about(session, [group_id, *names]),
            **neighbours(session, MosaicGroup, row.start).model_dump(),
        )
