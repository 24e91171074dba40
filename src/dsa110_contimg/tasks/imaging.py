"""Image one tile."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dsa110_contimg.artifacts.tiles import ImagedTile, image_files
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.durable import check_new
from dsa110_contimg.errors import UsageError
from dsa110_contimg.executors.needs import needs
from dsa110_contimg.imaging.selfcal import self_calibrate
from dsa110_contimg.imaging.tile import image_tile, stokes_q
from dsa110_contimg.imaging.wsclean import image_with_wsclean
from dsa110_contimg.sources.options import ComparisonOptions
from dsa110_contimg.stage_options import ImagingOptions
from dsa110_contimg.tasks.sky_models import sky_model
from dsa110_contimg.tasks.tile_checks import check_tile
from dsa110_contimg.tasks.tile_files import write_stokes_q, write_tile
from dsa110_contimg.visibilities import measurement_set, observations


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
        remark = f"self-calibrated, {found.kept} rounds kept: dynamic range {ranges}"
        vis, result = found.vis, replace(found.image, remarks=(*found.image.remarks, remark))
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
        expected_rms_jy=result.expected_rms_jy,
    )
    write_tile(tile, vis, result, options)
    tile = replace(
        tile,
        check=check_tile(
            tile, root, comparison or ComparisonOptions(sky_catalog=options.sky_catalog)
        ),
    )
    if options.stokes == "IQ":
        write_stokes_q(tile, vis, image_tile(stokes_q(vis), None, options, like=result))
    return tile
