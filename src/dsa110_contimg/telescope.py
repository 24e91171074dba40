"""The telescope as numbers: site, dishes, band, time sampling.

One frozen object holds what differs between arrays, so that nothing else in the
package carries a telescope's constants. A file's own header wins over these
where it states a value (site, antenna positions, channel widths).
"""

from dataclasses import dataclass
from functools import cached_property

SAME_STRIP_DEG = 0.1
"""Pointings this close in apparent declination are one strip."""
SAME_ICRS_STRIP_DEG = 1.0
"""The same of ICRS declinations, which precession tilts against apparent ones by up to 0.35."""


@dataclass(frozen=True)
class Telescope:
    """Site, dish, band and sampling of a drift-scan array.

    Attributes
    ----------
    name : str
        Name that casacore's observatory table knows.
    common_name : str
        Name that astronomers look for.
    latitude_deg, longitude_deg, altitude_m : float
        Geodetic (WGS84) array centre.
    dish_diameter_m : float
        Diameter of the uniformly illuminated aperture of the beam model.
    band_top_hz, band_bottom_hz : float
        Edges of the whole band.
    n_subbands : int
        Files that make one observation; sub-band 0 is the highest in frequency.
    integration_s : float
        Length of one integration.
    integrations_per_file : int
        Integrations in one observation (tile).
    reference_antennas : tuple of str
        Antenna *names*, in order of preference.
    system_equivalent_flux_density_jy : float
        Of one antenna and polarization.
    stations : tuple of str
        Names of all stations, with an antenna or not, as the files write them.
    channels_per_file : int
        Channels of one sub-band.
    """

    name: str
    common_name: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    dish_diameter_m: float
    band_top_hz: float
    band_bottom_hz: float
    n_subbands: int
    integration_s: float
    integrations_per_file: int
    reference_antennas: tuple[str, ...]
    system_equivalent_flux_density_jy: float
    stations: tuple[str, ...]
    channels_per_file: int

    @cached_property
    def subband_width_hz(self) -> float:
        """Width of one sub-band."""
        return (self.band_top_hz - self.band_bottom_hz) / self.n_subbands

    @cached_property
    def tile_length_s(self) -> float:
        """Time on the sky of one observation."""
        return self.integration_s * self.integrations_per_file


DSA110 = Telescope(
    name="OVRO_MMA",
    common_name="DSA-110",
    latitude_deg=37.2334051,
    longitude_deg=-118.2830001,
    altitude_m=1188.05,
    dish_diameter_m=4.65,
    band_top_hz=1498.75e6,
    band_bottom_hz=1311.25e6,
    n_subbands=16,
    integration_s=12.884902,
    integrations_per_file=24,
    reference_antennas=("103", *(str(n) for n in range(104, 117))),
    system_equivalent_flux_density_jy=6500.0,
    stations=tuple(str(n) for n in range(1, 118)),
    channels_per_file=48,
)


def antenna_order(name: str) -> tuple[int, str]:
    """Key that sorts antennas by number: their names are numbers without leading zeros."""
    return len(name), name
