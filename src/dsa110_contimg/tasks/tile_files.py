"""The files of a tile's image: planes as FITS, and a picture."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.constants import ARCSEC_RAD, DAY_S
from dsa110_contimg.imaging import header_cards
from dsa110_contimg.imaging.fits_image import write_fits
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.imaging.restore import local_rms
from dsa110_contimg.quality.preview import save_preview
from dsa110_contimg.stage_options import ImagingOptions
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities.data import Visibilities

_CORRECTED_CUT = 0.2
_RMS_BOXES = 16


def write_tile(
    tile: ImagedTile, vis: Visibilities, result: TileImage, options: ImagingOptions
) -> None:
    """Write all planes of an image under the tile's prefix.

    Parameters
    ----------
    tile : ImagedTile
    vis : Visibilities
        That were imaged.
    result : TileImage
    options : ImagingOptions
        For the header.
    """
    header: dict[str, object] = {
        **observation_cards(vis),
        "OBJECT": tile.tile_id,
        "CALSET": (tile.calibration_set_id, "calibration set"),
        "WEIGHTNG": options.weighting,
        "ROBUST": result.robust,
        "CLEANIT": (tile.n_iterations, "CLEAN iterations"),
        "IMAGER": options.imager,
        "TAPER": (result.taper_rad / ARCSEC_RAD, "[arcsec] width of the uv taper"),
        "AVGLOSS": (tile.averaging_loss, "lost by averaging at mid-edge, corrected"),
        "IMRMS": (tile.rms_jy, "[Jy/beam] residual rms before beam correction"),
        header_cards.EXPECTED_RMS_CARD: (result.expected_rms_jy, "[Jy/beam] expected, likewise"),
        "PBWIDTH": (vis.beam.width, "primary beam over that of the dish"),
        "PBEAST": (np.rad2deg(vis.beam.east_rad) * 60, "[arcmin] beam centre from dish axis"),
        "PBNORTH": (np.rad2deg(vis.beam.north_rad) * 60, "[arcmin] beam centre from dish axis"),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        corrected = np.where(
            result.primary_beam >= _CORRECTED_CUT, result.apparent / result.primary_beam, np.nan
        )
    planes = {
        "image": (result.apparent, "Jy/beam"),
        "pbcor": (corrected, "Jy/beam"),
        "pb": (result.primary_beam, ""),
        "residual": (result.residual, "Jy/beam"),
        "model": (result.model, "Jy/pixel"),
        "psf": (result.psf, ""),
        "rms": (local_rms(result.residual, tile.size // _RMS_BOXES), "Jy/beam"),
    }
    for kind, (pixels, unit) in planes.items():
        _write_plane(tile, kind, pixels, unit, vis, result, header)
    save_preview(
        tile.prefix.with_name(f"{tile.prefix.name}.png"),
        result.apparent,
        tile.rms_jy,
        result.cell_rad,
        result.beam,
        tile.tile_id,
    )


def observation_cards(vis: Visibilities) -> dict[str, object]:
    """When, where and over which band visibilities were observed."""
    from astropy.time import Time

    # Times of visibilities are the middles of integrations.
    half_d = 0.5 * vis.integration_s / DAY_S
    begin, end = (
        Time(jd + shift, format="jd", scale="utc")
        for jd, shift in ((vis.times_jd[0], -half_d), (vis.times_jd[-1], half_d))
    )
    name = vis.array.telescope_name
    return (
        header_cards.origin(DSA110.common_name if name == DSA110.name else name)
        | header_cards.times(begin, end)
        | header_cards.place_and_band(vis.array.site, float(vis.channel_width_hz.sum()))
    )


def write_stokes_q(tile: ImagedTile, vis: Visibilities, result: TileImage) -> None:
    """Write the image of Stokes Q."""
    header = observation_cards(vis) | {
        "OBJECT": tile.tile_id,
        "STOKES": "Q",
        "CALSET": tile.calibration_set_id,
    }
    _write_plane(tile, "q", result.apparent, "Jy/beam", vis, result, header)


def _write_plane(
    tile: ImagedTile,
    kind: str,
    pixels: np.ndarray,
    unit: str,
    vis: Visibilities,
    result: TileImage,
    header: Mapping[str, object],
) -> None:
    picture = result.plane(pixels, vis.phase_centre_rad, unit)
    picture = replace(picture, header={**header, "PBCOR": kind == "pbcor"})
    write_fits(tile.file(kind), picture)
