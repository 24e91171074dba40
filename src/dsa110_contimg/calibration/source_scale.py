"""The record of the flux scale that the sources of a tile give."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FluxScale:
    """What the flux scale rests on.

    Attributes
    ----------
    n_sources : int
        That were measured one by one.
    error : float
        Standard error of the scale, as a fraction.
    unlike : tuple of (float, float, float)
        Right ascension, declination (ICRS, deg), and measured over catalogue flux density of
        sources that differ by more than three times noise and catalogue error.
    """

    n_sources: int
    error: float
    unlike: tuple[tuple[float, float, float], ...] = ()
