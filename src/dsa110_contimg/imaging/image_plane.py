"""The plane of a cube that is the image, and its celestial coordinates."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.image_header import further_cards, readable
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.sky.frames import icrs_and_north
from dsa110_contimg.sky.projections import PROJECTIONS

if TYPE_CHECKING:
    from astropy.coordinates import BaseCoordinateFrame
    from astropy.io.fits import Header
    from astropy.wcs import WCS


_RAD = np.pi / 180
_SQUARE = 1e-9


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """The plane of a file that is the image.

    Attributes
    ----------
    header : astropy Header
    pixels : ndarray, shape (ny, nx)
        Latitude along the rows.
    wcs : astropy.wcs.WCS
        Longitude and latitude.
    frequency_hz : float or None
        Of a spectral axis.
    """

    header: "Header"
    pixels: np.ndarray
    wcs: "WCS"
    frequency_hz: float | None

    @property
    def field_deg(self) -> float:
        """Width of the image."""
        cells_deg = np.linalg.norm(self.wcs.pixel_scale_matrix, axis=0)
        return max(self.pixels.shape) * float(cells_deg.max())


def celestial_plane(
    path: Path, header: "Header", shape: tuple[int, ...], read: Callable[[], np.ndarray]
) -> ImagePlane:
    """One plane of a cube with axes of length one, and its coordinates.

    The pixels are read when it is known which they are.
    """
    from astropy.wcs import WCS, WCSSUB_LATITUDE, WCSSUB_LONGITUDE

    try:
        wcs = WCS(readable(header))
        wcs.wcs.set()
    except (ValueError, KeyError, MemoryError, AssertionError) as error:
        said = " ".join(str(error).split())
        raise BadInputError(f"{path}: its coordinates cannot be understood ({said})") from error
    if not wcs.has_celestial:
        types = ", ".join(str(kind) or "nothing" for kind in wcs.wcs.ctype)
        raise BadInputError(f"{path}: has no celestial coordinates (its axes are {types})")
    longitude, latitude = wcs.wcs.lng, wcs.wcs.lat
    frequency_hz = None
    index: list[int | slice] = [0] * len(shape)
    # Coordinates may have more axes than the array, and the other way round.
    for axis in range(max(len(shape), wcs.naxis)):
        # The axes of an array are those of the header from the last to the first.
        place = len(shape) - 1 - axis
        if axis in (longitude, latitude):
            if place < 0:
                raise BadInputError(f"{path}: its array lacks an axis of its coordinates")
            index[place] = slice(None)
            continue
        length = shape[place] if place >= 0 else 1
        kind = str(wcs.wcs.ctype[axis]) if axis < wcs.naxis else ""
        if length > 1 and not kind.startswith("STOKES"):
            raise BadInputError(
                f"{path}: holds {length} planes along {kind or f'axis {axis + 1}'}; extract one"
            )
        values = (
            wcs.wcs.crval[axis]
            + (np.arange(1, length + 1) - wcs.wcs.crpix[axis]) * _step(wcs, axis)
            if axis < wcs.naxis
            else np.zeros(length)
        )
        if kind.startswith("STOKES") and length > 1:
            total = np.flatnonzero(np.rint(values) == 1)
            if total.size == 0:
                raise BadInputError(f"{path}: holds {length} Stokes parameters, none of them I")
            index[place] = int(total[0])
        elif kind.startswith("FREQ"):
            frequency_hz = float(values[0])
    pixels = read()[tuple(index)]
    celestial = wcs.sub([WCSSUB_LONGITUDE, WCSSUB_LATITUDE])
    return ImagePlane(header, pixels if latitude > longitude else pixels.T, celestial, frequency_hz)


def upright_image(
    plane: ImagePlane,
    pixels: np.ndarray,
    beam: RestoringBeam | None,
    unit: str,
    frequency_hz: float | None,
) -> Image | None:
    """The image on a plane of this project; None if its coordinates are others."""
    wcs = plane.wcs.wcs
    kinds = [str(kind) for kind in wcs.ctype]
    projection = kinds[0][-3:]
    (east, x_of_y), (y_of_x, north) = wcs.get_pc() * wcs.get_cdelt()[:, None]
    parameters = {(axis, number): value for axis, number, value in wcs.get_pv()}
    if projection == "CEA":
        parallel = parameters.pop((2, 1), 1.0)
    plain = (
        kinds == [f"RA---{projection}", f"DEC--{projection}"]
        and projection in PROJECTIONS
        and wcs.radesys == "ICRS"
        and plane.wcs.sip is None
        and north > 0
        and abs(east + north) <= _SQUARE * north
        and max(abs(x_of_y), abs(y_of_x)) <= _SQUARE * north
        and not any(value for value in parameters.values())
        and wcs.lonpole == (0.0 if projection == "CEA" else 180.0)
        and (projection != "CEA" or wcs.crval[1] == 0)
    )
    if not plain or frequency_hz is None:
        return None
    ra, dec, cell = wcs.crval[0] * _RAD, wcs.crval[1] * _RAD, float(north) * _RAD
    column, row = wcs.crpix[0] - 1, wcs.crpix[1] - 1
    if projection == "CEA":
        side = -1.0 if row > pixels.shape[0] / 2 else 1.0
        dec = side * float(np.arccos(np.sqrt(parallel)))
        cell *= np.cos(dec)
        row += np.tan(dec) / cell
    header = further_cards(plane.header)
    return Image(
        pixels, (ra, dec), (column, row), cell, projection, beam, unit, frequency_hz, header
    )


def frame_of(path: Path, wcs: "WCS") -> "BaseCoordinateFrame":
    """The astropy frame of an image's coordinates.

    Raises
    ------
    BadInputError
        If it is none of the sky's.
    """
    from astropy.wcs.utils import wcs_to_celestial_frame

    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError as error:
        raise BadInputError(
            f"{path}: its frame ({', '.join(wcs.wcs.ctype)}, {wcs.wcs.radesys or 'no RADESYS'}) is "
            "none of the sky's"
        ) from error


def turned_beam(
    beam: RestoringBeam, plane: ImagePlane, frame: "BaseCoordinateFrame"
) -> RestoringBeam:
    """A beam whose angle is from the north of the image's frame, from that of ICRS."""
    from astropy.coordinates import SkyCoord

    ny, nx = plane.pixels.shape
    longitude, latitude = plane.wcs.all_pix2world([[0.5 * (nx - 1), 0.5 * (ny - 1)]], 0)[0]
    if not np.isfinite([longitude, latitude]).all():
        return beam
    middle = SkyCoord(longitude, latitude, unit="deg", frame=frame)
    north_rad = float(icrs_and_north(middle)[1])
    return replace(beam, position_angle_rad=(beam.position_angle_rad + north_rad) % np.pi)


def _step(wcs: "WCS", axis: int) -> float:
    return float(wcs.wcs.get_cdelt()[axis] * wcs.wcs.get_pc()[axis, axis])
