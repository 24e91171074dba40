"""Stage 4: images of each tile."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg import __version__, layout
from dsa110_contimg.artifacts.tiles import (
    CalibratedTiles,
    ImagedTile,
    ImagedTiles,
    Photometry,
    TileCheck,
    image_files,
)
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.durable import check_new
from dsa110_contimg.errors import ImagingError, UsageError
from dsa110_contimg.imaging.fits_image import read_fits, write_fits
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.imaging.restore import local_rms
from dsa110_contimg.imaging.selfcal import self_calibrate
from dsa110_contimg.imaging.tile import image_tile, stokes_q
from dsa110_contimg.imaging.wsclean import image_with_wsclean
from dsa110_contimg.pipeline.calls import call
from dsa110_contimg.pipeline.context import StageContext, without_failures
from dsa110_contimg.pipeline.fresh import fresh_path
from dsa110_contimg.pipeline.needs import needs
from dsa110_contimg.pipeline.own_disk import placed
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.quality.artefacts import find_artefacts
from dsa110_contimg.quality.preview import save_preview
from dsa110_contimg.reports.tile_checks import compare_tile
from dsa110_contimg.robust import median_error
from dsa110_contimg.sources.options import ComparisonOptions
from dsa110_contimg.stage_options import ImagingOptions
from dsa110_contimg.stages.calibration_inputs import sky_model
from dsa110_contimg.visibilities import measurement_set, observations
from dsa110_contimg.visibilities.data import Visibilities

_CORRECTED_CUT = 0.2
_RMS_BOXES = 16
_FEWEST_SOURCES = 5
_VARIES = 0.05
"""What a source differs from its catalogue by, as a fraction, besides the noise."""


@needs(memory_gb=5.0)
def image(
    ms_path: Path,
    prefix: Path,
    root: Path,
    options: ImagingOptions,
    calibration_set_id: str = "",
    column: str = "DATA",
    field: str | None = None,
    comparison: ComparisonOptions | None = None,
) -> ImagedTile:
    """Image a calibrated Measurement Set.

    Parameters
    ----------
    ms_path : Path
    prefix : Path
        Of the files to write.
    root : Path
        Where catalogues lie.
    options : ImagingOptions
    calibration_set_id : str
        For the header.
    column : str
        DATA, or CORRECTED_DATA of a user's own Measurement Set.
    field : str, optional
        Where the Measurement Set holds several.
    comparison : ComparisonOptions, optional
        How the image is compared with a catalogue; default: with the catalogue of the sky model.

    Raises
    ------
    ImagingError, BadInputError, UsageError
    """
    check_new(image_files(prefix))
    if options.imager == "wsclean" and (field is not None or options.selfcal_rounds):
        raise UsageError(
            "imager wsclean takes neither --field nor --selfcal-rounds; split the field out, or "
            "take the built-in imager"
        )
    vis = measurement_set.read(ms_path, column, field)
    subtract = options.subtract_outside and options.imager == "builtin"
    model = sky_model(vis, root, options) if subtract else None
    if options.imager == "wsclean":
        result = image_with_wsclean(vis, ms_path, column, options)
    elif options.selfcal_rounds > 0:
        found = self_calibrate(vis, model, options, options)
        ranges = ", ".join(f"{value:.0f}" for value in found.dynamic_range)
        told = f"self-calibrated, {found.kept} rounds kept: dynamic range {ranges}"
        vis, result = found.vis, replace(found.image, remarks=(*found.image.remarks, told))
    else:
        result = image_tile(vis, model, options)
    start = float(vis.times_jd[0])
    tile = ImagedTile(
        tile_id=observations.tile_id(start),
        prefix=prefix,
        calibration_set_id=calibration_set_id,
        start=observations.unix_seconds(start),
        duration_s=vis.times_jd.size * vis.integration_s,
        ra_deg=float(np.rad2deg(vis.phase_centre_rad[0])) % 360,
        dec_deg=float(np.rad2deg(vis.phase_centre_rad[1])),
        rms_jy=result.rms_jy,
        peak_jy=float(result.apparent.max()),
        beam_major_rad=result.beam.major_rad,
        beam_minor_rad=result.beam.minor_rad,
        beam_angle_rad=result.beam.position_angle_rad,
        cell_arcsec=result.cell_rad / ARCSEC_RAD,
        frequency_hz=result.frequency_hz,
        size=result.apparent.shape[0],
        n_iterations=result.n_iterations,
        n_major=result.n_major,
        n_samples=result.n_samples,
        n_subtracted=result.n_subtracted,
        averaging_loss=result.averaging_loss,
        remarks=result.remarks,
    )
    _write(tile, vis, result, options)
    tile = replace(
        tile,
        check=check_tile(
            tile, root, comparison or ComparisonOptions(sky_catalog=options.sky_catalog)
        ),
    )
    if options.stokes == "IQ":
        _write_q(tile, vis, image_tile(stokes_q(vis), None, options, like=result))
    return tile


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


def _write(tile: ImagedTile, vis: Visibilities, result: TileImage, options: ImagingOptions) -> None:
    from astropy.time import Time

    header: dict[str, Any] = {
        "TELESCOP": vis.array.telescope_name,
        "OBJECT": tile.tile_id,
        "DATE-OBS": Time(vis.times_jd[0], format="jd", scale="utc").isot,
        "DATE-END": Time(vis.times_jd[-1], format="jd", scale="utc").isot,
        "TIMESYS": "UTC",
        "ORIGIN": f"dsa110-contimg {__version__}",
        "CALSET": (tile.calibration_set_id, "calibration set"),
        "WEIGHTNG": options.weighting,
        "ROBUST": result.robust,
        "CLEANIT": (tile.n_iterations, "CLEAN iterations"),
        "IMAGER": options.imager,
        "TAPER": (result.taper_rad / ARCSEC_RAD, "[arcsec] width of the uv taper"),
        "AVGLOSS": (tile.averaging_loss, "lost by averaging at mid-edge, corrected"),
        "IMRMS": (tile.rms_jy, "[Jy/beam] residual rms before beam correction"),
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


def _write_q(tile: ImagedTile, vis: Visibilities, result: TileImage) -> None:
    header = {"OBJECT": tile.tile_id, "STOKES": "Q", "CALSET": tile.calibration_set_id}
    _write_plane(tile, "q", result.apparent, "Jy/beam", vis, result, header)


def _write_plane(
    tile: ImagedTile,
    kind: str,
    pixels: np.ndarray,
    unit: str,
    vis: Visibilities,
    result: TileImage,
    header: Mapping[str, Any],
) -> None:
    picture = result.plane(pixels, vis.phase_centre_rad, unit)
    picture = replace(picture, header={**header, "PBCOR": kind == "pbcor"})
    write_fits(tile.file(kind), picture)


class ImagingStage(Stage):
    """Images every calibrated tile; those that cannot be imaged join those left out before."""

    def __init__(
        self, options: ImagingOptions | None = None, comparison: ComparisonOptions | None = None
    ):
        self.options = options or ImagingOptions()
        self.comparison = comparison

    def run(self, context: StageContext, calibrated: CalibratedTiles) -> ImagedTiles:
        """Image all tiles."""
        calls = [
            call(
                image,
                ms_path=placed(one.host, one.ms_path),
                prefix=fresh_path(
                    layout.images(context.root), one.tile.tile_id, inside=one.tile.tile_id
                ),
                root=context.root,
                options=self.options,
                calibration_set_id=one.calibration_set_id,
                comparison=self.comparison,
            )
            for one in calibrated.tiles
        ]
        made = context.map_sparing(calls, "image", ImagingError)
        good, left_out = without_failures([one.tile.tile_id for one in calibrated.tiles], made)
        return ImagedTiles(good, {**calibrated.left_out, **left_out})
