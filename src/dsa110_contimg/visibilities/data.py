"""Visibilities of one field, and their array of antennas, in memory: what all of science takes."""

from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.constants import DAY_S, MJD_ZERO_JD
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.beam_shape import NOMINAL_BEAM, BeamShape
from dsa110_contimg.sky.primary_beam import beam_axis


@dataclass(frozen=True, eq=False)
class Array:
    """Antennas of an array.

    Attributes
    ----------
    telescope_name : str
    names : tuple of str
    positions_itrf_m : ndarray, shape (nantenna, 3)
        Geocentric.
    dish_diameters_m : ndarray, shape (nantenna,)
    site : Site
    """

    telescope_name: str
    names: tuple[str, ...]
    positions_itrf_m: np.ndarray
    dish_diameters_m: np.ndarray
    site: astrometry.Site


@dataclass(frozen=True, eq=False)
class Visibilities:
    """Visibilities of one field, rows in time order.

    The first and last polarization are the parallel hands.

    Attributes
    ----------
    data : ndarray of complex64, shape (nrow, nchan, npol)
    flags : ndarray of bool, same shape
    weights : ndarray of float32, same shape (may be a broadcast view)
        Inverse variance of the real part, in units of data**-2.
    uvw_m : ndarray, shape (nrow, 3)
    antenna1, antenna2 : ndarray of int, shape (nrow,)
        Indices into `array.names`.
    time_index : ndarray of int, shape (nrow,)
        Index into `times_jd`.
    times_jd : ndarray, shape (ntime,)
    integration_s : float
    frequencies_hz, channel_width_hz : ndarray, shape (nchan,)
    polarizations : tuple of int
        AIPS numbers.
    phase_centre_rad : tuple of float
        ICRS.
    pointings : ndarray, shape (ntime, 3)
        ICRS unit vectors of the dish axis.
    array : Array
    field_name : str
    notes : tuple of str
        History of the data, one line a step.
    beam : BeamShape
        What is known of the primary beam.
    unmodelled_jy : float
        Root of the sum of squares of apparent flux densities of sources that neither a model holds
        nor CLEAN finds; zero where it was not measured.
    """

    data: np.ndarray
    flags: np.ndarray
    weights: np.ndarray
    uvw_m: np.ndarray
    antenna1: np.ndarray
    antenna2: np.ndarray
    time_index: np.ndarray
    times_jd: np.ndarray
    integration_s: float
    frequencies_hz: np.ndarray
    channel_width_hz: np.ndarray
    polarizations: tuple[int, ...]
    phase_centre_rad: tuple[float, float]
    pointings: np.ndarray
    array: Array
    field_name: str
    notes: tuple[str, ...] = ()
    beam: BeamShape = NOMINAL_BEAM
    unmodelled_jy: float = 0.0

    @property
    def beam_axis(self) -> np.ndarray:
        """ICRS unit vectors of the beam's centre at each integration, shape (ntime, 3)."""
        return beam_axis(self.pointings, self.beam)

    @property
    def nominal_dish_m(self) -> float:
        """Diameter of a dish."""
        return float(np.median(self.array.dish_diameters_m))

    @property
    def dish_m(self) -> float:
        """Diameter of the uniform aperture that has the beam's width."""
        return self.nominal_dish_m / self.beam.width

    @property
    def parallel_hands(self) -> list[int]:
        """Indices of the first and the last polarization, or of the only one."""
        return sorted({0, self.data.shape[2] - 1})

    @property
    def times_s(self) -> np.ndarray:
        """Times of the integrations, MJD seconds UTC, shape (ntime,)."""
        return np.asarray((self.times_jd - MJD_ZERO_JD) * DAY_S)

    def antennas_present(self) -> np.ndarray:
        """Indices of the antennas that have rows."""
        return np.union1d(self.antenna1, self.antenna2)

    def rows(self, some: slice | np.ndarray) -> "Visibilities":
        """Some of the rows."""
        return replace(
            self,
            data=self.data[some],
            flags=self.flags[some],
            weights=self.weights[some],
            uvw_m=self.uvw_m[some],
            antenna1=self.antenna1[some],
            antenna2=self.antenna2[some],
            time_index=self.time_index[some],
        )

    def channels(self, some: slice | np.ndarray) -> "Visibilities":
        """Some of the channels, copied."""
        return replace(
            self,
            data=np.ascontiguousarray(self.data[:, some]),
            flags=np.ascontiguousarray(self.flags[:, some]),
            weights=np.ascontiguousarray(self.weights[:, some]),
            frequencies_hz=self.frequencies_hz[some],
            channel_width_hz=self.channel_width_hz[some],
        )
