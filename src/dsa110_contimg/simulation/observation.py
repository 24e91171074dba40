"""Write a drift scan as the telescope writes it: one UVH5 file a sub-band and observation.

Frequencies descend and sub-band 0 is the highest; data are phased to the meridian at the apparent
declination; one set of uvw serves all integrations; 117 stations are listed of which some have
data; names carry the wall clock of each host, which differs by a second.
"""

import errno
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from dsa110_contimg.calibration import predict
from dsa110_contimg.constants import DAY_S, UNIX_EPOCH_JD
from dsa110_contimg.errors import UsageError
from dsa110_contimg.simulation import instrument
from dsa110_contimg.simulation.troubles import TroubledArray
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.telescope import Telescope

_POLARIZATIONS = (-5, -6)
_AUTO_JY = 40.0
"""System noise in the autocorrelations, in Jy of correlated signal: they are not used."""
_REFUSED_NAME = (errno.ENOENT, errno.EINVAL)
"""What file systems say of a name that they cannot hold."""


@dataclass(frozen=True, eq=False)
class Observatory:
    """What is the same for all observations of a simulation.

    Attributes
    ----------
    telescope : Telescope
    antennas : ndarray of int
        Indices of the stations that have data.
    gains : AntennaGains
        Of those antennas.
    channels_per_subband : int
    apparent_dec_deg : float
    sefd_jy : float
        Zero for no noise.
    dead : tuple of int
        Positions in `antennas` whose signal is zero.
    rfi : float
        Share of the samples of a tile with interference.
    troubled : TroubledArray or None
        What is wrong with the antennas.
    """

    telescope: Telescope
    antennas: np.ndarray
    gains: instrument.AntennaGains
    channels_per_subband: int
    apparent_dec_deg: float
    sefd_jy: float
    dead: tuple[int, ...] = ()
    rfi: float = 0.02
    troubled: TroubledArray | None = None


def observe(
    directory: Path,
    start_jd: float,
    observatory: Observatory,
    sky: SkyModel,
    seed: int,
    integrations: int | None = None,
    subbands: tuple[int, ...] | None = None,
) -> list[Path]:
    """Write one observation.

    Parameters
    ----------
    directory : Path
    start_jd : float
        Centre of the first integration, UTC.
    observatory : Observatory
    sky : SkyModel
    seed : int
        Of noise and interference; equal seeds give equal files.
    integrations : int, optional
        Default: the telescope's.
    subbands : tuple of int, optional
        Which files to write; default all.

    Returns
    -------
    list of Path
        In order of sub-band.
    """
    telescope = observatory.telescope
    ntime = integrations or telescope.integrations_per_file
    times_jd = start_jd + np.arange(ntime) * telescope.integration_s / DAY_S
    rng = np.random.default_rng(seed)
    nchan = observatory.channels_per_subband * telescope.n_subbands
    width = (telescope.band_top_hz - telescope.band_bottom_hz) / nchan
    frequencies = telescope.band_top_hz - (np.arange(nchan) + 0.5) * width
    antenna2, antenna1 = np.array(
        [(j, i) for j in range(observatory.antennas.size) for i in range(j + 1)]
    ).T
    visdata = _visibilities(observatory, sky, times_jd, frequencies, antenna1, antenna2, rng, width)
    wanted = range(telescope.n_subbands) if subbands is None else subbands
    opened = datetime.fromtimestamp((start_jd - UNIX_EPOCH_JD) * DAY_S, UTC)
    paths = []
    for number in wanted:
        late = datetime.fromtimestamp(opened.timestamp() + (number >= 8), UTC)
        path = directory / f"{late:%Y-%m-%dT%H:%M:%S}_sb{number:02d}.hdf5"
        band = slice(
            number * observatory.channels_per_subband,
            (number + 1) * observatory.channels_per_subband,
        )
        _write(
            path,
            observatory,
            times_jd,
            frequencies[band],
            width,
            antenna1,
            antenna2,
            visdata[:, :, band],
            number,
        )
        paths.append(path)
    return paths


