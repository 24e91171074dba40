"""Sources, epochs and measurements as rows."""

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import erfa
import numpy as np
from sqlalchemy import ColumnElement, and_, delete, insert, or_, select
from sqlalchemy.orm import Session

from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.models import MeasuredImage, Measurement, Source

_AT_ONCE = 500
_MOST_DIGITS = 10
"""Of a source's number in every database."""
MOSAIC, TILE = "mosaic", "tile"
DETECTED = "detected"
"""Origin of sources that no catalogue has."""
_SHARED_S = 1.0
"""Intervals that overlap by less only touch: one tile begins where another ends."""
_LONGEST_TRANSIT_S = 6 * 3600.0
"""What spans more holds several transits and is no epoch of a light curve."""


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


@dataclass(frozen=True, eq=False)
class Measured:
    """What an image gave for some sources.

    Attributes
    ----------
    ids : ndarray of int, shape (nsource,)
    flux_jy, error_jy : ndarray, shape (nsource,)
        NaN where nothing could be measured; the errors are those of the noise.
    observed, first, last : ndarray, shape (nsource,)
        Mean time, begin and end of the observation of each source, Unix seconds.
    """

    ids: np.ndarray
    flux_jy: np.ndarray
    error_jy: np.ndarray
    observed: np.ndarray
    first: np.ndarray
    last: np.ndarray


@dataclass(frozen=True, eq=False)
class LightCurve:
    """Measurements of one source in order of time, each observation once.

    Attributes
    ----------
    observed : ndarray, shape (nepoch,)
        When the source was in the beam, Unix seconds.
    flux_jy, error_jy : ndarray, shape (nepoch,)
        On the flux scale of the source's other epochs; errors with those of the scale.
    noise_jy : ndarray, shape (nepoch,)
        The part of the errors that is noise.
    image : tuple of str
    """

    observed: np.ndarray
    flux_jy: np.ndarray
    error_jy: np.ndarray
    noise_jy: np.ndarray
    image: tuple[str, ...]

    def as_rows(self) -> list[dict[str, Any]]:
        """Plain values; below 3 sigma with an upper limit of 3 sigma above what is there."""
        return [
            {
                "observed": float(observed),
                "flux_jy": float(flux),
                "error_jy": float(error),
                "upper_limit_jy": float(max(flux, 0.0) + 3 * error) if flux < 3 * error else None,
                "image": image,
            }
            for observed, flux, error, image in zip(
                self.observed, self.flux_jy, self.error_jy, self.image, strict=True
            )
        ]


def between(session: Session, first_dec_deg: float, last_dec_deg: float) -> Places:
    """All sources of a declination strip, in order of their numbers."""
    return _places(session, Source.dec_deg.between(first_dec_deg, last_dec_deg))


def around(session: Session, ra_deg: float, dec_deg: float, radius_deg: float) -> Places:
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


def record_image(session: Session, image: MeasuredImage, measured: Measured) -> int:
    """Keep what an image gave; measuring it again replaces the same sources' rows."""
    known = session.scalars(
        select(MeasuredImage).where(MeasuredImage.name == image.name)
    ).one_or_none()
    if known is None:
        session.add(image)
        session.flush()
        known = image
    ids = measured.ids
    good = np.flatnonzero(np.isfinite(measured.flux_jy) & (measured.error_jy > 0))
    for begin in range(0, good.size, _AT_ONCE):
        some = good[begin : begin + _AT_ONCE]
        session.execute(
            delete(Measurement).where(
                Measurement.image_id == known.id, Measurement.source_id.in_(ids[some].tolist())
            )
        )
        session.execute(
            insert(Measurement),
            [
                {
                    "source_id": int(ids[i]),
                    "image_id": known.id,
                    "flux_jy": float(measured.flux_jy[i]),
                    "error_jy": float(measured.error_jy[i]),
                    "observed": float(measured.observed[i]),
                    "first": float(measured.first[i]),
                    "last": float(measured.last[i]),
                }
                for i in some
            ],
        )
    return known.id


