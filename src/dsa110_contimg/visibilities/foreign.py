"""Files of other arrays, through pyuvdata: UVFITS, UVH5 and whatever else it reads.

pyuvdata's baselines run from antenna 1 to antenna 2 and its visibilities are the conjugates of a
Measurement Set's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.sky import astrometry
from dsa110_contimg.visibilities.data import Array, Visibilities
from dsa110_contimg.visibilities.dishes import DISH_DIAMETERS_M

_PARALLEL_OUTSIDE = {-1: 0, -3: 1, -4: 2, -2: 3, -5: 0, -7: 1, -8: 2, -6: 3}
"""Order of polarizations: the parallel hands first and last."""


def read_fields(
    path: Path | Sequence[Path], field: str | None = None, dish_diameter_m: float | None = None
) -> list[Visibilities]:
    """Read the fields of a file, each at its own phase centre.

    Sub-bands are joined to one ascending frequency axis. Data that are not phased are phased to
    the zenith of the middle of the file.

    Parameters
    ----------
    path : Path or sequence of Path
        UVFITS, UVH5 or another format that pyuvdata knows; several files are sub-bands or times
        of one observation.
    field : str, optional
        Only the field of this name.
    dish_diameter_m : float, optional
        For arrays whose files do not tell.

    Raises
    ------
    BadInputError
        If the file cannot be read, holds no such field, or its dishes are unknown.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    path = paths[0]
    uv = _load(paths)
    names = {
        number: str(entry["cat_name"]).strip() for number, entry in uv.phase_center_catalog.items()
    }
    present = [number for number in names if np.any(uv.phase_center_id_array == number)]
    wanted = [n for n in present if field is None or names[n] == field]
    if not wanted:
        raise BadInputError(
            f"{path}: holds no field {field!r}, only {', '.join(sorted(names[n] for n in present))}"
        )
    array = _array(uv, path, dish_diameter_m)
    return [_field(_phased(uv, number), names[number], array, path) for number in wanted]


def _load(paths: Sequence[Path]) -> Any:
    from pyuvdata import UVData

    path = paths[0]
    for one in paths:
        if not one.exists():
            raise BadInputError(f"{one}: does not exist")
    try:
        names = [str(one) for one in paths]
        uv = UVData.from_file(names[0] if len(names) == 1 else names, run_check=False)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise BadInputError(f"{path}: pyuvdata cannot read it: {error}") from error
    # Some correlators write single precision, which pyuvdata's own phasing refuses.
    uv.uvw_array = uv.uvw_array.astype(float)
    return uv


def _phased(uv: Any, number: int) -> Any:
    """One field, at an ICRS position."""
    one = uv.select(phase_center_ids=[number], inplace=False, run_check=False)
    entry = uv.phase_center_catalog[number]
    drifting = entry["cat_type"] == "unprojected"
    if not drifting and entry["cat_frame"] == "icrs":
        return one
    ra, dec = _zenith(one) if drifting else _icrs(entry)
    one.phase(
        lon=ra, lat=dec, phase_frame="icrs", cat_name=f"{entry['cat_name']} ", use_ant_pos=drifting
    )
    return one


def _icrs(entry: Mapping[str, Any]) -> tuple[float, float]:
    from astropy.coordinates import SkyCoord

    epoch = entry.get("cat_epoch") or 2000.0
    frame = {"fk4": f"B{epoch:g}", "fk5": f"J{epoch:g}"}.get(entry["cat_frame"])
    position = SkyCoord(
        entry["cat_lon"],
        entry["cat_lat"],
        unit="rad",
        frame=entry["cat_frame"],
        **({} if frame is None else {"equinox": frame}),
    ).icrs
    return float(position.ra.rad), float(position.dec.rad)


def _zenith(uv: Any) -> tuple[float, float]:
    latitude, longitude, altitude = uv.telescope.location_lat_lon_alt
    site = astrometry.Site(latitude, longitude, altitude)
    middle = np.array([0.5 * (uv.time_array.min() + uv.time_array.max())])
    up = np.array(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
    ra, dec = astrometry.vector_to_radec(astrometry.EarthFrame(middle, site).icrs_direction(up)[0])
    return float(ra), float(dec)


def _array(uv: Any, path: Path, dish_diameter_m: float | None) -> Array:
    telescope = uv.telescope
    latitude, longitude, altitude = telescope.location_lat_lon_alt
    site = astrometry.Site(latitude, longitude, altitude)
    diameters = telescope.antenna_diameters
    if dish_diameter_m is None and diameters is None:
        dish_diameter_m = DISH_DIAMETERS_M.get(telescope.name)
        if dish_diameter_m is None:
            raise BadInputError(
                f"{path}: does not tell the dishes of {telescope.name}; give dish_diameter_m"
            )
    nant = len(telescope.antenna_names)
    return Array(
        telescope_name=str(telescope.name),
        names=tuple(str(name) for name in telescope.antenna_names),
        positions_itrf_m=telescope.antenna_positions + site.itrf_m(),
        dish_diameters_m=(
            np.full(nant, dish_diameter_m) if dish_diameter_m else np.asarray(diameters, float)
        ),
        site=site,
    )


def _field(uv: Any, name: str, array: Array, path: Path) -> Visibilities:
    position = {int(n): i for i, n in enumerate(uv.telescope.antenna_numbers)}
    rows = np.flatnonzero(uv.ant_1_array != uv.ant_2_array)
    if rows.size == 0:
        raise BadInputError(f"{path}: field {name} has no cross-correlation")
    rows = rows[np.lexsort((uv.ant_2_array[rows], uv.ant_1_array[rows], uv.time_array[rows]))]
    channels = np.argsort(uv.freq_array)
    codes = [int(code) for code in uv.polarization_array]
    unknown = [code for code in codes if code not in _PARALLEL_OUTSIDE]
    if unknown:
        raise BadInputError(f"{path}: holds polarizations {unknown}, neither linear nor circular")
    hands = sorted(range(len(codes)), key=lambda k: _PARALLEL_OUTSIDE[codes[k]])
    cells = np.ix_(rows, channels, np.array(hands))
    data = np.conj(uv.data_array[cells]).astype(np.complex64)
    samples = uv.nsample_array[cells].astype(np.float32)
    finite = np.isfinite(data)
    data[~finite] = 0
    times_jd, time_index = np.unique(uv.time_array[rows], return_inverse=True)
    (centre,) = np.unique(uv.phase_center_id_array)
    entry = uv.phase_center_catalog[int(centre)]
    ra, dec = float(entry["cat_lon"]), float(entry["cat_lat"])
    widths = np.broadcast_to(np.asarray(uv.channel_width, float), uv.freq_array.shape)
    return Visibilities(
        data=data,
        flags=uv.flag_array[cells] | ~finite | (samples <= 0),
        weights=np.maximum(samples, 0),
        uvw_m=-uv.uvw_array[rows],
        antenna1=np.array([position[int(a)] for a in uv.ant_1_array[rows]]),
        antenna2=np.array([position[int(a)] for a in uv.ant_2_array[rows]]),
        time_index=time_index,
        times_jd=times_jd,
        integration_s=float(np.median(uv.integration_time[rows])),
        frequencies_hz=np.asarray(uv.freq_array, float)[channels],
        channel_width_hz=np.abs(widths[channels]),
        polarizations=tuple(codes[k] for k in hands),
        phase_centre_rad=(ra, dec),
        pointings=np.tile(astrometry.radec_to_vector(ra, dec), (times_jd.size, 1)),
        array=array,
        field_name=name.strip(),
        notes=(f"converted from field {name.strip()} of {path.name} by pyuvdata",),
    )
