"""Sixteen sub-band files to one phased, sorted set of visibilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.sky import astrometry
from dsa110_contimg.telescope import Telescope
from dsa110_contimg.visibilities import phasing, uvh5
from dsa110_contimg.visibilities.data import Array, Visibilities

_DEAD_FRACTION = 1e-3
"""An antenna is dead if its median amplitude is below this fraction of the array's."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One tile's visibilities as they came from the telescope, at one phase centre.

    Attributes
    ----------
    vis : Visibilities
        Raw units, rows time-major, channels ascending in frequency, no autos.
    absent_subbands : tuple of int
        Sub-bands without a file; their channels are flagged.
    dead_antennas : tuple of str
        Names of antennas in the data without any signal; flagged.
    n_bad_samples : int
        Samples that were not finite or absurd; flagged.
    beyond_earth_orientation_table : bool
    unreadable : tuple of str
        What is wrong with files whose header is good and whose data are not; these sub-bands
        count as absent.
    """

    vis: Visibilities
    absent_subbands: tuple[int, ...]
    dead_antennas: tuple[str, ...]
    n_bad_samples: int
    beyond_earth_orientation_table: bool
    unreadable: tuple[str, ...] = ()


def read_observation(paths: Sequence[Path], telescope: Telescope) -> Observation:
    """Read the sub-band files of one observation and phase them to its centre.

    Parameters
    ----------
    paths : sequence of Path
        Files of one observation in any order; absent sub-bands become flagged channels.
    telescope : Telescope
        Band and sub-bands; the site is the files' own.

    Raises
    ------
    BadInputError
        Naming the file that does not fit, and why.
    RetryableError
        If the disk fails while one is read.
    """
    headers = _check_together([uvh5.read_header(Path(path)) for path in paths], telescope)
    first = next(iter(headers.values()))
    latitude, longitude, altitude = first.site_deg_m
    site = astrometry.Site(np.deg2rad(latitude), np.deg2rad(longitude), altitude)
    geometry = phasing.drift_geometry(first.times_jd, first.apparent_dec_rad, site)
    cross = np.flatnonzero(first.antenna1 != first.antenna2)
    antenna1, antenna2 = first.antenna1[cross], first.antenna2[cross]
    uvw = phasing.baseline_uvw(geometry.axes_itrf, first.antenna_positions_m, antenna1, antenna2)
    arrival_w = phasing.drift_w(geometry.drift_itrf, first.antenna_positions_m, antenna1, antenna2)
    width = first.channel_width_hz
    nchan = first.frequencies_hz.size * telescope.n_subbands
    frequencies = telescope.band_bottom_hz + (np.arange(nchan) + 0.5) * width
    samples = _read_samples(headers, cross, uvw[:, :, 2] - arrival_w[None, :], frequencies)

    ntime, nbaseline = first.times_jd.size, cross.size
    power = samples.power.reshape(ntime, nbaseline).sum(axis=0)
    dead = _dead_antennas(power, antenna1, antenna2)
    is_dead = np.isin(antenna1, dead) | np.isin(antenna2, dead)
    samples.flags.reshape(ntime, nbaseline, nchan, -1)[:, is_dead] = True
    there = headers.keys() - samples.unreadable.keys()
    absent = tuple(n for n in range(telescope.n_subbands) if n not in there)
    dead_names = tuple(first.antenna_names[a] for a in dead)
    return Observation(
        vis=Visibilities(
            data=samples.data,
            flags=samples.flags,
            weights=np.broadcast_to(samples.weights[:, None, :], samples.data.shape),
            uvw_m=uvw.reshape(-1, 3),
            antenna1=np.tile(antenna1, ntime),
            antenna2=np.tile(antenna2, ntime),
            time_index=np.repeat(np.arange(ntime), nbaseline),
            times_jd=first.times_jd,
            integration_s=first.integration_s,
            frequencies_hz=frequencies,
            channel_width_hz=np.full(nchan, width),
            polarizations=first.polarizations,
            phase_centre_rad=geometry.phase_centre_rad,
            pointings=geometry.pointings,
            array=_array(first, telescope, site),
            field_name="drift",
            notes=(
                f"converted from {len(there)} sub-band files",
                f"absent sub-bands flagged: {_listed(absent)}",
                f"dead antennas flagged: {_listed(dead_names)}",
                f"samples not finite, flagged: {samples.n_bad}",
                *(f"left out: {problem}" for problem in samples.unreadable.values()),
            ),
        ),
        absent_subbands=absent,
        dead_antennas=dead_names,
        n_bad_samples=samples.n_bad,
        beyond_earth_orientation_table=geometry.beyond_earth_orientation_table,
        unreadable=tuple(samples.unreadable.values()),
    )


class _Samples(NamedTuple):
    """Phased samples of all sub-bands.

    Attributes
    ----------
    data, flags : ndarray, shape (nrow, nchan, npol)
    weights : ndarray of float32, shape (nrow, npol)
        Mean over sub-bands of what the files say of the samples.
    power : ndarray, shape (nrow,)
    n_bad : int
        Samples that were not finite or absurd.
    unreadable : dict of int to str
        What is wrong with the data of a sub-band.
    """

    data: np.ndarray
    flags: np.ndarray
    weights: np.ndarray
    power: np.ndarray
    n_bad: int
    unreadable: dict[int, str]


def _read_samples(
    headers: Mapping[int, uvh5.SubbandHeader],
    cross: np.ndarray,
    w_shift_m: np.ndarray,
    frequencies_hz: np.ndarray,
) -> _Samples:
    """Read every sub-band and phase it; what is absent or unreadable stays flagged.

    Parameters
    ----------
    headers : mapping of int to Header
    cross : ndarray of int, shape (nbaseline,)
        Baselines of a file that are no autocorrelations.
    w_shift_m : ndarray, shape (ntime, nbaseline)
    frequencies_hz : ndarray, shape (nchan,)
        Of all sub-bands, ascending.
    """
    first = next(iter(headers.values()))
    rows = (np.arange(first.times_jd.size)[:, None] * first.antenna1.size + cross[None, :]).ravel()
    shape = (rows.size, frequencies_hz.size, len(first.polarizations))
    data = np.zeros(shape, np.complex64)
    flags = np.ones(shape, bool)
    weights = np.zeros((shape[0], shape[2]), np.float32)
    power = np.zeros(shape[0])
    n_bad = 0
    unreadable: dict[int, str] = {}
    for number, header in headers.items():
        channels = np.rint((header.frequencies_hz - frequencies_hz[0]) / first.channel_width_hz)
        try:
            visdata, file_flags, nsamples = uvh5.read_visibilities(header)
        except BadInputError as error:
            unreadable[number] = str(error)
            continue
        n_bad += phasing.rephase(
            visdata,
            file_flags,
            nsamples,
            rows,
            w_shift_m.ravel(),
            header.frequencies_hz,
            channels.astype(int),
            data,
            flags,
            weights,
            power,
        )
    weights /= max(len(headers) - len(unreadable), 1)
    if power.any() and not weights.any():
        raise BadInputError(
            f"{first.path}: Data/nsamples of this and the other sub-bands are nowhere above zero, "
            "so that no visibility counts; correct them where the files are written"
        )
    return _Samples(data, flags, weights, power, n_bad, unreadable)


def _array(header: uvh5.SubbandHeader, telescope: Telescope, site: astrometry.Site) -> Array:
    diameters = header.dish_diameters_m
    if diameters is None:
        diameters = np.full(len(header.antenna_names), telescope.dish_diameter_m)
    return Array(
        telescope_name=telescope.name,
        names=header.antenna_names,
        positions_itrf_m=header.antenna_positions_m + site.itrf_m(),
        dish_diameters_m=diameters,
        site=site,
    )


def _listed(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items) or "none"


def _check_together(
    headers: list[uvh5.SubbandHeader], telescope: Telescope
) -> dict[int, uvh5.SubbandHeader]:
    """Headers by sub-band number, proven to belong to one observation."""
    if not headers:
        raise BadInputError("no sub-band files were given")
    by_number: dict[int, uvh5.SubbandHeader] = {}
    first = headers[0]
    for header in headers:
        number = header.subband(telescope)
        if number in by_number and not np.array_equal(header.times_jd, first.times_jd):
            raise BadInputError(
                f"{header.path}: is of another observation than {first.path.name}; convert one "
                "observation at a time, or give all to 'pipeline'"
            )
        if number in by_number:
            raise BadInputError(
                f"{header.path}: duplicate of sub-band {number}, which "
                f"{by_number[number].path.name} holds already; remove one of them"
            )
        by_number[number] = header
        for what, same in (
            ("time_array", np.array_equal(header.times_jd, first.times_jd)),
            (
                "baselines",
                np.array_equal(header.antenna1, first.antenna1)
                and np.array_equal(header.antenna2, first.antenna2),
            ),
            (
                "antenna_positions",
                np.array_equal(header.antenna_positions_m, first.antenna_positions_m),
            ),
            ("polarization_array", header.polarizations == first.polarizations),
            ("channel count", header.frequencies_hz.size == first.frequencies_hz.size),
            ("declination", header.apparent_dec_rad == first.apparent_dec_rad),
        ):
            if not same:
                raise BadInputError(
                    f"{header.path}: its {what} differs from that of {first.path.name}; "
                    "they are not of one observation"
                )
    return dict(sorted(by_number.items()))


def _dead_antennas(power: np.ndarray, antenna1: np.ndarray, antenna2: np.ndarray) -> np.ndarray:
    """Indices of antennas whose cross-correlations carry no power, given each baseline's."""
    present = np.union1d(antenna1, antenna2)
    per_antenna = np.array([np.median(power[(antenna1 == a) | (antenna2 == a)]) for a in present])
    alive = per_antenna[per_antenna > 0]
    if alive.size == 0:
        return present
    return present[per_antenna < _DEAD_FRACTION**2 * np.median(alive)]
