"""Record and read the antennas of each tile."""

from collections.abc import Sequence
from dataclasses import fields

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg import records
from dsa110_contimg.calibration.antenna_history import TileAntennas
from dsa110_contimg.calibration.antenna_state import AntennaHealth, AntennaState, Misplaced
from dsa110_contimg.registry import models
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import TileAntennasRow
from dsa110_contimg.registry.statements import in_time
from dsa110_contimg.telescope import antenna_order


def add_antennas(session: Session, tile: TileAntennas) -> None:
    """Record the antennas of a tile; a newer calibration of the tile replaces an older one."""
    session.merge(
        models.TileAntennasRow(
            tile_id=tile.tile_id,
            start=tile.start,
            duration_s=tile.duration_s,
            calibration_set_id=tile.calibration_set_id,
            antennas={
                field.name: [getattr(one, field.name) for one in tile.antennas]
                for field in fields(AntennaHealth)
            },
        )
    )


def recorded_antennas(
    registry: Registry, since: float | None = None, until: float | None = None, limit: int = 1000
) -> tuple[TileAntennas, ...]:
    """Antennas of the newest tiles, in order of time.

    Parameters
    ----------
    registry : Registry
    since, until : float, optional
        Observation times, Unix seconds, both included.
    limit : int
        Maximum number of tiles.
    """
    return tuple(
        TileAntennas(
            tile_id=row.tile_id,
            start=row.start,
            duration_s=row.duration_s,
            calibration_set_id=row.calibration_set_id,
            antennas=tuple(
                AntennaHealth(name, polarization, AntennaState(state), *numbers)
                for name, polarization, state, *numbers in zip(
                    *(row.antennas[field.name] for field in fields(AntennaHealth)), strict=True
                )
            ),
        )
        for row in reversed(_tile_antennas(registry, since, until, limit))
    )


def known_antennas(registry: Registry) -> frozenset[str]:
    """Names of the antennas of the newest tiles."""
    return frozenset(
        antenna.antenna
        for tile in recorded_antennas(registry, limit=10)
        for antenna in tile.antennas
    )


def misplaced_antennas(registry: Registry, tiles: Sequence[TileAntennas]) -> tuple[Misplaced, ...]:
    """Antennas that the calibration sets of some tiles found at another place, the newest finding.

    Parameters
    ----------
    registry : Registry
    tiles : sequence of TileAntennas
    """
    used = {tile.calibration_set_id for tile in tiles}
    with registry.read() as session:
        table = models.CalibrationSet
        rows = session.scalars(
            select(table).where(table.id.in_(used)).order_by(table.observed)
        ).all()
        newest = {
            one.antenna: one
            for row in rows
            for one in records.from_json(tuple[Misplaced, ...], row.quality.get("misplaced", ()))
        }
    return tuple(newest[name] for name in sorted(newest, key=antenna_order))


def departing_antennas(registry: Registry) -> tuple[str, ...]:
    """Antennas of the newest calibrated tile that are not as in its reference tile."""
    return tuple(name for tile in recorded_antennas(registry, limit=1) for name in tile.departing)


def _tile_antennas(
    registry: Registry, since: float | None, until: float | None, limit: int
) -> list[TileAntennasRow]:
    """Rows of the newest tiles, the newest first."""
    query = in_time(select(TileAntennasRow), TileAntennasRow.start, since, until).limit(limit)
    with registry.read() as session:
        rows = list(session.scalars(query))
        session.expunge_all()
        return rows


def tile_antennas_beside(
    registry: Registry, first: float, last: float, count: int
) -> tuple[float | None, float | None]:
    """Start of the last tile before `first`, and of at most the `count`-th after `last`."""
    start = TileAntennasRow.start
    with registry.read() as session:
        before = session.scalar(select(func.max(start)).where(start < first))
        after = list(
            session.scalars(select(start).where(start > last).order_by(start).limit(count))
        )
    return before, after[-1] if after else None
