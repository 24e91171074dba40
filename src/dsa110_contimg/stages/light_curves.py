"""Part of stage 9: every known source measured on a mosaic and its tiles, whether seen or not.

Sources are the catalogue's above the noise, and whatever was ever found. One that is found anew is
also measured on the mosaics of before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import MosaicImage, companion
from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.imaging.fits_image import read_fits
from dsa110_contimg.mosaicking.transits import CombinedTile, Transits, transits
from dsa110_contimg.pipeline.calls import call
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.registry import light_curves as rows
from dsa110_contimg.registry import records
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import MeasuredImage, Mosaic, Source, TileImage
from dsa110_contimg.sky import matching, primary_beam
from dsa110_contimg.sources import catalogue_file
from dsa110_contimg.sources.epoch_scale import EpochScale, epoch_scale
from dsa110_contimg.sources.forced import ForcedFluxes, measure
from dsa110_contimg.sources.options import CrossmatchOptions
from dsa110_contimg.sources.variability import Behaviour, Variability, variability

_TILE_RESPONSE = 0.5
_MOST_EARLIER = 50
_AT_ONCE = 500
_MOST_SPAN_S = DAY_S
"""Of a mosaic that shares tiles with another."""


@dataclass(frozen=True)
class _Epoch:
    """An image to measure on.

    Attributes
    ----------
    name, kind : str
    path : Path
    rms_path : Path or None
    rms_jy : float
        Where there is no map.
    primary_beam_path : Path or None
        Of an image that is not beam-corrected.
    observed, frequency_hz : float
    duration_s : float
    tiles : tuple of CombinedTile
        Of a mosaic, combined by `method`.
    method : str
    divisor : float
        Flux scale of a tile, to be divided out.
    """

    name: str
    kind: str
    path: Path
    rms_path: Path | None
    rms_jy: float
    primary_beam_path: Path | None
    observed: float
    frequency_hz: float
    duration_s: float
    tiles: tuple[CombinedTile, ...] = ()
    method: str = ""
    divisor: float = 1.0

    def transits(self, ra_deg: np.ndarray, dec_deg: np.ndarray) -> Transits:
        """When places were observed."""
        if self.tiles:
            return transits(self.tiles, self.method, self.frequency_hz, ra_deg, dec_deg)
        first = self.observed - self.duration_s / 2
        return Transits.during(first, first + self.duration_s, ra_deg.size)

    def row(self) -> MeasuredImage:
        """As a row, its flux scale not yet compared."""
        return MeasuredImage(
            name=self.name,
            kind=self.kind,
            observed=self.observed,
            frequency_hz=self.frequency_hz,
            scale=EpochScale.scale,
            scale_error=EpochScale.error,
        )


def measure_epoch(epoch: _Epoch, ra_deg: np.ndarray, dec_deg: np.ndarray) -> ForcedFluxes:
    """Measure positions on an image."""
    image = read_fits(epoch.path)
    if epoch.primary_beam_path is None:
        noise = (
            read_fits(epoch.rms_path).pixels
            if epoch.rms_path is not None and epoch.rms_path.exists()
            else np.full(image.pixels.shape, epoch.rms_jy)
        )
        return measure(image, noise, ra_deg, dec_deg)
    response = read_fits(epoch.primary_beam_path).pixels
    gain = primary_beam.correction(response, _TILE_RESPONSE) / epoch.divisor
    corrected = replace(image, pixels=image.pixels * gain)
    return measure(corrected, epoch.rms_jy * gain, ra_deg, dec_deg)


def follow(
    context: StageContext,
    registry: Registry,
    name: str,
    catalogue_path: Path,
    options: CrossmatchOptions,
) -> list[str]:
    """Measure all sources of a published mosaic's sky on it and its tiles, and judge them.

    Doing it again changes nothing.

    Parameters
    ----------
    context : StageContext
        Its executor measures.
    registry : Registry
    name : str
        Of the mosaic.
    catalogue_path : Path
        What `crossmatch` wrote.
    options : CrossmatchOptions

    Returns
    -------
    list of str
        What is new about the sources, for operators.
    """
    with registry.read() as session:
        row = session.get(Mosaic, name)
        if row is None:
            return []
        mosaic = records.from_json(MosaicImage, row.record["mosaic"])
        epochs = [_mosaic_epoch(context.root, mosaic), *_tile_epochs(session, mosaic)]
    with registry.write() as session:
        places, fresh = _known_sources(session, catalogue_path, mosaic, options)
    if places.ids.size == 0:
        return []
    calls = [
        call(measure_epoch, epoch=epoch, ra_deg=places.ra_deg, dec_deg=places.dec_deg)
        for epoch in epochs
    ]
    at = np.flatnonzero(np.isin(places.ids, fresh))
    if at.size:
        with registry.read() as session:
            earlier = _other_mosaics(session, context.root, mosaic)
        epochs += earlier
        calls += [
            call(measure_epoch, epoch=epoch, ra_deg=places.ra_deg[at], dec_deg=places.dec_deg[at])
            for epoch in earlier
        ]
    measured = context.map(calls, "photometry")
    with registry.write() as session:
        still = session.get(Mosaic, name)
        if still is None or still.state != "published":
            # It was taken back while it was measured.
            return []
        for epoch, fluxes in zip(epochs, measured, strict=True):
            these = slice(None) if fluxes.flux_jy.size == places.ids.size else at
            when = epoch.transits(places.ra_deg[these], places.dec_deg[these])
            rows.record_image(
                session,
                epoch.row(),
                rows.Measured(
                    places.ids[these],
                    fluxes.flux_jy,
                    fluxes.error_jy,
                    when.middle,
                    when.first,
                    when.last,
                ),
            )
    seen = places.ids[np.isfinite(measured[0].flux_jy)]
    _compare_scales(registry, rows.MOSAIC, [name], seen)
    tiles = [epoch.name for epoch in epochs if epoch.kind == rows.TILE]
    _compare_scales(registry, rows.TILE, tiles, seen)
    return judge(registry, seen)


def withdraw(session: Session, mosaic: MosaicImage) -> np.ndarray:
    """Take the measurements of a mosaic that is no longer published out of all light curves.

    Those on its tiles go with them, but for tiles of another published mosaic. Doing it again
    changes nothing.

    Returns
    -------
    ndarray of int
        Numbers of the sources, to be judged again.
    """
    published = session.scalars(
        select(Mosaic).where(
            Mosaic.state == "published",
            Mosaic.name != mosaic.name,
            Mosaic.start.between(mosaic.start - _MOST_SPAN_S, mosaic.end),
        )
    )
    elsewhere = {
        tile
        for row in published
        for tile in records.from_json(MosaicImage, row.record["mosaic"]).tile_ids
    }
    names = {mosaic.name, *mosaic.tile_ids} - elsewhere
    return np.array(rows.forget_images(session, names), int)


def _mosaic_epoch(root: Path, mosaic: MosaicImage) -> _Epoch:
    path = layout.published_mosaics(root) / f"{mosaic.name}.fits"
    return _Epoch(
        mosaic.name,
        rows.MOSAIC,
        path,
        companion(path, "rms"),
        mosaic.median_rms_jy,
        None,
        (mosaic.start + mosaic.end) / 2,
        mosaic.frequency_hz,
        mosaic.end - mosaic.start,
        mosaic.tiles,
        mosaic.method,
    )


def _tile_epochs(session: Session, mosaic: MosaicImage) -> list[_Epoch]:
    """The mosaic's tiles whose images are still there and were not measured before."""
    divisors = dict(zip(mosaic.tile_ids, (one.divisor for one in mosaic.scales), strict=False))
    known = set(
        session.scalars(select(MeasuredImage.name).where(MeasuredImage.name.in_(mosaic.tile_ids)))
    )
    found = {}
    for row in session.scalars(
        select(TileImage)
        .where(
            TileImage.tile_id.in_(set(mosaic.tile_ids) - known),
            TileImage.calibration_set_id.in_(mosaic.calibration_set_ids),
        )
        .order_by(TileImage.id)
    ):
        image = records.from_json(ImagedTile, row.record)
        if image.file("image").exists() and image.file("pb").exists():
            found[image.tile_id] = _Epoch(
                image.tile_id,
                rows.TILE,
                image.file("image"),
                None,
                image.rms_jy,
                image.file("pb"),
                image.start + image.duration_s / 2,
                image.frequency_hz,
                image.duration_s,
                divisor=divisors.get(image.tile_id, 1.0),
            )
    return [found[tile_id] for tile_id in sorted(found)]


