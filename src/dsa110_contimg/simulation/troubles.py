"""Troubles of an instrument, and what they do to its signals."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from dsa110_contimg.constants import ARCSEC_RAD, DAY_S, SPEED_OF_LIGHT_M_S, UNIX_EPOCH_JD
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.beam_shape import BeamShape
from dsa110_contimg.sky.primary_beam import beam_axis, voltage_response
from dsa110_contimg.sky.strong_sources import MOON, SUN, strong_sources
from dsa110_contimg.telescope import antenna_order

_REFRACTION_PERIODS_S = (130.0, 310.0, 900.0)
_CLOSE_M = 20.0
"""Antennas nearer to each other than this exchange crosstalk."""
_SUN_RAD = np.deg2rad(0.53)
"""Diameter of the Sun and of the Moon."""
FarName = Literal["Sun", "Moon", "Cas A", "Cyg A", "Tau A", "Vir A"]
_FORBID = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=_FORBID)
class Jump:
    """A sudden change of both hands of an antenna.

    Attributes
    ----------
    antenna : str
        Name of the station.
    after_s : float
        Since the run began.
    gain : float
        Factor of the amplitude.
    delay_ns : float
        Added.
    """

    antenna: str
    after_s: float
    gain: float = 1.0
    delay_ns: float = 0.0


@checked_dataclass(frozen=True, config=_FORBID)
class DeadHand:
    """A hand (0 or 1) of an antenna that receives noise only."""

    antenna: str
    hand: Literal[0, 1]


@checked_dataclass(frozen=True, config=_FORBID)
class Troubles:
    """What is wrong; nothing by default.

    Attributes
    ----------
    common_drift_per_h : float
        Relative change of the amplitudes of all receivers in an hour.
    antenna_drift_per_h : float
        The same of each antenna by itself, rms.
    jumps : tuple of Jump
    delays_ns : dict of str to float
        Instrumental delays of antennas.
    dead_hands : tuple of DeadHand
    swapped : tuple of str
        Antennas whose two hands are exchanged.
    noisy : tuple of str
        Antennas with three times the noise.
    position_error_m : float
        Of each coordinate of each antenna, rms.
    misplaced_m : dict of str to tuple of float
        Metres east, north and up of its listed place where an antenna really stands.
    beam_width : float
        Of the array, over that of the nominal dish.
    beam_east_arcmin, beam_north_arcmin : float
        Where the array points, from where it should.
    beam_width_scatter : float
        Relative, of the beams of single antennas, rms.
    pointing_scatter_arcmin : float
        Of single antennas in each direction, rms.
    refraction_arcsec : float
        Motion of the whole sky in each direction, rms.
    crosstalk_jy : float
        Between antennas nearer than 20 m, constant in time.
    far_jy : dict of str to float
        Flux densities with which sidelobes of one hand, rms, hear the Sun, the Moon, Cas A, Cyg A,
        Tau A or Vir A.
    extended : int
        Number of the strongest sources that are Gaussians; the catalogue lists their sizes.
    extended_arcsec : float
        The largest full width at half maximum among them.
    faint_mjy : float
        The faintest source of those that the catalogue does not list; 0 for none.
    """

    common_drift_per_h: float = 0.0
    antenna_drift_per_h: float = 0.0
    jumps: tuple[Jump, ...] = ()
    delays_ns: dict[str, float] = field(default_factory=dict)
    dead_hands: tuple[DeadHand, ...] = ()
    swapped: tuple[str, ...] = ()
    noisy: tuple[str, ...] = ()
    position_error_m: float = 0.0
    misplaced_m: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    beam_width: float = 1.0
    beam_east_arcmin: float = 0.0
    beam_north_arcmin: float = 0.0
    beam_width_scatter: float = 0.0
    pointing_scatter_arcmin: float = 0.0
    refraction_arcsec: float = 0.0
    crosstalk_jy: float = 0.0
    far_jy: dict[FarName, float] = field(default_factory=dict)
    extended: int = 0
    extended_arcsec: float = 40.0
    faint_mjy: float = 0.0

    @property
    def antennas(self) -> set[str]:
        """Antennas that are named."""
        named = {*self.delays_ns, *self.misplaced_m, *self.swapped, *self.noisy}
        named |= {jump.antenna for jump in self.jumps}
        return named | {dead.antenna for dead in self.dead_hands}


NO_TROUBLES = Troubles()
_ADAPTER = TypeAdapter(Troubles)
_NOISY_FACTOR = 3.0
_HANDS = 2


def read_troubles(path: Path) -> Troubles:
    """Read troubles from a TOML file; its keys are the attributes of `Troubles`.

    Raises
    ------
    BadInputError
        If it cannot be read, or a name or a value is wrong.
    """
    try:
        return _ADAPTER.validate_python(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInputError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInputError(f"{path}: {where}: {first['msg']}") from error


@dataclass(frozen=True, eq=False)
class TroubledArray:
    """Troubles of the antennas of a run; what is random about them is the same in all its files.

    Attributes
    ----------
    troubles : Troubles
    names : tuple of str
        Antennas with data.
    positions_m : ndarray, shape (nantenna, 3)
        ITRF, as the files say.
    site : Site
    start_s : float
        When the run begins, Unix seconds.
    seed : int
    """

    troubles: Troubles
    names: tuple[str, ...]
    positions_m: np.ndarray
    site: astrometry.Site
    start_s: float
    seed: int

    def __post_init__(self) -> None:
        if unknown := sorted(self.troubles.antennas - {*self.names}, key=antenna_order):
            raise UsageError(
                f"troubles of antennas {', '.join(unknown)}, which have no data in this run; it "
                f"has {', '.join(self.names)}"
            )

    def _random(self, what: int, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal numbers of one kind of trouble, the same whatever else is wrong."""
        return np.random.default_rng((self.seed, what)).normal(size=shape)

    @property
    def true_positions_m(self) -> np.ndarray:
        """Where the antennas are, shape (nantenna, 3)."""
        error = self.troubles.position_error_m * self._random(0, self.positions_m.shape)
        true = self.positions_m + error
        axes = astrometry.tangent_axes(self.site.longitude_rad, self.site.latitude_rad)
        for name, moved in self.troubles.misplaced_m.items():
            true[self.names.index(name)] += moved @ axes
        return true

    def gains(self, time_s: float, frequencies_hz: np.ndarray) -> np.ndarray:
        """Factors of the gains at a moment, shape (nantenna, nfreq, 2)."""
        hours = (time_s - self.start_s) / 3600.0
        own = self.troubles.antenna_drift_per_h * self._random(1, (len(self.names), _HANDS))
        amplitude = 1 + hours * (self.troubles.common_drift_per_h + own)
        delay_ns = np.array([self.troubles.delays_ns.get(name, 0.0) for name in self.names])
        for jump in self.troubles.jumps:
            if time_s - self.start_s >= jump.after_s:
                index = self.names.index(jump.antenna)
                amplitude[index] *= jump.gain
                delay_ns[index] += jump.delay_ns
        turns = 1e-9 * delay_ns[:, None] * (frequencies_hz - frequencies_hz.mean())
        return np.asarray(amplitude[:, None, :] * np.exp(2j * np.pi * turns)[:, :, None])

    def correlated(self, antenna1: np.ndarray, antenna2: np.ndarray) -> np.ndarray:
        """Share of the sky that each baseline and hand receives: 0 or 1, shape (nbaseline, 2)."""
        alive = np.ones((len(self.names), _HANDS))
        for dead in self.troubles.dead_hands:
            alive[self.names.index(dead.antenna), dead.hand] = 0
        swapped = np.isin(self.names, self.troubles.swapped)
        # The two hands of an unpolarized sky have nothing in common.
        same = swapped[antenna1] == swapped[antenna2]
        return np.asarray(alive[antenna1] * alive[antenna2] * same[:, None])

    def noise(self, antenna1: np.ndarray, antenna2: np.ndarray) -> np.ndarray:
        """Factor of the noise of each baseline, shape (nbaseline,)."""
        factor = np.where(np.isin(self.names, self.troubles.noisy), _NOISY_FACTOR, 1.0)
        return np.asarray(factor[antenna1] * factor[antenna2])

    def voltage_beams(
        self, pointings: np.ndarray, directions: np.ndarray, frequency_hz: float, dish_m: float
    ) -> np.ndarray:
        """Voltage response of each antenna towards each source.

        Parameters
        ----------
        pointings : ndarray, shape (ntime, 3)
            Nominal dish axis, ICRS.
        directions : ndarray, shape (nsource, 3)
        frequency_hz, dish_m : float

        Returns
        -------
        ndarray, shape (ntime, nsource, nantenna)
        """
        known, count = self.troubles, len(self.names)
        width = known.beam_width * (1 + known.beam_width_scatter * self._random(2, (count,)))
        moved_arcmin = known.pointing_scatter_arcmin * self._random(3, (count, 2))
        moved_arcmin += (known.beam_east_arcmin, known.beam_north_arcmin)
        found = np.empty((len(pointings), len(directions), count))
        for a in range(count):
            east, north = np.deg2rad(moved_arcmin[a] / 60).tolist()
            cos = beam_axis(pointings, BeamShape(1.0, east, north)) @ directions.T
            sin = np.sqrt(np.maximum(0.0, 1 - cos**2))
            voltage = voltage_response(sin, frequency_hz, dish_m / width[a])
            found[:, :, a] = np.where(cos > 0, voltage, 0.0)
        return found

    def refracted_m(self, times_s: np.ndarray, drift: np.ndarray) -> np.ndarray:
        """Path that refraction adds for the whole sky, shape (ntime, nantenna), metres.

        Parameters
        ----------
        times_s : ndarray, shape (ntime,)
            Unix seconds.
        drift : ndarray, shape (3,)
            Direction of the beam, ITRF.
        """
        count = len(_REFRACTION_PERIODS_S)
        phases = np.random.default_rng((self.seed, 4)).uniform(0, 2 * np.pi, (count, 2))
        turns = (times_s[:, None] - self.start_s) / np.array(_REFRACTION_PERIODS_S)
        waves = np.sin(2 * np.pi * turns[:, :, None] + phases).sum(axis=1) * np.sqrt(2 / count)
        shift_rad = self.troubles.refraction_arcsec * ARCSEC_RAD * waves
        longitude, latitude = np.arctan2(drift[1], drift[0]), np.arcsin(drift[2])
        sky_axes = astrometry.tangent_axes(float(longitude), float(latitude))[:2]
        return np.asarray(shift_rad @ sky_axes @ self.positions_m.T)

    def far_sources(
        self,
        times_jd: np.ndarray,
        frequencies_hz: np.ndarray,
        frame: astrometry.EarthFrame,
        drift: np.ndarray,
        antenna1: np.ndarray,
        antenna2: np.ndarray,
    ) -> np.ndarray:
        """What sidelobes hear, shape (ntime, nbaseline, nfreq, 2), Jy.

        The response of each hand of each antenna changes by as much as it is over an hour, and
        over a quarter of the band.
        """
        rng = np.random.default_rng((self.seed, 6))
        hours = (UNIX_EPOCH_JD + self.start_s / DAY_S - times_jd) * 24
        middle_hz = frequencies_hz.mean()
        quarters = 4 * (frequencies_hz - middle_hz) / np.ptp(frequencies_hz)
        shape = (times_jd.size, antenna1.size, frequencies_hz.size, _HANDS)
        heard = np.zeros(shape, np.complex64)
        known = strong_sources(float(times_jd.mean()))
        for name, flux_jy in self.troubles.far_jy.items():
            parts = rng.normal(size=(3, len(self.names), _HANDS, 2)) @ (1, 1j) / np.sqrt(2)
            response = (
                parts[0]
                + parts[1] * hours[:, None, None, None]
                + parts[2] * quarters[:, None, None]
            )
            paths_m = (frame.itrf_directions(known[name][None])[:, 0] - drift) @ self.positions_m.T
            turns = paths_m[:, None, :] / SPEED_OF_LIGHT_M_S * frequencies_hz[:, None]
            voltage = response * np.exp(2j * np.pi * turns)[..., None]
            visible = np.ones(antenna1.size)
            if name in (SUN, MOON):
                lengths_m = np.linalg.norm(
                    self.positions_m[antenna1] - self.positions_m[antenna2], axis=1
                )
                # The transform of a disc, in angle as that of an aperture in metres.
                visible = voltage_response(np.sin(_SUN_RAD), middle_hz, lengths_m)
            heard += (
                flux_jy
                * visible[:, None, None]
                * voltage[:, :, antenna1].transpose(0, 2, 1, 3)
                * np.conj(voltage[:, :, antenna2].transpose(0, 2, 1, 3))
            ).astype(np.complex64)
        heard[:, antenna1 == antenna2] = 0
        return heard

    def crosstalk(
        self, antenna1: np.ndarray, antenna2: np.ndarray, frequencies_hz: np.ndarray
    ) -> np.ndarray:
        """Crosstalk of each baseline, shape (nbaseline, nfreq, 2), Jy."""
        rng = np.random.default_rng((self.seed, 5))
        distance_m = np.linalg.norm(self.positions_m[antenna1] - self.positions_m[antenna2], axis=1)
        close = (distance_m > 0) & (distance_m < _CLOSE_M)
        phase = rng.uniform(0, 2 * np.pi, (antenna1.size, 1, _HANDS))
        # The way from one antenna's electronics to the other's.
        delay_s = rng.uniform(1e-8, 6e-8, (antenna1.size, 1, 1))
        turn = 2 * np.pi * delay_s * (frequencies_hz - frequencies_hz.mean())[None, :, None]
        return np.asarray(
            self.troubles.crosstalk_jy * close[:, None, None] * np.exp(1j * (phase + turn))
        )
