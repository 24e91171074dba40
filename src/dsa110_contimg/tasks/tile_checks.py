"""A tile's image against the catalogue."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dsa110_contimg.artifacts.tiles import ImagedTile, Photometry, TileCheck
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.quality.artefacts import find_artefacts
from dsa110_contimg.robust import median_error
from dsa110_contimg.sky import catalogues, primary_beam
from dsa110_contimg.sources.comparison import against_catalogue
from dsa110_contimg.sources.options import ComparisonOptions
from dsa110_contimg.sources.source_check import SourceCheck

_CHECKED_RESPONSE = 0.5


def compare_tile(
    tile: ImagedTile, root: Path, options: ComparisonOptions
) -> tuple[SourceCheck, ...]:
    """Catalogue sources within half the beam's power, measured in a tile's image as it is on disk.

    Parameters
    ----------
    tile : ImagedTile
    root : Path
        Where catalogues lie.
    options : ComparisonOptions
        None are compared without a catalogue of that name.
    """
    if options.sky_catalog not in catalogues.names(root):
        return ()
    apparent, response = read_fits(tile.file("image")), read_fits(tile.file("pb")).pixels
    seen = primary_beam.correction(response, _CHECKED_RESPONSE)
    return against_catalogue(
        replace(apparent, pixels=apparent.pixels * seen),
        tile.rms_jy * seen,
        apparent.frequency_hz,
        catalogues.load(root, options.sky_catalog),
        options.min_flux_jy,
        options.isolation_arcsec * ARCSEC_RAD,
        options.model_share,
    )


_FEWEST_SOURCES = 5


_VARIES = 0.05
"""What a source differs from its catalogue by, as a fraction, besides the noise."""


def check_tile(tile: ImagedTile, root: Path, comparison: ComparisonOptions) -> TileCheck:
    """Look at a tile's image as it is on disk.

    Parameters
    ----------
    tile : ImagedTile
    root : Path
        Where catalogues lie.
    comparison : ComparisonOptions
        Without a catalogue of that name the sources are not looked at.
    """
    pixels = read_fits(tile.file("image")).pixels
    n_not_finite = int(np.count_nonzero(~np.isfinite(pixels)))
    patterns = find_artefacts(pixels)
    if n_not_finite:
        return TileCheck(n_not_finite=n_not_finite, artefacts=patterns)
    found = compare_tile(tile, root, comparison)
    photometry = tuple(
        Photometry(s.ra_deg, s.dec_deg, s.catalogue_jy, s.measured_jy, s.noise_jy)
        for s in found
        if s.is_strong
    )
    compared = [s for s in found if s.in_ratio]
    if len(compared) < _FEWEST_SOURCES:
        return TileCheck(artefacts=patterns, photometry=photometry)
    ratio, east, north = (
        np.array(column)
        for column in zip(
            *((s.measured_jy / s.catalogue_jy, s.east_arcsec, s.north_arcsec) for s in compared),
            strict=True,
        )
    )
    return TileCheck(
        n_sources=len(compared),
        flux_ratio=float(np.median(ratio)),
        flux_ratio_error=float(np.hypot(median_error(ratio), _VARIES / np.sqrt(ratio.size))),
        east_arcsec=float(np.median(east)),
        north_arcsec=float(np.median(north)),
        offset_error_arcsec=float(np.hypot(median_error(east), median_error(north))),
        artefacts=patterns,
        photometry=photometry,
    )
