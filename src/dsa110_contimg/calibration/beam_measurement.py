"""The record of a measured primary beam."""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.sky.beam_shape import BeamShape

PRIOR_WIDTH, PRIOR_OFFSET_RAD = 0.1, float(np.deg2rad(15 / 60))
"""Prior standard errors of the width and of the pointing of a beam that was never measured."""


@dataclass(frozen=True)
class BeamMeasurement:
    """A primary beam and its standard errors.

    Attributes
    ----------
    shape : BeamShape
    width_error : float
    east_error_rad, north_error_rad : float
    n_sources : int
        0 where there were too few, and the shape is what it was.
    hands : tuple of BeamMeasurement
        The same of each polarization by itself, where both were measured: X, then Y.
    alone : BeamMeasurement or None
        What the tile itself gave, where a beam known from other observations took part.
    """

    shape: BeamShape
    width_error: float = PRIOR_WIDTH
    east_error_rad: float = PRIOR_OFFSET_RAD
    north_error_rad: float = PRIOR_OFFSET_RAD
    n_sources: int = 0
    hands: "tuple[BeamMeasurement, ...]" = ()
    alone: "BeamMeasurement | None" = None

    @property
    def values(self) -> np.ndarray:
        """Width and pointing (rad) east and north."""
        return np.array([self.shape.width, self.shape.east_rad, self.shape.north_rad])

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of `values`."""
        return np.array([self.width_error, self.east_error_rad, self.north_error_rad])

    def in_arcmin(self) -> dict[str, float]:
        """Width and pointing of the array's beam for people, with standard errors."""
        return {
            "width": self.shape.width,
            "width_error": self.width_error,
            "east_arcmin": 60 * float(np.rad2deg(self.shape.east_rad)),
            "east_error_arcmin": 60 * float(np.rad2deg(self.east_error_rad)),
            "north_arcmin": 60 * float(np.rad2deg(self.shape.north_rad)),
            "north_error_arcmin": 60 * float(np.rad2deg(self.north_error_rad)),
        }