def _model(
    observatory: Observatory,
    sky: SkyModel,
    frame: astrometry.EarthFrame,
    times_s: np.ndarray,
    drift: np.ndarray,
    frequencies: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
) -> np.ndarray:
    """Visibilities of the sky through the antennas' beams, shape (ntime, nbaseline, nchan)."""
    telescope, troubled = observatory.telescope, observatory.troubled
    pointings = frame.icrs_direction(drift)
    apparent = sky.apparent_jy(pointings, frequencies, telescope.dish_diameter_m)
    seen = apparent.max(axis=(0, 2)) > 1e-4
    directions = sky.directions[seen]
    paths = frame.itrf_directions(directions) - drift
    ntime, nbaseline = times_s.size, antenna1.size
    rows1, rows2 = np.tile(antenna1, ntime), np.tile(antenna2, ntime)
    starts = np.arange(ntime + 1) * nbaseline
    out = np.zeros((ntime * nbaseline, frequencies.size), np.complex64)
    forms = sky.select(seen).shapes.uv_forms()
    uv_m = instrument.meridian_uvw_m(
        instrument.station_positions_m(telescope)[observatory.antennas],
        rows1,
        rows2,
        np.deg2rad(observatory.apparent_dec_deg),
        astrometry.Site.of(telescope).longitude_rad,
    )[:, :2].copy()
    if troubled is None:
        positions = instrument.station_positions_m(telescope)[observatory.antennas]
        predict.sum_sources(
            paths @ positions.T,
            np.ascontiguousarray(apparent[:, seen], np.float32),
            frequencies,
            rows1,
            rows2,
            starts,
            out,
            predict.NO_GAINS,
            forms,
            uv_m,
        )
        return out.reshape(ntime, nbaseline, -1)
    delays_m = paths @ troubled.true_positions_m.T + troubled.refracted_m(times_s, drift)[:, None]
    flux = sky.select(seen).spectra_jy(frequencies).astype(np.float32)
    # The beam of each antenna is that of the middle of a sub-band.
    width = observatory.channels_per_subband
    for band in (slice(c, c + width) for c in range(0, frequencies.size, width)):
        voltages = troubled.voltage_beams(
            pointings, directions, float(frequencies[band].mean()), telescope.dish_diameter_m
        )
        part = np.zeros((out.shape[0], width), np.complex64)
        predict.sum_sources(
            delays_m,
            np.repeat(flux[None, :, band], ntime, axis=0),
            frequencies[band],
            rows1,
            rows2,
            starts,
            part,
            voltages.astype(np.complex64),
            forms,
            uv_m,
        )
        out[:, band] = part
    return out.reshape(ntime, nbaseline, -1)


def _visibilities(
    observatory: Observatory,
    sky: SkyModel,
    times_jd: np.ndarray,
    frequencies: np.ndarray,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    rng: np.random.Generator,
    width_hz: float,
) -> np.ndarray:
    """Raw visibilities in the files' sign, shape (ntime, nbaseline, nchan, npol)."""
    telescope, troubled = observatory.telescope, observatory.troubled
    site = astrometry.Site.of(telescope)
    frame = astrometry.EarthFrame(times_jd, site)
    drift = astrometry.meridian_direction(
        np.deg2rad(observatory.apparent_dec_deg), site.longitude_rad
    )
    times_s = (times_jd - UNIX_EPOCH_JD) * DAY_S
    ntime, nbaseline = times_jd.size, antenna1.size
    model = _model(observatory, sky, frame, times_s, drift, frequencies, antenna1, antenna2)
    auto = antenna1 == antenna2
    sigma = (
        instrument.noise_sigma_jy(observatory.sefd_jy, width_hz, telescope.integration_s)
        if observatory.sefd_jy
        else 0.0
    )
    shape = (ntime, nbaseline, frequencies.size, 2)
    data = np.repeat(model[..., None], 2, axis=3)
    if troubled is not None:
        data *= troubled.correlated(antenna1, antenna2)[:, None, :].astype(np.float32)
        data += troubled.crosstalk(antenna1, antenna2, frequencies).astype(np.complex64)
        if troubled.troubles.far_jy:
            data += troubled.far_sources(times_jd, frequencies, frame, drift, antenna1, antenna2)
    if sigma:
        noise = rng.normal(0, sigma, (*shape, 2)).astype(np.float32).view(np.complex64)[..., 0]
        if troubled is not None:
            noise *= troubled.noise(antenna1, antenna2)[:, None, None].astype(np.float32)
        noise[:, auto] = noise[:, auto].real
        data += noise
    data[:, auto] = np.abs(data[:, auto]) + _AUTO_JY
    if observatory.rfi:
        _add_interference(data, auto, observatory.rfi, rng)
    for t, time_s in enumerate(times_s.tolist()):
        g = observatory.gains.at(time_s, frequencies).astype(np.complex64)
        if troubled is not None:
            g *= troubled.gains(time_s, frequencies).astype(np.complex64)
        g[list(observatory.dead)] = 0
        data[t] *= g[antenna1] * np.conj(g[antenna2])
    return np.conj(data)