def forget_images(session: Session, names: Iterable[str]) -> list[int]:
    """Remove images and what was measured on them; returns the numbers of the sources.

    Sources that no catalogue has and that are measured on no other image are removed with them.
    """
    images = select(MeasuredImage.id).where(MeasuredImage.name.in_(list(names)))
    touched = select(Measurement.source_id).where(Measurement.image_id.in_(images)).distinct()
    ids = list(session.scalars(touched))
    session.execute(delete(Measurement).where(Measurement.image_id.in_(images)))
    session.execute(delete(MeasuredImage).where(MeasuredImage.id.in_(images)))
    for begin in range(0, len(ids), _AT_ONCE):
        some = ids[begin : begin + _AT_ONCE]
        still = select(Measurement.source_id).where(Measurement.source_id.in_(some))
        session.execute(
            delete(Source).where(
                Source.id.in_(some), Source.origin == DETECTED, Source.id.not_in(still)
            )
        )
    return ids


def find(session: Session, name: str) -> Source:
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
    return row


def query(
    session: Session,
    *,
    cone: tuple[float, float, float] | None = None,
    name: str | None = None,
    behaviour: str | None = None,
    min_modulation: float | None = None,
    min_eta: float | None = None,
    dips: bool = False,
    limit: int = 100,
) -> list[Source]:
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
        return list(session.scalars(wanted.limit(limit)))
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
    return list(session.scalars(wanted.where(Source.id.in_(found))))


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


def as_dict(row: Source) -> dict[str, Any]:
    """Plain values of a source."""
    return {column.key: getattr(row, column.key) for column in Source.__table__.columns}


def light_curves(session: Session, ids: Iterable[int], kind: str = MOSAIC) -> dict[int, LightCurve]:
    """Light curves of some sources; those without a measurement are absent.

    Mosaics may share tiles: of measurements that share an observation the most precise counts.

    Parameters
    ----------
    session : Session
    ids : iterable of int
    kind : str
        Epochs that are mosaics, or tiles.
    """
    wanted = sorted(ids)
    rows: list[Any] = []
    for begin in range(0, len(wanted), _AT_ONCE):
        rows += session.execute(
            select(
                Measurement.source_id,
                Measurement.observed,
                Measurement.flux_jy,
                Measurement.error_jy,
                MeasuredImage.scale,
                MeasuredImage.scale_error,
                Measurement.first,
                Measurement.last,
                MeasuredImage.name,
            )
            .join(MeasuredImage, MeasuredImage.id == Measurement.image_id)
            .where(
                Measurement.source_id.in_(wanted[begin : begin + _AT_ONCE]),
                MeasuredImage.kind == kind,
                Measurement.last - Measurement.first <= _LONGEST_TRANSIT_S,
            )
            .order_by(Measurement.source_id, Measurement.observed, MeasuredImage.id)
        ).all()
    by_source: dict[int, list[Sequence[float]]] = {}
    for row in rows:
        by_source.setdefault(row[0], []).append(row)
    made = {}
    for source_id, epochs in by_source.items():
        columns = np.array([row[1:8] for row in epochs], float).T
        kept = _each_observation_once(columns[5], columns[6], columns[2])
        observed, flux, error, scale, scale_error = columns[:5, kept]
        made[source_id] = LightCurve(
            observed,
            flux / scale,
            np.hypot(error, scale_error * flux) / scale,
            error / scale,
            tuple(str(epochs[k][8]) for k in kept),
        )
    return made


def _each_observation_once(first: np.ndarray, last: np.ndarray, error: np.ndarray) -> list[int]:
    """Indices, ascending, of measurements that share no observation, the most precise first."""
    # Those that are kept do not overlap, so only the neighbours in time can.
    kept: list[tuple[float, float, int]] = []
    for k in np.argsort(error, kind="stable").tolist():
        one = (float(first[k]), float(last[k]), k)
        at = bisect.bisect(kept, one)
        overlap_s = [
            min(one[1], other[1]) - max(one[0], other[0]) for other in kept[max(at - 1, 0) : at + 1]
        ]
        if max(overlap_s, default=0.0) < _SHARED_S:
            kept.insert(at, one)
    return sorted(k for *_, k in kept)
