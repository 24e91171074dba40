"""Shapes of sources: elliptical Gaussians, of which a point is the smallest."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Shapes:
    """Elliptical Gaussians; `POINTS`, of no length, stands for any number of points.

    Attributes
    ----------
    major_rad, minor_rad : ndarray, shape (nsource,)
        Full widths at half maximum, without any beam; zero is a point.
    angle_rad : ndarray, shape (nsource,)
        Position angle of the major axis, north through east.
    """

    major_rad: np.ndarray
    minor_rad: np.ndarray
    angle_rad: np.ndarray

    @classmethod
    def of_covariances_rad2(cls, moments: np.ndarray) -> "Shapes":
        """Shapes of second moments, shape (nsource, 3), as `covariances_rad2` gives them."""
        east_east, east_north, north_north = moments.T
        middle, half = (east_east + north_north) / 2, (north_north - east_east) / 2
        reach = np.hypot(half, east_north)
        axes = np.sqrt(8 * np.log(2) * np.maximum([middle + reach, middle - reach], 0))
        return cls(axes[0], axes[1], 0.5 * np.arctan2(east_north, half) % np.pi)

    def each(self, count: int) -> "Shapes":
        """The same with a shape for each of so many sources."""
        return self if self.major_rad.size == count else Shapes(*np.zeros((3, count)))

    def select(self, index: np.ndarray) -> "Shapes":
        """Those of an index or mask."""
        if self.major_rad.size == 0:
            return self
        return Shapes(self.major_rad[index], self.minor_rad[index], self.angle_rad[index])

    def covariances_rad2(self) -> np.ndarray:
        """Second moments about the centres, shape (nsource, 3): east-east, east-north, north-north.

        A Gaussian of full width `a` has the variance ``a**2 / (8 ln 2)``.
        """
        sin, cos = np.sin(self.angle_rad), np.cos(self.angle_rad)
        major, minor = self.major_rad**2, self.minor_rad**2
        moments = [
            major * sin**2 + minor * cos**2,
            (major - minor) * sin * cos,
            major * cos**2 + minor * sin**2,
        ]
        return np.stack(moments, axis=1) / (8 * np.log(2))

    def uv_forms(self) -> np.ndarray:
        """Coefficients (a, b, c) of the visibilities, shape (nsource, 3); none of `POINTS`.

        A source of unit flux density at the phase centre gives
        ``exp(-(a u**2 + 2 b u v + c v**2))``, u and v in wavelengths: the Fourier transform of a
        Gaussian is one (Bracewell 2000, The Fourier Transform and Its Applications, chapter 6).
        """
        return 2 * np.pi**2 * self.covariances_rad2()


POINTS = Shapes(*np.zeros((3, 0)))