def _other_mosaics(session: Session, root: Path, mosaic: MosaicImage) -> list[_Epoch]:
    """Measured mosaics besides this one, newest first, that are still there."""
    names = session.scalars(
        select(MeasuredImage.name)
        .where(MeasuredImage.kind == rows.MOSAIC, MeasuredImage.name != mosaic.name)
        .order_by(MeasuredImage.observed.desc())
        .limit(_MOST_EARLIER)
    ).all()
    made = session.scalars(select(Mosaic).where(Mosaic.name.in_(names)).order_by(Mosaic.start))
    epochs = [
        _mosaic_epoch(root, records.from_json(MosaicImage, row.record["mosaic"])) for row in made
    ]
    return [epoch for epoch in epochs if epoch.path.exists()]


def _known_sources(
    session: Session, catalogue_path: Path, mosaic: MosaicImage, options: CrossmatchOptions
) -> tuple[rows.Places, np.ndarray]:
    """All sources of the mosaic's sky, new ones among them; and the numbers of those just found."""
    from astropy.table import Table

    found = Table.read(catalogue_path, hdu=catalogue_file.SOURCES, mask_invalid=False)
    listed = Table.read(catalogue_path, hdu=catalogue_file.CATALOGUE, mask_invalid=False)
    with np.errstate(invalid="ignore"):
        bright = listed["catalogue_flux_jy"] >= options.follow_sigma * listed["forced_error_jy"]
    listed = listed[np.asarray(bright)]
    dec = np.concatenate([found["dec_deg"], listed["dec_deg"]])
    if dec.size == 0:
        return rows.Places(np.zeros(0, int), np.zeros(0), np.zeros(0)), np.zeros(0, int)
    strip = (float(dec.min()) - 0.1, float(dec.max()) + 0.1)
    _add(session, strip, listed, options, options.sky_catalog, None)
    before = rows.between(session, *strip)
    _add(session, strip, found, options, rows.DETECTED, (mosaic.start + mosaic.end) / 2)
    after = rows.between(session, *strip)
    fresh = np.setdiff1d(after.ids, before.ids)
    _mark_detected(session, after, found, (mosaic.start + mosaic.end) / 2, options)
    return after, fresh


