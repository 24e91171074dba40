"""A tile's image against the catalogue."""

from dataclasses import replace
from pathlib import Path

from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.fits_image import read_fits
from dsa110_contimg.sky import catalogues, primary_beam
from dsa110_contimg.sources.comparison import SourceCheck, against_catalogue

_CHECKED_RESPONSE = 0.5
_CHECKED_JY = 0.05
_ISOLATION_RAD = 120 * ARCSEC_RAD
_MODEL_SHARE = 0.5


def compare_tile(tile: ImagedTile, root: Path, sky_catalog: str) -> tuple[SourceCheck, ...]:
    """Catalogue sources within half the beam's power, measured in a tile's image as it is on disk.

    Parameters
    ----------
    tile : ImagedTile
    root : Path
        Where catalogues lie.
    sky_catalog : str
        None are compared without a catalogue of that name.
    """
    if sky_catalog not in catalogues.names(root):
        return ()
    apparent, response = read_fits(tile.file("image")), read_fits(tile.file("pb")).pixels
    seen = primary_beam.correction(response, _CHECKED_RESPONSE)
    return against_catalogue(
        replace(apparent, pixels=apparent.pixels * seen),
        tile.rms_jy * seen,
        catalogues.load(root, sky_catalog),
        _CHECKED_JY,
        _ISOLATION_RAD,
        _MODEL_SHARE,
    )
