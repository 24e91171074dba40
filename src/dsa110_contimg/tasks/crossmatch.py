"""Find the sources of one mosaic and match them with a catalogue."""

from pathlib import Path

import numpy as np

from dsa110_contimg.artifacts.mosaics import Crossmatch, companion
from dsa110_contimg.durable import check_new
from dsa110_contimg.imaging.image_reader import beam_of, frequency_of, read_companion, read_image
from dsa110_contimg.imaging.sky_image import SkyImage
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky import astrometry, catalogues, matching
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX, Catalogue
from dsa110_contimg.sources import catalogue_file
from dsa110_contimg.sources.finding import find_sources
from dsa110_contimg.sources.forced import ForcedFluxes, measure
from dsa110_contimg.sources.options import CrossmatchOptions

_POSITION_SIGMA = 3.0
_DISCREPANT_SIGMA = 4.0
_STRONG_SIGMA = 20.0
_FEWEST = 5


def crossmatch(
    mosaic_path: Path, output: Path, root: Path, options: CrossmatchOptions
) -> Crossmatch:
    """Find the sources of a mosaic and match them with a catalogue.

    Parameters
    ----------
    mosaic_path : Path
        FITS file; its `_rms` map is used where it exists.
    output : Path
        FITS file to write; must not exist.
    root : Path
        Where catalogues lie.
    options : CrossmatchOptions
    """
    check_new(catalogue_file.files(output))
    image = read_image(mosaic_path)
    beam_of(mosaic_path, image)
    frequency_hz = frequency_of(mosaic_path, image)
    rms_path = companion(mosaic_path, "rms")
    noise = (
        read_companion(rms_path, image)
        if rms_path.exists()
        else np.full(image.pixels.shape, robust_rms(image.pixels), np.float32)
    )
    found = find_sources(mosaic_path, image, options.threshold_sigma)
    near = _catalogue_on(image, root, options.sky_catalog)
    there = np.hypot(found.ra_error_arcsec, found.dec_error_arcsec)
    radius = np.hypot(options.radius_arcsec, _POSITION_SIGMA * np.nan_to_num(there))
    place = (found.ra_deg, found.dec_deg, near.ra_deg, near.dec_deg)
    match = matching.nearest(*place, radius)
    scaled = near.flux_jy * (frequency_hz / near.frequency_hz) ** DEFAULT_SPECTRAL_INDEX
    forced = measure(image, noise, near.ra_deg, near.dec_deg, near.shapes)
    ratio = _flux_ratio(forced, scaled)
    deviation = forced.flux_jy - (1.0 if ratio is None else ratio) * scaled
    allowed = np.hypot(forced.error_jy, options.flux_tolerance * scaled)
    has = match.index >= 0
    was_found = np.isin(np.arange(len(near)), match.index[has])
    with np.errstate(invalid="ignore"):
        discrepant = np.abs(deviation) > _DISCREPANT_SIGMA * allowed
        expected = scaled >= 2 * options.threshold_sigma * forced.error_jy
    missing = expected & ~was_found
    partner = np.where(has, match.index, 0)
    east = np.where(
        has, _east_arcsec(found.ra_deg, _where(has, near.ra_deg, partner), found.dec_deg), np.nan
    )
    north = 3600 * (found.dec_deg - _where(has, near.dec_deg, partner))
    sources = catalogue_file.sources_table(
        found,
        has,
        matching.count_within(*place, radius),
        _where(has, near.ra_deg, partner),
        _where(has, near.dec_deg, partner),
        _where(has, scaled, partner),
        np.where(has, match.separation_arcsec, np.nan),
    )
    listed = catalogue_file.catalogue_table(
        near.ra_deg, near.dec_deg, scaled, forced, was_found, missing, discrepant
    )
    meta = {
        "MOSAIC": mosaic_path.name,
        "CATALOG": options.sky_catalog,
        "RADIUS": (options.radius_arcsec, "[arcsec] of a match, without errors of position"),
        "RADSIG": (_POSITION_SIGMA, "errors of position added to it in quadrature"),
        "FREQ": (frequency_hz, "[Hz]"),
        **({} if ratio is None else {"FLUXRAT": (ratio, "median of measured over catalogue")}),
    }
    catalogue_file.write(output, sources, listed, meta)
    return Crossmatch(
        path=output,
        n_sources=len(found),
        n_matched=int(has.sum()),
        n_new=int((~has).sum()),
        n_missing=int(missing.sum()),
        n_discrepant=int(discrepant.sum()),
        flux_ratio=ratio,
        east_arcsec=float(np.median(east[has])) if has.any() else None,
        north_arcsec=float(np.median(north[has])) if has.any() else None,
    )