def _add(
    session: Session,
    strip: tuple[float, float],
    table: Any,
    options: CrossmatchOptions,
    origin: str,
    observed: float | None,
) -> None:
    """Add sources that no known one is near."""
    known = rows.between(session, *strip)
    ra, dec = np.asarray(table["ra_deg"], float), np.asarray(table["dec_deg"], float)
    new = matching.nearest(ra, dec, known.ra_deg, known.dec_deg, options.radius_arcsec).index < 0
    names = set(session.scalars(select(Source.name).where(Source.dec_deg.between(*strip))))
    for i in np.flatnonzero(new):
        name = rows.source_name(float(ra[i]), float(dec[i]))
        if name in names:
            continue
        names.add(name)
        listed = float(table["catalogue_flux_jy"][i])
        session.add(
            Source(
                name=name,
                ra_deg=float(ra[i]),
                dec_deg=float(dec[i]),
                origin=origin,
                catalogue_jy=listed if np.isfinite(listed) else None,
                first_detected=observed,
            )
        )
    session.flush()


def _mark_detected(
    session: Session, places: rows.Places, found: Any, observed: float, options: CrossmatchOptions
) -> None:
    """Remember when each source was first found."""
    match = matching.nearest(
        np.asarray(found["ra_deg"], float),
        np.asarray(found["dec_deg"], float),
        places.ra_deg,
        places.dec_deg,
        options.radius_arcsec,
    )
    ids = places.ids[match.index[match.index >= 0]].tolist()
    earlier = Source.first_detected.is_(None) | (Source.first_detected > observed)
    session.execute(
        update(Source).where(Source.id.in_(ids), earlier).values(first_detected=observed)
    )


