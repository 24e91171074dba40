"""A tile's image against the catalogue."""

from dataclasses import replace
from pathlib import Path

from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.fits_image import read_fits
from dsa110_contimg.sky import catalogues, primary_beam
from dsa110_contimg.sources.comparison import SourceCheck, against_catalogue
from dsa110_contimg.sources.options import ComparisonOptions

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
        catalogues.load(root, options.sky_catalog),
        options.min_flux_jy,
        options.isolation_arcsec * ARCSEC_RAD,
        options.model_share,
    )
