"""Sources: places of the sky that are measured on every image."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import erfa
import numpy as np
from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.models import Source
from dsa110_contimg.registry.read_models import ReadModel
from dsa110_contimg.registry.statements import AT_ONCE, batches

_MOST_DIGITS = 10
"""Of a source's number in every database."""
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
    behaviour: str
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
        f"DSA J{tenths // 36000:02d}{tenths // 600 % 60:02d}{tenths // 10 % 60:02d}.{tenths % 10}"
        f"{'-' if dec_deg < 0 else '+'}{arcsec // 3600:02d}{arcsec // 60 % 60:02d}{arcsec % 60:02d}"
    )


def find_source(session: Session, name: str) -> SourceSummary:
    """A source by its number or name.

    Raises
    ------
    UsageError
        If there is none.
    """
    is_number = name.isdigit() and len(name) < _MOST_DIGITS
    wanted = Source.id == int(name) if is_number else Source.name == name
    row = session.scalars(select(Source).where(wanted)).one_or_none()
    if row is None:
        raise UsageError(f"no source {name!r}; 'dsa110-contimg sources' shows what there is")
    return SourceSummary.model_validate(row)


def query_sources(
    session: Session,
    *,
    cone: tuple[float, float, float] | None = None,
    name: str | None = None,
    behaviour: str | None = None,
    min_modulation: float | None = None,
    min_eta: float | None = None,
    dips: bool = False,
    limit: int = 100,
) -> list[SourceSummary]:
    """Sources that meet every condition, the largest eta first.

    Parameters
    ----------
    session : Session
    cone : tuple of float, optional
        Right ascension, declination and radius, degrees.
    name : str, optional
        Part of the name.
    behaviour : str, optional
    min_modulation, min_eta : float, optional
    dips : bool
        Only candidates for extreme scattering events.
    limit : int
    """
    wanted = select(Source).order_by(Source.eta.desc().nulls_last(), Source.id)
    if name:
        wanted = wanted.where(Source.name.contains(name, autoescape=True))
    if behaviour:
        wanted = wanted.where(Source.behaviour == behaviour)
    if min_modulation is not None:
        wanted = wanted.where(Source.modulation >= min_modulation)
    if min_eta is not None:
        wanted = wanted.where(Source.eta >= min_eta)
    if dips:
        wanted = wanted.where(Source.dip)
    if cone is None:
        return _summaries(session.scalars(wanted.limit(limit)))
    ra, dec, radius = cone
    columns = Source.id, Source.ra_deg, Source.dec_deg
    rows = [
        tuple(row) for row in session.execute(wanted.with_only_columns(*columns).where(_box(*cone)))
    ]
    if not rows:
        return []
    ids, ras, decs = np.array(rows).T
    away = erfa.seps(*np.deg2rad((ras, decs)), *np.deg2rad((ra, dec)))
    near = away <= np.deg2rad(radius)
    found = ids[near][:limit].astype(int).tolist()
    return _summaries(session.scalars(wanted.where(Source.id.in_(found))))


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
