"""How a primary beam differs from that of the nominal dish."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AntennaBeams:
    """How the beams of single antennas differ from that of the array.

    Attributes
    ----------
    names : tuple of str
        Antennas; others have the array's beam.
    log_width : tuple of float
        Logarithm of the width over that of the array's beam.
    east_rad, north_rad : tuple of float
        Pointing, from that of the array.
    """

    names: tuple[str, ...]
    log_width: tuple[float, ...]
    east_rad: tuple[float, ...]
    north_rad: tuple[float, ...]

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Width and pointing of antennas, shape (nantenna, 3), in the order of the attributes."""
        known = dict(
            zip(
                self.names,
                zip(self.log_width, self.east_rad, self.north_rad, strict=True),
                strict=True,
            )
        )
        return np.array([known.get(name, (0.0, 0.0, 0.0)) for name in names])


@dataclass(frozen=True)
class BeamShape:
    """How a beam differs from that of a dish that points where it should.

    Attributes
    ----------
    width : float
        Over that of the nominal dish.
    east_rad, north_rad : float
        Where the beam's centre is, from the nominal dish axis.
    antennas : AntennaBeams or None
        What single antennas differ by, where it is known.
    """

    width: float = 1.0
    east_rad: float = 0.0
    north_rad: float = 0.0
    antennas: AntennaBeams | None = None


NOMINAL_BEAM = BeamShape()
