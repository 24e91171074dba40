"""Read the telescope's sub-band files (UVH5 in its older and newer layouts).

Everything is checked before the large arrays are touched: a damaged HDF5 file can be
read without any error, so shapes and sizes are compared with the header first.
Files are opened without HDF5 locking, which network file systems lack.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from dsa110_contimg.errors import (
    BadInputError,
    ContimgError,
    RetryableError,
    disk_failed,
    unreadable,
)
from dsa110_contimg.telescope import Telescope

_NAME = re.compile(r"^(?P<stamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)_sb(?P<number>\d\d)\.hdf5$")
_REQUIRED = (
    "latitude",
    "longitude",
    "altitude",
    "telescope_name",
    "Nants_telescope",
    "antenna_numbers",
    "antenna_names",
    "antenna_positions",
    "ant_1_array",
    "ant_2_array",
    "time_array",
    "integration_time",
    "freq_array",
    "channel_width",
    "polarization_array",
    "phase_center_app_dec",
)
_MAX_ELEMENTS = 2**25
"""More visibilities than this, three times the telescope's, are a damaged header, not data: with
flags and sample counts they stay below 500 MB."""
_MAX_ITEM_ELEMENTS = 2**22
_DAMAGE = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""What h5py and numpy raise over damaged structures."""


def parse_name(path: Path) -> tuple[str, int] | None:
    """Wall-clock stamp and sub-band number in a file's name, or None if it is no such name.

    Both are hints only: the stamp is the writer's clock at file open, and the order of
    sub-bands is that of their frequencies.
    """
    match = _NAME.match(path.name)
    return (match["stamp"], int(match["number"])) if match else None


@dataclass(frozen=True, eq=False)
class SubbandHeader:
    """What a sub-band file says about itself.

    Attributes
    ----------
    path : Path
    site_deg_m : tuple of float
        Latitude, longitude (degrees), altitude (metres).
    telescope_name : str
    antenna_names : tuple of str
        All stations of the array, present in the data or not.
    antenna_positions_m : ndarray, shape (nantenna, 3)
        ITRF minus the array centre.
    dish_diameters_m : ndarray, shape (nantenna,) or None
    times_jd : ndarray, shape (ntime,)
        Centres of the integrations, UTC.
    antenna1, antenna2 : ndarray of int, shape (nbaseline,)
        Indices into `antenna_names`, cross-correlations and autos, in file order.
    integration_s : float
    frequencies_hz : ndarray, shape (nfreq,)
        In file order (descending).
    channel_width_hz : float
        Positive.
    polarizations : tuple of int
        AIPS numbers, -5 XX, -6 YY, -7 XY, -8 YX.
    apparent_dec_rad : float
    """

    path: Path
    site_deg_m: tuple[float, float, float]
    telescope_name: str
    antenna_names: tuple[str, ...]
    antenna_positions_m: np.ndarray
    dish_diameters_m: np.ndarray | None
    times_jd: np.ndarray
    antenna1: np.ndarray
    antenna2: np.ndarray
    integration_s: float
    frequencies_hz: np.ndarray
    channel_width_hz: float
    polarizations: tuple[int, ...]
    apparent_dec_rad: float

    @property
    def time_key(self) -> float:
        """Julian date of the first integration, bit-equal over an observation's files."""
        return float(self.times_jd[0])

    def subband(self, telescope: Telescope) -> int:
        """Number of the sub-band by frequency, 0 being the highest.

        Raises
        ------
        BadInputError
            If the frequencies belong to no sub-band of the telescope.
        """
        width = telescope.subband_width_hz
        top = float(self.frequencies_hz.max()) + 0.5 * self.channel_width_hz
        number = round((telescope.band_top_hz - top) / width)
        offset = telescope.band_top_hz - number * width - top
        span = self.channel_width_hz * self.frequencies_hz.size
        tolerance = 0.01 * self.channel_width_hz
        if (
            not 0 <= number < telescope.n_subbands
            or abs(offset) > tolerance
            or abs(span - width) > tolerance
        ):
            raise BadInputError(
                f"{self.path}: its channels ({self.frequencies_hz.min() / 1e6:.3f} to "
                f"{self.frequencies_hz.max() / 1e6:.3f} MHz, {self.channel_width_hz / 1e3:.3f} kHz"
                f" wide) are not one of the {telescope.n_subbands} sub-bands between "
                f"{telescope.band_bottom_hz / 1e6:g} and {telescope.band_top_hz / 1e6:g} MHz; "
                "remove the file or set the telescope's band"
            )
        return number


