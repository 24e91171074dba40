"""The record of a catalogue source that was measured in an image."""

from dataclasses import dataclass

STRONG_SIGMA = 10.0
"""Minimum signal-to-noise ratio of a source that is compared one by one."""


@dataclass(frozen=True)
class SourceCheck:
    """One catalogue source in an image.

    Attributes
    ----------
    ra_deg, dec_deg : float
    catalogue_jy, measured_jy, noise_jy : float
        Catalogue flux density scaled to the image's frequency; measured flux density of a source
        of the size that the catalogue tells, and its error by the noise.
    east_arcsec, north_arcsec : float
        Measured minus catalogue position.
    in_ratio : bool
        Used for the flux ratio: strong, and not one of those that carry the calibration.
    """

    ra_deg: float
    dec_deg: float
    catalogue_jy: float
    measured_jy: float
    noise_jy: float
    east_arcsec: float
    north_arcsec: float
    in_ratio: bool

    @property
    def is_strong(self) -> bool:
        """True where flux density and position mean something one by one."""
        return self.measured_jy >= STRONG_SIGMA * self.noise_jy
