"""Epochs and measurements of sources as rows, and the light curves that they make."""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from dsa110_contimg.registry.models import MeasuredImage, Measurement, Source
from dsa110_contimg.registry.read_models import ReadModel
from dsa110_contimg.registry.sources import DETECTED, SourceSummary, find_source
from dsa110_contimg.registry.statements import AT_ONCE
from dsa110_contimg.sources.epoch_scale import EpochScale
from dsa110_contimg.times import mjd

MOSAIC, TILE = "mosaic", "tile"
_SHARED_S = 1.0
"""Intervals that overlap by less only touch: one tile begins where another ends."""
_LONGEST_TRANSIT_S = 6 * 3600.0
"""What spans more holds several transits and is no epoch of a light curve."""


class EpochFlux(ReadModel):
    """A source at one epoch: time (Unix seconds and MJD, UTC), flux density and its error.

    `upper_limit_jy` is 3 sigma above what is there, where that is below 3 sigma.
    """

    observed: float
    mjd: float
    flux_jy: float
    error_jy: float
    upper_limit_jy: float | None
    image: str


class SourceLightCurve(ReadModel):
    """A source with its light curve."""

    source: SourceSummary
    epochs: list[EpochFlux]


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

    def epochs(self) -> list[EpochFlux]:
        """Measurements one by one; those below 3 sigma with an upper limit."""
        return [
            EpochFlux(
                observed=observed,
                mjd=mjd(observed),
                flux_jy=flux,
                error_jy=error,
                upper_limit_jy=max(flux, 0.0) + 3 * error if flux < 3 * error else None,
                image=image,
            )
            for observed, flux, error, image in zip(
                self.observed.tolist(),
                self.flux_jy.tolist(),
                self.error_jy.tolist(),
                self.image,
                strict=True,
            )
        ]


def record_image(
    session: Session, name: str, kind: str, observed: float, frequency_hz: float, measured: Measured
) -> None:
    """Keep what an image gave; measuring it again replaces the same sources' rows.

    The flux scale of a new image is one until it is compared.
    """
    known = session.scalars(select(MeasuredImage).where(MeasuredImage.name == name)).one_or_none()
    if known is None:
        known = MeasuredImage(
            name=name,
            kind=kind,
            observed=observed,
            frequency_hz=frequency_hz,
            scale=EpochScale.scale,
            scale_error=EpochScale.error,
        )
        session.add(known)
        session.flush()
    ids = measured.ids
    good = np.flatnonzero(np.isfinite(measured.flux_jy) & (measured.error_jy > 0))
    for begin in range(0, good.size, AT_ONCE):
        some = good[begin : begin + AT_ONCE]
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


def forget_images(session: Session, names: Iterable[str]) -> list[int]:
    """Remove images and what was measured on them; returns the numbers of the sources.

    Sources that no catalogue has and that are measured on no other image are removed with them.
    """
    images = select(MeasuredImage.id).where(MeasuredImage.name.in_(list(names)))
    touched = select(Measurement.source_id).where(Measurement.image_id.in_(images)).distinct()
    ids = list(session.scalars(touched))
    session.execute(delete(Measurement).where(Measurement.image_id.in_(images)))
    session.execute(delete(MeasuredImage).where(MeasuredImage.id.in_(images)))
    for begin in range(0, len(ids), AT_ONCE):
        some = ids[begin : begin + AT_ONCE]
        still = select(Measurement.source_id).where(Measurement.source_id.in_(some))
        session.execute(
            delete(Source).where(
                Source.id.in_(some), Source.origin == DETECTED, Source.id.not_in(still)
            )
        )
    return ids


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
    for begin in range(0, len(wanted), AT_ONCE):
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
                Measurement.source_id.in_(wanted[begin : begin + AT_ONCE]),
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


def measured_images(session: Session, names: Iterable[str]) -> set[str]:
    """Those of some images that sources were measured on."""
    wanted = MeasuredImage.name.in_(list(names))
    return set(session.scalars(select(MeasuredImage.name).where(wanted)))


def newest_measured_mosaics(session: Session, but: str, limit: int) -> list[str]:
    """Names of mosaics that sources were measured on, the newest first, without one of them."""
    return list(
        session.scalars(
            select(MeasuredImage.name)
            .where(MeasuredImage.kind == MOSAIC, MeasuredImage.name != but)
            .order_by(MeasuredImage.observed.desc())
            .limit(limit)
        )
    )


def image_scales(
    session: Session, kind: str, names: Iterable[str] | None = None
) -> dict[str, float]:
    """Flux scales of measured images by name.

    Parameters
    ----------
    session : Session
    kind : str
        MOSAIC or TILE.
    names : iterable of str, optional
        Default: all that could be compared with no other epoch.
    """
    which = MeasuredImage.n_compared == 0 if names is None else MeasuredImage.name.in_(list(names))
    rows = session.scalars(select(MeasuredImage).where(MeasuredImage.kind == kind, which))
    return {row.name: row.scale for row in rows}


def set_image_scale(session: Session, name: str, found: EpochScale) -> None:
    """Record the flux scale of a measured image."""
    session.execute(
        update(MeasuredImage)
        .where(MeasuredImage.name == name)
        .values(scale=found.scale, scale_error=found.error, n_compared=found.n_sources)
    )


def source_light_curve(
    session: Session, name: str, kind: str = MOSAIC
) -> tuple[SourceLightCurve, LightCurve | None]:
    """A source by its number or name with its light curve, for people and as arrays.

    Raises
    ------
    UsageError
        If there is no such source.
    """
    source = find_source(session, name)
    curve = light_curves(session, [source.id], kind).get(source.id)
    epochs = curve.epochs() if curve is not None else []
    return SourceLightCurve(source=source, epochs=epochs), curve
