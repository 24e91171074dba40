"""Convert the sub-band files of one observation to a phased Measurement Set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsa110_contimg.artifacts.tiles import ConvertedTile
from dsa110_contimg.durable import check_new, sync_tree
from dsa110_contimg.errors import BadInputError, OutageError, UsageError
from dsa110_contimg.executors.needs import needs
from dsa110_contimg.executors.own_disk import host_of
from dsa110_contimg.sky import astrometry
from dsa110_contimg.telescope import Telescope
from dsa110_contimg.visibilities import conversion, measurement_set, observations, uvh5
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.options import ConversionOptions


@needs(memory_gb=2.5)
def convert(
    files: Sequence[Path], output: Path, telescope: Telescope, options: ConversionOptions
) -> ConvertedTile:
    """Convert the files of one observation.

    Parameters
    ----------
    files : sequence of Path
    output : Path
        Measurement Set to write; must not exist.
    telescope : Telescope
    options : ConversionOptions

    Raises
    ------
    BadInputError
        Naming the file, the cause and what to do.
    """
    _check_output(output)
    if len(files) < options.min_subbands:
        raise BadInputError(
            observations.too_few_message(len(files), telescope.n_subbands, options.min_subbands)
        )
    observation = conversion.read_observation([Path(f) for f in files], telescope)
    n_subbands = telescope.n_subbands - len(observation.absent_subbands)
    if n_subbands < options.min_subbands:
        raise BadInputError(
            "; ".join(
                [
                    *observation.unreadable,
                    observations.too_few_message(
                        n_subbands, telescope.n_subbands, options.min_subbands
                    ),
                ]
            )
        )
    measurement_set.write(output, observation.vis)
    sync_tree(output)
    warnings = [f"{problem}; its sub-band is left out" for problem in observation.unreadable]
    if observation.beyond_earth_orientation_table:
        warnings.append(
            "the data are later than the installed Earth-orientation table: positions may be off "
            "by arcseconds; update the package astropy-iers-data"
        )
    header = uvh5.read_header(Path(files[0]))
    sun_deg, moon_deg = _sun_and_moon_deg(observation.vis)
    return ConvertedTile(
        tile_id=observations.tile_id(header.time_key),
        ms_path=output,
        start=observations.unix_seconds(header.time_key),
        duration_s=header.times_jd.size * header.integration_s,
        ra_deg=float(np.rad2deg(observation.vis.phase_centre_rad[0])),
        dec_deg=float(np.rad2deg(observation.vis.phase_centre_rad[1])),
        apparent_dec_deg=float(np.rad2deg(header.apparent_dec_rad)),
        n_subbands=n_subbands,
        absent_subbands=observation.absent_subbands,
        dead_antennas=observation.dead_antennas,
        n_bad_samples=observation.n_bad_samples,
        warnings=tuple(warnings),
        sun_deg=sun_deg,
        moon_deg=moon_deg,
        host=host_of(output),
    )


def convert_foreign(
    files: Sequence[Path], output: Path, field: str | None, dish_diameter_m: float | None
) -> ConvertedTile:
    """Convert files of another kind or array: one field, at its own phase centre.

    Parameters
    ----------
    files : sequence of Path
        UVFITS, UVH5 or whatever else pyuvdata reads.
    output : Path
        Measurement Set to write; must not exist.
    field : str or None
        Needed where there are several.
    dish_diameter_m : float or None
        Needed where the files do not tell.

    Raises
    ------
    BadInputError, UsageError
    """
    from dsa110_contimg.visibilities.foreign import read_fields

    _check_output(output)
    found = read_fields(files, field, dish_diameter_m)
    if len(found) > 1:
        names = ", ".join(vis.field_name for vis in found)
        raise UsageError(f"{files[0]}: holds the fields {names}; choose one with --field")
    measurement_set.write(output, found[0])
    return describe(output)


def _check_output(output: Path) -> None:
    check_new([output])
    if not output.parent.is_dir():
        raise OutageError(f"{output.parent}: is not a directory; make it, or mount its disk")


def _sun_and_moon_deg(vis: Visibilities) -> tuple[float, float]:
    centre = astrometry.radec_to_vector(*vis.phase_centre_rad)
    sun, moon = (
        float(np.rad2deg(astrometry.separation_rad(body, centre)))
        for body in astrometry.sun_and_moon(float(vis.times_jd.mean()))
    )
    return sun, moon


def describe(ms_path: Path) -> ConvertedTile:
    """What a Measurement Set says of itself, for one that this stage did not just write."""
    vis = measurement_set.read(ms_path)
    start = float(vis.times_jd[0])
    pointing = vis.pointings[vis.times_jd.size // 2]
    sun_deg, moon_deg = _sun_and_moon_deg(vis)
    return ConvertedTile(
        tile_id=observations.tile_id(start),
        ms_path=ms_path,
        start=observations.unix_seconds(start),
        duration_s=vis.times_jd.size * vis.integration_s,
        ra_deg=float(np.rad2deg(vis.phase_centre_rad[0])) % 360,
        dec_deg=float(np.rad2deg(vis.phase_centre_rad[1])),
        apparent_dec_deg=float(np.rad2deg(np.arcsin(pointing[2]))),
        sun_deg=sun_deg,
        moon_deg=moon_deg,
    )