def _compare_scales(registry: Registry, kind: str, names: list[str], ids: np.ndarray) -> None:
    """Put epochs on the flux scale of the sources' other epochs.

    Earlier epochs of these sources that could be compared with none are compared then. Years of
    light curves are read before the transaction that writes begins.
    """
    if not names:
        return
    _set_scales(registry, kind, MeasuredImage.name.in_(names), ids, always=True)
    _set_scales(registry, kind, MeasuredImage.n_compared == 0, ids, always=False)


def _set_scales(
    registry: Registry, kind: str, which: ColumnElement[bool], ids: np.ndarray, *, always: bool
) -> None:
    """Compare epochs; what cannot be compared is left as it is unless it is new."""
    with registry.read() as session:
        images = session.scalars(select(MeasuredImage).where(MeasuredImage.kind == kind, which))
        scales = {image.name: image.scale for image in images}
        curves = list(rows.light_curves(session, ids.tolist(), kind).values()) if scales else []
    compared = _compared(curves, scales)
    with registry.write() as session:
        for name, columns in compared.items():
            found = epoch_scale(*np.array(columns, float).reshape(-1, 4).T)
            if found.n_sources or always:
                session.execute(
                    update(MeasuredImage)
                    .where(MeasuredImage.name == name)
                    .values(scale=found.scale, scale_error=found.error, n_compared=found.n_sources)
                )


def _compared(
    curves: Iterable[rows.LightCurve], scales: Mapping[str, float]
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Sources of epochs: flux density and noise as measured, and those of all other epochs.

    Parameters
    ----------
    curves : iterable of LightCurve
    scales : mapping
        What the flux densities of the epochs to compare are divided by in the curves.
    """
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in scales}
    for curve in curves:
        weight = curve.error_jy**-2.0
        total, weighted = weight.sum(), (weight * curve.flux_jy).sum()
        for k, name in enumerate(curve.image if len(curve.image) > 1 else ()):
            if name in scales:
                rest = total - weight[k]
                usual = (weighted - weight[k] * curve.flux_jy[k]) / rest
                flux, noise = scales[name] * curve.flux_jy[k], scales[name] * curve.noise_jy[k]
                found[name].append((flux, noise, usual, rest**-0.5))
    return found


def judge(registry: Registry, ids: np.ndarray) -> list[str]:
    """Measures of variability of the sources; says whose behaviour is new."""
    with registry.read() as session:
        curves = rows.light_curves(session, ids.tolist())
    none = np.zeros(0)
    measured = {
        i: variability(curves[i].flux_jy, curves[i].error_jy)
        if i in curves
        else variability(none, none)
        for i in ids.tolist()
    }
    told = []
    with registry.write() as session:
        for begin in range(0, len(measured), _AT_ONCE):
            some = sorted(measured)[begin : begin + _AT_ONCE]
            for row in session.scalars(select(Source).where(Source.id.in_(some))):
                told += _update(row, measured[row.id])
    return told


def _update(row: Source, found: Variability) -> list[str]:
    """Put measures into a source's row."""
    told = []
    behaviour = found.behaviour(catalogued=row.catalogue_jy is not None)
    if behaviour != row.behaviour and behaviour in _REMARKABLE:
        told.append(
            f"{row.name} is {behaviour}: modulation {found.modulation:.2f}, eta "
            f"{found.eta:.1f} over {found.n} epochs"
        )
    if found.dip and not row.dip:
        told.append(f"{row.name} dips as in an extreme scattering event")
    row.behaviour, row.n_epochs, row.dip = behaviour, found.n, found.dip
    row.mean_jy, row.max_snr = _known(found.mean_jy), _known(found.max_snr)
    row.modulation, row.eta = _known(found.modulation), _known(found.eta)
    return told


def _known(value: float) -> float | None:
    """A number, or nothing where there is none."""
    return value if np.isfinite(value) else None


_REMARKABLE = (Behaviour.VARIABLE, Behaviour.TRANSIENT, Behaviour.VANISHED)