def _catalogue_on(image: SkyImage, root: Path, name: str) -> Catalogue:
    """Catalogue sources on pixels with a number."""
    catalogue = catalogues.load(root, name)
    ny, nx = image.pixels.shape
    border_x, border_y = np.meshgrid(np.linspace(0, nx - 1, 9), (0.0, ny / 2, ny - 1.0))
    _, border_dec_deg = image.sky(border_x.ravel(), border_y.ravel())
    strip = catalogue.between(*_declinations(border_dec_deg, image))
    x, y = image.pixel(strip.ra_deg, strip.dec_deg)
    with np.errstate(invalid="ignore"):
        inside = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
    # A plane shows only half of the sky; the other half falls on the same pixels.
    inside[inside] = _is_there(image, x[inside], y[inside], strip.subset(np.flatnonzero(inside)))
    index = np.flatnonzero(inside)
    seen = np.isfinite(image.pixels[np.rint(y[index]).astype(int), np.rint(x[index]).astype(int)])
    return strip.subset(index[seen])


def _declinations(border_deg: np.ndarray, image: SkyImage) -> tuple[float, float]:
    """Lowest and highest declination of an image, by those of its border."""
    low, high = float(np.nanmin(border_deg)) - 0.1, float(np.nanmax(border_deg)) + 0.1
    ny, nx = image.pixels.shape
    for pole in (-90.0, 90.0):
        x, y = image.pixel(np.zeros(1), np.array([pole]))
        with np.errstate(invalid="ignore"):
            shown = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
        if shown[0] and abs(float(image.sky(x, y)[1][0]) - pole) < 1e-6:
            low, high = min(low, pole), max(high, pole)
    # A border that lies off the sky bounds nothing.
    return (low, high) if np.isfinite(border_deg).all() else (-90.0, 90.0)


def _is_there(image: SkyImage, x: np.ndarray, y: np.ndarray, sources: Catalogue) -> np.ndarray:
    """True where a pixel shows the source that falls on it."""
    shown, meant = (
        astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
        for ra_deg, dec_deg in (image.sky(x, y), (sources.ra_deg, sources.dec_deg))
    )
    with np.errstate(invalid="ignore"):
        return astrometry.separation_rad(shown, meant) < image.cell_rad


def _flux_ratio(forced: ForcedFluxes, scaled: np.ndarray) -> float | None:
    """Median of measured over catalogue flux density of strong sources; None of too few."""
    with np.errstate(invalid="ignore"):
        strong = scaled >= _STRONG_SIGMA * forced.error_jy
    ratio = forced.flux_jy[strong] / scaled[strong]
    return float(np.median(ratio)) if ratio.size >= _FEWEST else None


def _east_arcsec(ra_deg: np.ndarray, from_ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
    turned = (ra_deg - from_ra_deg + 180) % 360 - 180
    return 3600 * turned * np.cos(np.deg2rad(dec_deg))


def _where(has: np.ndarray, values: np.ndarray, partner: np.ndarray) -> np.ndarray:
    return np.where(has, values[partner], np.nan) if values.size else np.full(has.shape, np.nan)