def _add_interference(
    data: np.ndarray, auto: np.ndarray, share: float, rng: np.random.Generator
) -> None:
    """Narrow-band bursts in some channels and one broad-band burst, on all cross-correlations."""
    ntime, nbaseline, nchan, _ = data.shape
    strength = 60.0 * float(np.median(np.abs(data[:, ~auto])))
    for channel in rng.choice(nchan, max(1, round(share * nchan)), replace=False):
        on: np.ndarray = np.less(rng.uniform(size=ntime), 0.7)
        phase = np.exp(2j * np.pi * rng.uniform(size=(int(on.sum()), nbaseline, 1)))
        phase[:, auto] = 1
        data[on, :, channel] += (strength * phase).astype(np.complex64)
    if rng.uniform() < 0.5:
        phase = np.exp(2j * np.pi * rng.uniform(size=(nbaseline, 1, 1)))
        phase[auto] = 1
        data[rng.integers(ntime)] += (0.3 * strength * phase).astype(np.complex64)


def _write(
    path: Path,
    observatory: Observatory,
    times_jd: np.ndarray,
    frequencies: np.ndarray,
    width_hz: float,
    antenna1: np.ndarray,
    antenna2: np.ndarray,
    visdata: np.ndarray,
    number: int,
) -> None:
    """One file under its `_incomplete` name, renamed when it is closed."""
    telescope = observatory.telescope
    positions = instrument.station_positions_m(telescope)
    ntime, nbaseline, nfreq, npol = visdata.shape
    first, second = observatory.antennas[antenna1], observatory.antennas[antenna2]
    declination = float(np.deg2rad(observatory.apparent_dec_deg))
    uvw = instrument.meridian_uvw_m(
        positions, first, second, declination, float(np.deg2rad(telescope.longitude_deg))
    )
    header: dict[str, object] = {
        "latitude": telescope.latitude_deg,
        "longitude": telescope.longitude_deg,
        "altitude": telescope.altitude_m,
        "telescope_name": telescope.name.encode(),
        "instrument": b"DSA",
        "object_name": b"search",
        "history": b"simulated",
        "phase_type": b"drift",
        "phase_center_app_dec": declination,
        "Nants_data": observatory.antennas.size,
        "Nants_telescope": positions.shape[0],
        "Nbls": nbaseline,
        "Nblts": ntime * nbaseline,
        "Nfreqs": nfreq,
        "Npols": npol,
        "Nspws": 1,
        "Ntimes": ntime,
        "antenna_numbers": np.arange(positions.shape[0]),
        "antenna_names": np.array(telescope.stations, "S"),
        "antenna_positions": positions,
        "antenna_diameters": np.full(positions.shape[0], telescope.dish_diameter_m),
        "ant_1_array": np.tile(first, ntime),
        "ant_2_array": np.tile(second, ntime),
        "uvw_array": np.tile(uvw, (ntime, 1)).astype(np.float32),
        "time_array": np.repeat(times_jd, nbaseline),
        "integration_time": np.full(ntime * nbaseline, telescope.integration_s),
        "freq_array": frequencies.reshape(1, -1),
        "channel_width": width_hz,
        "spw_array": np.array([1]),
        "polarization_array": np.array(_POLARIZATIONS),
    }
    extra = {
        "phase_center_dec": declination,
        "ha_phase_center": 0.0,
        "phase_center_epoch": b"HADEC",
        "fs_table": b"simulated",
    }
    incomplete = path.with_name(f"{path.stem}_incomplete.hdf5")
    shape = (ntime * nbaseline, 1, nfreq, npol)
    try:
        file = h5py.File(incomplete, "w", locking=False)
    except OSError as error:
        if error.errno not in _REFUSED_NAME:
            raise
        raise UsageError(
            f"{incomplete}: cannot be made; the directory must exist and take names with colons, "
            "as the telescope's files have (exFAT, FAT and NTFS do not)"
        ) from error
    with file:
        group = file.create_group("Header")
        for name, value in header.items():
            group[name] = value
        keywords = group.create_group("extra_keywords")
        for name, value in extra.items():
            keywords[name] = value
        data = file.create_group("Data")
        data["visdata"] = np.ascontiguousarray(visdata).reshape(shape)
        data["flags"] = np.zeros(shape, bool)
        data["nsamples"] = np.ones(shape, np.float32)
    incomplete.rename(path)
