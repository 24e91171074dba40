"""What an image of the sky is to those who measure it, whatever program made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.sky import astrometry

if TYPE_CHECKING:
    from astropy.coordinates import BaseCoordinateFrame
    from astropy.wcs import WCS


class SkyImage(Protocol):
    """An image of the sky in Jy per beam."""

    @property
    def pixels(self) -> np.ndarray:
        """Array of float32, shape (ny, nx): rows along the second axis of the coordinates."""

    @property
    def beam(self) -> RestoringBeam | None:
        """Restoring beam; None if the file states none."""

    @property
    def unit(self) -> str:
        """Unit of the pixels."""

    @property
    def frequency_hz(self) -> float | None:
        """Frequency; None if the file states none."""

    @property
    def header(self) -> Mapping[str, object]:
        """Further cards: keyword to value or (value, comment)."""

    @property
    def cell_rad(self) -> float:
        """Root of the solid angle of a pixel at the middle."""

    @property
    def wcs(self) -> "WCS":
        """The astropy WCS of two axes, in the frame of the file."""

    def sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ICRS right ascension and declination (deg) at zero-based columns and rows."""

    def pixel(self, ra_deg: np.ndarray, dec_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Zero-based columns and rows of ICRS positions; NaN where the projection has none."""


@dataclass(frozen=True, eq=False)
class ForeignImage:
    """An image with the coordinates of its file: any celestial projection, frame and rotation.

    Attributes
    ----------
    pixels, wcs, beam, unit, frequency_hz, header
        See `SkyImage`.
    frame : astropy frame
        Of the coordinates.
    """

    pixels: np.ndarray
    wcs: "WCS"
    frame: "BaseCoordinateFrame"
    beam: RestoringBeam | None
    unit: str
    frequency_hz: float | None
    header: Mapping[str, object] = field(default_factory=dict)

    @property
    def cell_rad(self) -> float:
        """Root of the solid angle of a pixel at the middle."""
        ny, nx = self.pixels.shape
        middle = scales_rad(self, np.array([0.5 * (nx - 1)]), np.array([0.5 * (ny - 1)]))[0]
        return float(np.sqrt(abs(np.linalg.det(middle))))

    def sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `SkyImage.sky`."""
        from astropy.coordinates import SkyCoord

        longitude, latitude = self.wcs.all_pix2world(x, y, 0)
        shown = np.isfinite(longitude) & np.isfinite(latitude)
        ra_deg, dec_deg = (np.full(np.shape(longitude), np.nan) for _ in range(2))
        if shown.any():
            place = SkyCoord(longitude[shown], latitude[shown], unit="deg", frame=self.frame).icrs
            ra_deg[shown], dec_deg[shown] = place.ra.deg, place.dec.deg
        return ra_deg, dec_deg

    def pixel(self, ra_deg: np.ndarray, dec_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `SkyImage.pixel`."""
        from astropy.coordinates import SkyCoord

        if np.size(ra_deg) == 0:
            return np.zeros(0), np.zeros(0)
        place = SkyCoord(ra_deg, dec_deg, unit="deg").transform_to(self.frame).spherical
        x, y = self.wcs.all_world2pix(place.lon.deg, place.lat.deg, 0, quiet=True)
        return np.asarray(x), np.asarray(y)


def scales_rad(image: SkyImage, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Steps on the sky of one pixel.

    Parameters
    ----------
    image : SkyImage
    x, y : ndarray, shape (n,)
        Zero-based columns and rows.

    Returns
    -------
    ndarray, shape (n, 2, 2)
        East and north (rad) of a step along columns, and of one along rows: ``(east, north) =
        scales @ (dx, dy)``.
    """
    ra, dec = np.deg2rad(image.sky(x, y))
    # Axes of the tangent plane: differences of angles fail at a pole.
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    scales = np.empty((np.size(x), 2, 2))
    for axis, (dx, dy) in enumerate(((0.5, 0.0), (0.0, 0.5))):
        after, before = (
            astrometry.radec_to_vector(*np.deg2rad(image.sky(x + side * dx, y + side * dy)))
            for side in (1, -1)
        )
        step = after - before
        scales[:, 0, axis] = np.einsum("ni,ni->n", step, east)
        scales[:, 1, axis] = np.einsum("ni,ni->n", step, north)
    return scales


def beam_on_pixels(image: SkyImage, beam: RestoringBeam, scale: np.ndarray) -> RestoringBeam:
    """A beam as it would be on square upright pixels of the image's cell.

    Parameters
    ----------
    image : SkyImage
    beam : RestoringBeam
    scale : ndarray, shape (2, 2)
        Of `scales_rad` at the place.
    """
    sin, cos = np.sin(beam.position_angle_rad), np.cos(beam.position_angle_rad)
    axes = np.array([[sin, cos], [cos, -sin]]) * [[beam.major_rad], [beam.minor_rad]]
    # East is towards smaller columns on upright pixels.
    in_pixels = np.linalg.solve(scale, axes.T) * image.cell_rad * [[-1.0], [1.0]]
    left, sizes, _ = np.linalg.svd(in_pixels)
    return RestoringBeam(
        float(sizes[0]), float(sizes[1]), float(np.arctan2(left[0, 0], left[1, 0]) % np.pi)
    )
