"""Record and read the antennas of each tile."""

from dataclasses import fields

from sqlalchemy.orm import Session

from dsa110_contimg.calibration.antenna_history import TileAntennas
from dsa110_contimg.calibration.antenna_state import AntennaHealth, AntennaState
from dsa110_contimg.registry import models, queries
from dsa110_contimg.registry.database import Registry


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
        for row in reversed(queries.tile_antennas(registry, since, until, limit))
    )


def departing_antennas(registry: Registry) -> tuple[str, ...]:
    """Antennas of the newest calibrated tile that are not as in its reference tile."""
    return tuple(name for tile in recorded_antennas(registry, limit=1) for name in tile.departing)
