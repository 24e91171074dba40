"""State of one polarization of an antenna in a tile, and from where on it counts as changed."""

from dataclasses import dataclass
from enum import StrEnum


class AntennaState(StrEnum):
    """State of one polarization of an antenna in a tile."""

    STEADY = "steady"
    CHANGED = "changed"
    NOISY = "noisy"
    FAILED = "failed"
    UNSOLVED = "unsolved"
    """The calibration set has no solution for it."""
    NO_SIGNAL = "no signal"
    """Its data hold no power."""


SIGNIFICANT = 5.0
"""A departure counts from this number of standard errors on, and above the minima below."""
MIN_AMPLITUDE_CHANGE = 0.1
MIN_DELAY_NS = 0.3
"""Turns the phase at the band's edges by 10 degrees."""
_WORDS = {
    AntennaState.STEADY: "steady",
    AntennaState.FAILED: "no gain fits: it receives noise, or another sky",
    AntennaState.UNSOLVED: "no solution in the calibration set: dead, swapped hands or no fringes",
    AntennaState.NO_SIGNAL: "no signal",
}


@dataclass(frozen=True)
class AntennaHealth:
    """One polarization of an antenna during a tile.

    Attributes
    ----------
    antenna : str
    polarization : int
        0 and 1 for the first and the last parallel hand.
    state : AntennaState
    amplitude, amplitude_error : float
        Gain over that of the reference tile, relative to antennas as far from the centre.
    delay_ns, delay_error_ns : float
        Relative to the reference tile and to the median of all antennas.
    phase_deg : float
        Relative to the reference tile and to the reference antenna.
    noise : float
        Variance of data minus model, relative to the median antenna.
    """

    antenna: str
    polarization: int
    state: AntennaState
    amplitude: float = 1.0
    amplitude_error: float = 0.0
    delay_ns: float = 0.0
    delay_error_ns: float = 0.0
    phase_deg: float = 0.0
    noise: float = 1.0


def in_words(one: AntennaHealth) -> str:
    """Return the state, and by how much it departs."""
    if one.state is AntennaState.CHANGED:
        return f"gain x {one.amplitude:.2f}, delay {one.delay_ns:+.1f} ns"
    if one.state is AntennaState.NOISY:
        return f"noise x {one.noise**0.5:.1f}"
    return _WORDS[one.state]


@dataclass(frozen=True)
class Misplaced:
    """An antenna at another place than the files say.

    Attributes
    ----------
    antenna : str
    east_m, north_m : float
        From the listed to the true place, in the plane of the sky at the phase centre.
    error_m : float
        Standard error of either.
    """

    antenna: str
    east_m: float
    north_m: float
    error_m: float

    def __str__(self) -> str:
        return (
            f"antenna {self.antenna} stands {self.east_m:+.2f} m east and {self.north_m:+.2f} m "
            f"north (+- {self.error_m:.2f} m, in the plane of the sky) of where the files put it"
        )
