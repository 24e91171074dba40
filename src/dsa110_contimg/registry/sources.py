"""Sources: places of the sky that are measured on every image."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.models import Source
from dsa110_contimg.registry.read_models import ReadModel
from dsa110_contimg.registry.statements import AT_ONCE, batches
from dsa110_contimg.sky.cones import Cone
from dsa110_contimg.sources.behaviour import Behaviour

_MOST_DIGITS = 10
"""Of a source's number in every database."""
_ACRONYM = "DSA"
"""In front of the names of sources."""
DETECTED = "detected"
"""Origin of sources that no catalogue has."""


class SourceSummary(ReadModel):
    """A source: position (degrees), flux densities (Jy), and how it varies.

    `modulation` is V, `eta` the reduced chi-square of a constant flux density; `first_detected` is
    in Unix seconds. What was not measured is None.
    """

    id: int
    name: str
    ra_deg: float
    dec_deg: float
    origin: str
    catalogue_jy: float | None
    first_detected: float | None
    behaviour: Behaviour
    n_epochs: int
    mean_jy: float | None
    modulation: float | None
    eta: float | None
    max_snr: float | None
    dip: bool


@dataclass(frozen=True, eq=False)
class Places:
    """Sources of a part of the sky.

    Attributes
    ----------
    ids : ndarray of int, shape (nsource,)
    ra_deg, dec_deg : ndarray, shape (nsource,)
    """

    ids: np.ndarray
    ra_deg: np.ndarray
    dec_deg: np.ndarray


def sources_between(session: Session, first_dec_deg: float, last_dec_deg: float) -> Places:
    """All sources of a declination strip, in order of their numbers."""
    return _places(session, Source.dec_deg.between(first_dec_deg, last_dec_deg))


def sources_around(session: Session, ra_deg: float, dec_deg: float, radius_deg: float) -> Places:
    """All sources of a box about a cone, in order of their numbers."""
    return _places(session, _box(ra_deg, dec_deg, radius_deg))


def _places(session: Session, condition: ColumnElement[bool]) -> Places:
    columns = Source.id, Source.ra_deg, Source.dec_deg
    rows = session.execute(select(*columns).where(condition).order_by(Source.id)).all()
    ids, ra, dec = (np.array([row[k] for row in rows]) for k in range(3))
    return Places(ids.astype(int), ra.astype(float), dec.astype(float))


def source_name(ra_deg: float, dec_deg: float) -> str:
    """Name by position in the fashion of the IAU: truncated, not rounded."""
    tenths = int(round(ra_deg * 2400, 4)) % (24 * 36000)
    arcsec = int(round(abs(dec_deg) * 3600, 3))
    return (
        f"{_ACRONYM} J"
        f"{tenths // 36000:02d}{tenths // 600 % 60:02d}{tenths // 10 % 60:02d}.{tenths % 10}"
        f"{'-' if dec_deg < 0 else '+'}{arcsec // 3600:02d}{arcsec // 60 % 60:02d}{arcsec % 60:02d}"
    )


def find_source(session: Session, name: str) -> SourceSummary:
    """A source by its number, or its name with or without "DSA" in front.

    Raises
    ------
    UsageError
        If there is none.
    """
    is_number = name.isdigit() and len(name) < _MOST_DIGITS
    wanted = Source.id == int(name) if is_number else Source.name.in_((name, f"{_ACRONYM} {name}"))
    row = session.scalars(select(Source).where(wanted)).one_or_none()
    if row is None:
        raise UsageError(f"no source {name!r}; 'dsa110-contimg sources' shows what there is")
    return SourceSummary.model_validate(row)


@dataclass(frozen=True)
class SourceFilter:
    """Conditions on sources; what is absent is no condition.

    Attributes
    ----------
    cone : Cone or None
    name : str
        Part of the name.
    behaviour : Behaviour or None
    min_modulation, min_eta : float or None
    dips : bool
        Only candidates for extreme scattering events.
    """

    cone: Cone | None = None
    name: str = ""
    behaviour: Behaviour | None = None
    min_modulation: float | None = None
    min_eta: float | None = None
    dips: bool = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """Conditions on rows; that of a cone is the box about it."""
        conditions: list[ColumnElement[bool]] = []
        if self.cone is not None:
            conditions.append(_box(self.cone.ra_deg, self.cone.dec_deg, self.cone.radius_deg))
        if self.name:
            conditions.append(Source.name.contains(self.name, autoescape=True))
        if self.behaviour is not None:
            conditions.append(Source.behaviour == self.behaviour)
        if self.min_modulation is not None:
            conditions.append(Source.modulation >= self.min_modulation)
        if self.min_eta is not None:
            conditions.append(Source.eta >= self.min_eta)
        if self.dips:
            conditions.append(Source.dip.is_(True))
        return conditions