def is_drift_scan(path: Path) -> bool:
    """False for files of other kinds: no HDF5, or phased already."""
    if not h5py.is_hdf5(path):
        # A damaged file of ours still has its name.
        return parse_name(path) is not None
    with h5py.File(path, "r", locking=False) as file:
        header = file.get("Header")
        return header is None or (
            "phase_center_app_dec" in header
            and "ant_1_array" in header
            and "phase_center_catalog" not in header
        )


def read_header(path: Path) -> SubbandHeader:
    """Read and check the header of one sub-band file.

    Raises
    ------
    BadInputError
        Naming the file, the cause and what to do.
    """
    with _open(path) as file:
        try:
            return _header(path, file)
        except _DAMAGE as error:
            raise _damaged(path, "header cannot be understood", error) from error


def read_visibilities(header: SubbandHeader) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Visibilities, flags and sample counts of a file whose header was read.

    Returns
    -------
    visdata : ndarray of complex64, shape (ntime * nbaseline, nfreq, npol)
    flags : ndarray of bool, same shape
    nsamples : ndarray of float32, same shape

    Raises
    ------
    BadInputError
        If the file is damaged.
    RetryableError
        If its disk fails.
    """
    with _open(header.path) as file:
        shape = (
            header.times_jd.size * header.antenna1.size,
            header.frequencies_hz.size,
            len(header.polarizations),
        )
        try:
            arrays = [file[f"Data/{name}"][()] for name in ("visdata", "flags", "nsamples")]
            visdata, flags, nsamples = (array.reshape(shape) for array in arrays)
            return (
                np.ascontiguousarray(visdata, dtype=np.complex64),
                np.ascontiguousarray(flags, dtype=bool),
                np.ascontiguousarray(nsamples, dtype=np.float32),
            )
        except _DAMAGE as error:
            raise _damaged(header.path, "data cannot be read", error) from error


def _damaged(path: Path, what: str, error: BaseException) -> ContimgError:
    if disk_failed(error):
        return RetryableError(f"{path}: its disk failed while it was read ({error})")
    return BadInputError(f"{path}: its {what} ({error}); it is damaged, send it again")


def _open(path: Path) -> h5py.File:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise unreadable(path, f"cannot be opened ({error.strerror})", error) from error
    if size == 0:
        raise BadInputError(f"{path}: is empty (0 bytes); its writer died, send it again")
    try:
        return h5py.File(path, "r", locking=False)
    except PermissionError as error:
        raise BadInputError(f"{path}: may not be read; check its permissions") from error
    except OSError as error:
        if disk_failed(error):
            raise _damaged(path, "beginning cannot be read", error) from error
        cause = str(error)
        what = (
            f"is truncated ({size} bytes on disk)"
            if "truncated" in cause
            else "is not an HDF5 file, or its beginning is damaged"
        )
        raise BadInputError(f"{path}: {what}; send it again or remove it") from error


def _header(path: Path, file: h5py.File) -> SubbandHeader:
    try:
        header, data = file["Header"], file["Data"]
        shapes = {name: data[name].shape for name in ("visdata", "flags", "nsamples")}
    except (KeyError, OSError, RuntimeError) as error:
        raise BadInputError(
            f"{path}: has no Header or Data/visdata, flags, nsamples; "
            "it is not a UVH5 file or is damaged"
        ) from error
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        raise BadInputError(
            f"{path}: header item {', '.join(missing)} is missing; "
            "the file's writer left it out, write it again"
        )
    _check_sizes(path, header, shapes)
    return _parse(path, header)


def _check_sizes(path: Path, header: h5py.Group, shapes: dict[str, tuple[int, ...]]) -> None:
    for name in header:
        item = header[name]
        if isinstance(item, h5py.Dataset) and (item.size or 0) > _MAX_ITEM_ELEMENTS:
            raise BadInputError(
                f"{path}: header item {name} has {item.size} values; damaged header"
            )
    nblt = header["time_array"].size
    nfreq = header["freq_array"].size
    npol = header["polarization_array"].size
    expected = nblt * nfreq * npol
    if not 0 < expected < _MAX_ELEMENTS:
        raise BadInputError(f"{path}: its header asks for {expected} visibilities; damaged header")
    for name, shape in shapes.items():
        if shape not in ((nblt, 1, nfreq, npol), (nblt, nfreq, npol)):
            raise BadInputError(
                f"{path}: Data/{name} has shape {shape}, the header says "
                f"{nblt} baseline-times, {nfreq} channels, {npol} polarizations"
            )
    for name in ("ant_1_array", "ant_2_array", "integration_time"):
        if header[name].size != nblt:
            raise BadInputError(
                f"{path}: header item {name} has {header[name].size} values, time_array {nblt}"
            )


def _parse(path: Path, header: h5py.Group) -> SubbandHeader:
    times = np.asarray(header["time_array"][()], float)
    starts = np.flatnonzero(np.diff(times, prepend=np.nan) != 0)
    nbaseline = times.size // starts.size
    if nbaseline * starts.size != times.size or np.any(np.diff(starts) != nbaseline):
        raise BadInputError(f"{path}: its integrations do not all hold the same baselines")
    unique_times = times[starts]
    if not np.all(np.isfinite(unique_times)) or np.any(np.diff(unique_times) <= 0):
        raise BadInputError(f"{path}: time_array is not finite and increasing")

    numbers = np.asarray(header["antenna_numbers"][()], int).ravel()
    index_of = {int(number): index for index, number in enumerate(numbers)}
    antennas = []
    for name in ("ant_1_array", "ant_2_array"):
        table = np.asarray(header[name][()], int).reshape(starts.size, nbaseline)
        if np.any(table != table[0]):
            raise BadInputError(f"{path}: the order of baselines changes between integrations")
        unknown = set(table[0].tolist()) - index_of.keys()
        if unknown:
            raise BadInputError(
                f"{path}: {name} names antenna numbers {sorted(unknown)[:5]} "
                "that antenna_numbers does not list"
            )
        antennas.append(np.array([index_of[int(a)] for a in table[0]]))

    names = tuple(_text(name) for name in np.asarray(header["antenna_names"][()]).ravel())
    positions = np.asarray(header["antenna_positions"][()], float)
    if positions.shape != (len(names), 3) or len(names) != numbers.size:
        raise BadInputError(
            f"{path}: {len(names)} antenna_names, {numbers.size} antenna_numbers and "
            f"antenna_positions of shape {positions.shape} do not agree"
        )
    width = float(np.abs(np.asarray(header["channel_width"][()], float)).ravel()[0])
    frequencies = np.asarray(header["freq_array"][()], float).ravel()
    declination = float(np.asarray(header["phase_center_app_dec"][()]).ravel()[0])
    site = tuple(float(header[name][()]) for name in ("latitude", "longitude", "altitude"))
    integration = float(np.asarray(header["integration_time"][:1])[0])
    scalars = (width, integration, declination, *site)
    if not (
        np.all(np.isfinite(scalars))
        and np.all(np.isfinite(positions))
        and width > 0
        and integration > 0
        and abs(declination) <= np.pi / 2
        and np.all(frequencies > 0)
    ):
        raise BadInputError(
            f"{path}: a header value is not finite or out of range (site {site}, channel width "
            f"{width} Hz, integration {integration} s, declination {declination} rad)"
        )
    diameters = header.get("antenna_diameters")
    return SubbandHeader(
        path=path,
        site_deg_m=(site[0], site[1], site[2]),
        telescope_name=_text(header["telescope_name"][()]),
        antenna_names=names,
        antenna_positions_m=positions,
        dish_diameters_m=None if diameters is None else np.asarray(diameters[()], float),
        times_jd=unique_times,
        antenna1=antennas[0],
        antenna2=antennas[1],
        integration_s=integration,
        frequencies_hz=frequencies,
        channel_width_hz=width,
        polarizations=tuple(int(p) for p in np.asarray(header["polarization_array"][()])),
        apparent_dec_rad=declination,
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
