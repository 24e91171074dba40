"""What happened in a span of time, for the people who were asleep."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Event, Mosaic, MosaicGroup, Product, SubbandFile, Tile
from dsa110_contimg.times import MINUTE, iso
from dsa110_contimg.wording import counted

_MOST = 20


@dataclass(frozen=True)
class Night:
    """Counts and reasons over a span of time.

    Attributes
    ----------
    since, until : float
        Unix seconds.
    observed_tiles : dict of str to int
        Tiles observed then, by the state they are in now.
    files_arrived : int
    tiles_converted : int
    mosaics : tuple of str
        Published then.
    n_by_batch : int
        How many of them batch made.
    mosaic_rms_mjy : float or None
        Median of theirs.
    troubles : tuple of str
        Warnings and errors, the same one once, with how often.
    """

    since: float
    until: float
    observed_tiles: dict[str, int]
    files_arrived: int
    tiles_converted: int
    mosaics: tuple[str, ...]
    n_by_batch: int
    mosaic_rms_mjy: float | None
    troubles: tuple[str, ...]

    def text(self) -> str:
        """For a mail or a terminal."""
        span = " to ".join(iso(moment, MINUTE) for moment in (self.since, self.until))
        states = ", ".join(f"{state} {n}" for state, n in self.observed_tiles.items()) or "none"
        rms = "" if self.mosaic_rms_mjy is None else f", median rms {self.mosaic_rms_mjy:.2f} mJy"
        by_batch = f"; {self.n_by_batch} of them by batch" if self.n_by_batch else ""
        lines = [
            f"{span} UTC",
            f"observed tiles: {states}",
            f"arrived: {counted(self.files_arrived, 'file')}; converted: "
            f"{counted(self.tiles_converted, 'tile')}",
            f"published: {counted(len(self.mosaics), 'mosaic')}{rms}{by_batch}",
            *(f"  {name}" for name in self.mosaics),
            *(["troubles:"] if self.troubles else ["no warnings, no errors"]),
            *(f"  {line}" for line in self.troubles),
        ]
        return "\n".join(lines)


def summary(registry: Registry, since: float, until: float) -> Night:
    """Look back on a span of time."""
    with registry.read() as session:

        def count(column: Any) -> int:
            inside = (column >= since) & (column < until)
            return session.scalar(select(func.count(column)).where(inside)) or 0

        states = session.execute(
            select(Tile.state, func.count())
            .where(Tile.start >= since, Tile.start < until)
            .group_by(Tile.state)
            .order_by(Tile.state)
        )
        published = session.execute(
            select(Mosaic.name, Mosaic.median_rms_jy, Mosaic.group_id)
            .join(Product, Product.name == Mosaic.name)
            .join(MosaicGroup, MosaicGroup.id == Mosaic.group_id, isouter=True)
            .where(Product.kind == "mosaic", Product.published >= since, Product.published < until)
            .order_by(Mosaic.start)
        ).all()
        rms = sorted(rms_jy for _, rms_jy, _ in published if rms_jy is not None)
        troubles = Counter(
            f"{event.level} {event.subject}: {event.message}"
            for event in session.scalars(
                select(Event)
                .where(Event.at >= since, Event.at < until, Event.level.in_(("warning", "error")))
                .order_by(Event.id)
            )
        )
        return Night(
            since=since,
            until=until,
            observed_tiles={str(state): int(n) for state, n in states},
            files_arrived=count(SubbandFile.first_seen),
            tiles_converted=count(Tile.converted_at),
            mosaics=tuple(name for name, *_ in published),
            n_by_batch=sum(not group for *_, group in published),
            mosaic_rms_mjy=1e3 * rms[len(rms) // 2] if rms else None,
            troubles=tuple(
                f"{line} ({n} times)" if n > 1 else line for line, n in troubles.most_common(_MOST)
            ),
        )
