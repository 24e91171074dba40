"""A run of consecutive observations of one strip, with its truth."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from dsa110_contimg.constants import DAY_S, SIDEREAL_DAY_S, SIDEREAL_RATE_RAD_S, UNIX_EPOCH_JD
from dsa110_contimg.simulation import instrument, observation
from dsa110_contimg.simulation.sky import KnownSky, random_sky, with_extended, with_faint
from dsa110_contimg.simulation.troubles import NO_TROUBLES, TroubledArray, Troubles
from dsa110_contimg.sky import astrometry
from dsa110_contimg.telescope import DSA110, Telescope

DEFAULT_START = datetime.fromisoformat("2026-01-25T22:05:21+00:00")
TRUTH_NAME = "truth.json"
_REFERENCE_TILE = 4
"""From 0: the fifth tile of a group is the one that calibration is solved on."""


@dataclass(frozen=True)
class RunOptions:
    """What to simulate.

    Attributes
    ----------
    groups : int
        Observations.
    antennas : int
    channels : int
        In each sub-band.
    apparent_dec_deg : float
    seed : int
    integrations : int or None
        In each observation; None is the telescope's.
    start : datetime
        Centre of the first integration.
    noise : bool
    rfi : float
        Share of channels with interference.
    troubles : Troubles
        What is wrong with the instrument.
    """

    groups: int = 10
    antennas: int = 32
    channels: int = 4
    apparent_dec_deg: float = 16.2
    seed: int = 1
    integrations: int | None = None
    start: datetime = DEFAULT_START
    noise: bool = True
    rfi: float = 0.02
    troubles: Troubles = NO_TROUBLES


@dataclass(frozen=True, eq=False)
class Run:
    """A simulated run, ready to be written.

    Attributes
    ----------
    options : RunOptions
    observatory : Observatory
    sky : KnownSky
    starts_jd : ndarray, shape (ngroup,)
    """

    options: RunOptions
    observatory: observation.Observatory
    sky: KnownSky
    starts_jd: np.ndarray

    def write(
        self, directory: Path, group: int, subbands: tuple[int, ...] | None = None
    ) -> list[Path]:
        """Write one observation of the run."""
        return observation.observe(
            directory,
            float(self.starts_jd[group]),
            self.observatory,
            self.sky.model(),
            self.options.seed * 10_000 + group,
            self.options.integrations,
            subbands,
        )

    def write_truth(self, directory: Path) -> Path:
        """Write every source's true and catalogue flux density."""
        path = directory / TRUTH_NAME
        columns = {
            "ra_deg": self.sky.ra_deg,
            "dec_deg": self.sky.dec_deg,
            "flux_jy": self.sky.flux_jy,
            "catalogue_jy": self.sky.catalogue_jy,
            "extended": self.sky.resolved,
        }
        rows = [
            dict(zip(columns, row, strict=True))
            for row in zip(*(column.tolist() for column in columns.values()), strict=True)
        ]
        path.write_text(json.dumps(rows, indent=1))
        return path


def prepare(options: RunOptions, telescope: Telescope = DSA110, sky: KnownSky | None = None) -> Run:
    """Choose antennas, gains and sky of a run.

    Parameters
    ----------
    options : RunOptions
    telescope : Telescope
    sky : KnownSky, optional
        Instead of a random one over the strip.
    """
    rng = np.random.default_rng(options.seed)
    start_s = options.start.timestamp()
    ntime = options.integrations or telescope.integrations_per_file
    length_s = ntime * telescope.integration_s
    starts_jd = UNIX_EPOCH_JD + (start_s + length_s * np.arange(options.groups)) / DAY_S
    antennas = instrument.antennas_in_data(options.antennas)
    troubled = None
    if options.troubles != NO_TROUBLES:
        names = DSA110.stations
        troubled = TroubledArray(
            options.troubles,
            tuple(names[i] for i in antennas),
            instrument.station_positions_m(telescope)[antennas],
            astrometry.Site.of(telescope),
            start_s,
            options.seed,
        )
    observatory = observation.Observatory(
        telescope=telescope,
        antennas=antennas,
        gains=instrument.random_gains(options.antennas, rng, start_s),
        channels_per_subband=options.channels,
        apparent_dec_deg=options.apparent_dec_deg,
        sefd_jy=telescope.system_equivalent_flux_density_jy if options.noise else 0.0,
        rfi=options.rfi,
        troubled=troubled,
    )
    return Run(
        options, observatory, sky or _strip(options, telescope, starts_jd, length_s, rng), starts_jd
    )


def nights(options: RunOptions, count: int) -> Iterator[Run]:
    """The same sky observed on consecutive nights, a sidereal day apart, with gains of each night.

    Parameters
    ----------
    options : RunOptions
        Of the first night; each later one has the next seed.
    count : int
    """
    first = prepare(options)
    yield first
    for night in range(1, count):
        start = options.start + timedelta(seconds=night * SIDEREAL_DAY_S)
        yield prepare(replace(options, start=start, seed=options.seed + night), sky=first.sky)


def pointing_deg(options: RunOptions, telescope: Telescope = DSA110) -> tuple[float, float]:
    """Right ascension and declination (ICRS) that the middle of the first observation looks at."""
    length_s = (options.integrations or telescope.integrations_per_file) * telescope.integration_s
    middle = UNIX_EPOCH_JD + (options.start.timestamp() + 0.5 * length_s) / DAY_S
    ra, dec = _meridian(np.array([middle]), options.apparent_dec_deg, telescope)
    return float(np.rad2deg(ra[0])), float(np.rad2deg(dec[0]))


def _meridian(
    jd: np.ndarray, apparent_dec_deg: float, telescope: Telescope
) -> tuple[np.ndarray, np.ndarray]:
    """ICRS positions (rad) of the meridian at an apparent declination."""
    site = astrometry.Site.of(telescope)
    drift = astrometry.meridian_direction(np.deg2rad(apparent_dec_deg), site.longitude_rad)
    return astrometry.vector_to_radec(astrometry.EarthFrame(jd, site).icrs_direction(drift))


def _strip(
    options: RunOptions,
    telescope: Telescope,
    starts_jd: np.ndarray,
    length_s: float,
    rng: np.random.Generator,
) -> KnownSky:
    """A sky that covers what the run will see, its calibrator in the reference tile."""
    length_d = length_s / DAY_S
    reference = _REFERENCE_TILE if options.groups > _REFERENCE_TILE else options.groups // 2
    moments = np.array([starts_jd[0], starts_jd[reference] + 0.5 * length_d])
    ra, dec = _meridian(moments, options.apparent_dec_deg, telescope)
    first, calibrator = np.rad2deg(np.unwrap(ra))
    seen = DAY_S * np.rad2deg(SIDEREAL_RATE_RAD_S) * (starts_jd[-1] + length_d - starts_jd[0])
    margin = 4.0 / np.cos(dec[0])
    width = min(float(seen + 2 * margin), 360.0)
    sky = random_sky(
        (float(first - margin), float(first - margin) + width),
        float(np.rad2deg(dec.mean())),
        float(calibrator),
        rng,
    )
    if options.troubles.extended:
        sky = with_extended(sky, options.troubles.extended, options.troubles.extended_arcsec, rng)
    if options.troubles.faint_mjy:
        sky = with_faint(sky, 1e-3 * options.troubles.faint_mjy, rng)
    return sky
