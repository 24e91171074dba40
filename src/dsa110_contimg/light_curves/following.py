"""Measure every known source on a mosaic and its tiles, whether it is seen or not.

Sources are the catalogue's above the noise, and whatever was ever found. One that is found anew is
also measured on the mosaics of before.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.artifacts.mosaics import MosaicImage
from dsa110_contimg.constants import DAY_S
from dsa110_contimg.executors.calls import call
from dsa110_contimg.light_curves.epochs import earlier_epochs, mosaic_epoch, tile_epochs
from dsa110_contimg.light_curves.judging import judge
from dsa110_contimg.light_curves.scales import compare_scales
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.registry import light_curves as rows
from dsa110_contimg.registry.database import Registry, Session
from dsa110_contimg.registry.mosaics import is_published, published_between, registered_mosaic
from dsa110_contimg.registry.sources import (
    DETECTED,
    Places,
    add_sources,
    mark_detected,
    sources_between,
)
from dsa110_contimg.sky import matching
from dsa110_contimg.sources import catalogue_file
from dsa110_contimg.sources.options import CrossmatchOptions
from dsa110_contimg.tasks.photometry import measure_epoch

if TYPE_CHECKING:
    from astropy.table import Table

_MAX_SPAN_S = DAY_S
"""Maximum length of a mosaic that shares tiles with another."""


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
        mosaic = registered_mosaic(session, name)
        if mosaic is None:
            return []
        epochs = [mosaic_epoch(context.root, mosaic), *tile_epochs(session, mosaic)]
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
            earlier = earlier_epochs(session, context.root, mosaic)
        epochs += earlier
        calls += [
            call(measure_epoch, epoch=epoch, ra_deg=places.ra_deg[at], dec_deg=places.dec_deg[at])
            for epoch in earlier
        ]
    measured = context.map(calls, "photometry")
    with registry.write() as session:
        if not is_published(session, name):
            # It was taken back while it was measured.
            return []
        for epoch, fluxes in zip(epochs, measured, strict=True):
            these = slice(None) if fluxes.flux_jy.size == places.ids.size else at
            when = epoch.transits(places.ra_deg[these], places.dec_deg[these])
            rows.record_image(
                session,
                epoch.name,
                epoch.kind,
                epoch.observed,
                epoch.frequency_hz,
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
    compare_scales(registry, rows.MOSAIC, [name], seen)
    tiles = [epoch.name for epoch in epochs if epoch.kind == rows.TILE]
    compare_scales(registry, rows.TILE, tiles, seen)
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
    near = published_between(session, mosaic.start - _MAX_SPAN_S, mosaic.end)
    elsewhere = {tile for one in near if one.name != mosaic.name for tile in one.tile_ids}
    names = {mosaic.name, *mosaic.tile_ids} - elsewhere
    return np.array(rows.forget_images(session, names), int)


def _known_sources(
    session: Session, catalogue_path: Path, mosaic: MosaicImage, options: CrossmatchOptions
) -> tuple[Places, np.ndarray]:
    """All sources of the mosaic's sky, new ones among them; and the numbers of those just found."""
    from astropy.table import Table

    found = Table.read(catalogue_path, hdu=catalogue_file.SOURCES, mask_invalid=False)
    listed = Table.read(catalogue_path, hdu=catalogue_file.CATALOGUE, mask_invalid=False)
    with np.errstate(invalid="ignore"):
        bright = listed["catalogue_flux_jy"] >= options.follow_sigma * listed["forced_error_jy"]
    listed = listed[np.asarray(bright)]
    dec = np.concatenate([found["dec_deg"], listed["dec_deg"]])
    if dec.size == 0:
        return Places(np.zeros(0, int), np.zeros(0), np.zeros(0)), np.zeros(0, int)
    strip = (float(dec.min()) - 0.1, float(dec.max()) + 0.1)
    observed = (mosaic.start + mosaic.end) / 2
    _add_new(session, strip, listed, options.radius_arcsec, options.sky_catalog, None)
    before = sources_between(session, *strip)
    _add_new(session, strip, found, options.radius_arcsec, DETECTED, observed)
    after = sources_between(session, *strip)
    match = matching.nearest(
        np.asarray(found["ra_deg"], float),
        np.asarray(found["dec_deg"], float),
        after.ra_deg,
        after.dec_deg,
        options.radius_arcsec,
    )
    mark_detected(session, after.ids[match.index[match.index >= 0]].tolist(), observed)
    return after, np.setdiff1d(after.ids, before.ids)


def _add_new(
    session: Session,
    strip: tuple[float, float],
    table: "Table",
    radius_arcsec: float,
    origin: str,
    observed: float | None,
) -> None:
    """Add sources that no known one is near."""
    known = sources_between(session, *strip)
    ra, dec, listed = (
        np.asarray(table[name], float) for name in ("ra_deg", "dec_deg", "catalogue_flux_jy")
    )
    new = matching.nearest(ra, dec, known.ra_deg, known.dec_deg, radius_arcsec).index < 0
    add_sources(session, ra[new], dec[new], listed[new], origin, observed)