@dataclass(frozen=True)
class FoundSources:
    """The first sources that meet some conditions.

    Attributes
    ----------
    n_total : int
        Number of all that meet them.
    sources : list of SourceSummary
    """

    n_total: int
    sources: list[SourceSummary]


def query_sources(session: Session, wanted: SourceFilter, limit: int = 100) -> FoundSources:
    """Sources that meet every condition, the largest eta first.

    Parameters
    ----------
    session : Session
    wanted : SourceFilter
    limit : int
        Maximum number of sources to return.
    """
    conditions = wanted.conditions()
    query = select(Source).where(*conditions).order_by(Source.eta.desc().nulls_last(), Source.id)
    if wanted.cone is None:
        total = session.scalar(select(func.count()).select_from(Source).where(*conditions))
        return FoundSources(total or 0, _summaries(session.scalars(query.limit(limit))))
    rows = session.execute(query.with_only_columns(Source.id, Source.ra_deg, Source.dec_deg)).all()
    ids, ra_deg, dec_deg = np.array(rows, float).reshape(-1, 3).T
    away_arcsec = wanted.cone.distance_arcsec(ra_deg, dec_deg)
    near = ids[away_arcsec <= 3600 * wanted.cone.radius_deg].astype(int).tolist()
    chosen = query.where(Source.id.in_(near[:limit]))
    return FoundSources(len(near), _summaries(session.scalars(chosen)))


def _summaries(rows: Iterable[Source]) -> list[SourceSummary]:
    return [SourceSummary.model_validate(row) for row in rows]


def _box(ra: float, dec: float, radius: float) -> ColumnElement[bool]:
    """Condition of the sources about a cone, degrees."""
    return and_(
        Source.dec_deg.between(dec - radius, dec + radius),
        or_(*(Source.ra_deg.between(*part) for part in _right_ascensions(ra, dec, radius))),
    )


def _right_ascensions(ra: float, dec: float, radius: float) -> list[tuple[float, float]]:
    """Ranges that a cone lies in, degrees; two where it reaches over 0 h."""
    if abs(dec) + radius >= 90:
        return [(0.0, 360.0)]
    half = math.degrees(math.asin(math.sin(math.radians(radius)) / math.cos(math.radians(dec))))
    first, last = ra - half, ra + half
    if first < 0:
        return [(0.0, last), (first + 360, 360.0)]
    if last > 360:
        return [(first, 360.0), (0.0, last - 360)]
    return [(first, last)]


def add_sources(
    session: Session,
    ra_deg: np.ndarray,
    dec_deg: np.ndarray,
    catalogue_jy: np.ndarray,
    origin: str,
    observed: float | None,
) -> None:
    """Add sources; one whose name is taken already is left out.

    Parameters
    ----------
    session : Session
    ra_deg, dec_deg : ndarray, shape (nsource,)
    catalogue_jy : ndarray, shape (nsource,)
        NaN where no catalogue has the source.
    origin : str
        Catalogue, or DETECTED.
    observed : float or None
        Time of the first detection, Unix seconds.
    """
    if ra_deg.size == 0:
        return
    strip = Source.dec_deg.between(float(dec_deg.min()) - 1.0, float(dec_deg.max()) + 1.0)
    names = set(session.scalars(select(Source.name).where(strip)))
    for ra, dec, listed in zip(
        ra_deg.tolist(), dec_deg.tolist(), catalogue_jy.tolist(), strict=True
    ):
        name = source_name(ra, dec)
        if name in names:
            continue
        names.add(name)
        session.add(
            Source(
                name=name,
                ra_deg=ra,
                dec_deg=dec,
                origin=origin,
                catalogue_jy=listed if math.isfinite(listed) else None,
                first_detected=observed,
            )
        )
    session.flush()


def mark_detected(session: Session, ids: Iterable[int], observed: float) -> None:
    """Keep the time of the earliest detection of each source, Unix seconds."""
    earlier = Source.first_detected.is_(None) | (Source.first_detected > observed)
    session.execute(
        update(Source).where(Source.id.in_(list(ids)), earlier).values(first_detected=observed)
    )


def sources_by_number(session: Session, ids: Iterable[int]) -> Iterator[Source]:
    """Rows of some sources, in order of their numbers."""
    for some in batches(sorted(ids), AT_ONCE):
        yield from session.scalars(select(Source).where(Source.id.in_(some)).order_by(Source.id))
