"""Tiles as the stages leave them: converted, calibrated, imaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dsa110_contimg.calibration.antenna_state import AntennaHealth, AntennaState
from dsa110_contimg.executors.own_disk import OnHost
from dsa110_contimg.quality.artefacts import Artefacts
from dsa110_contimg.sky.strong_sources import FarSource
from dsa110_contimg.visibilities.manual_flags import ManualFlag

PLANES = ("image", "pbcor", "pb", "residual", "model", "psf", "rms", "q")
"""Kinds of images that are written of a tile."""


@dataclass(frozen=True)
class ConvertedTile:
    """A tile as a Measurement Set that is never changed again.

    Attributes
    ----------
    tile_id : str
        First integration as YYYYMMDDTHHMMSS, UTC.
    ms_path : Path
    start, duration_s : float
        Unix seconds of the first integration's centre, and the length.
    ra_deg, dec_deg : float
        ICRS phase centre.
    apparent_dec_deg : float
        Where the array points.
    n_subbands : int
    absent_subbands, dead_antennas, warnings : tuple
    n_bad_samples : int
        Not finite or absurd, flagged.
    sun_deg, moon_deg : float
        Distance from the phase centre.
    host : str
        Machine on whose own disk the Measurement Set lies; empty if all see it.
    """

    tile_id: str
    ms_path: Path
    start: float
    duration_s: float
    ra_deg: float
    dec_deg: float
    apparent_dec_deg: float
    n_subbands: int = 0
    absent_subbands: tuple[int, ...] = ()
    dead_antennas: tuple[str, ...] = ()
    n_bad_samples: int = 0
    warnings: tuple[str, ...] = ()
    sun_deg: float = float("nan")
    moon_deg: float = float("nan")
    host: str = ""

    @property
    def place(self) -> OnHost:
        """Machine and path of the Measurement Set."""
        return OnHost(self.host, self.ms_path)


@dataclass(frozen=True)
class CalibratedTile:
    """A calibrated tile.

    Attributes
    ----------
    tile : ConvertedTile
        What it was made of.
    ms_path : Path
        DATA in Jy, weights and flags final.
    calibration_set_id : str
    flagged_fraction, rfi_fraction : float
    phase_rms_deg : float
        How far phases had moved since the reference tile.
    noise_jy : float
        Of one visibility.
    flag_causes : dict of str to float
        Share of the samples of antennas and channels with data that were flagged first for each
        reason: "by hand", "before" (in the files, or absurd values), "no solution",
        "interference".
    host : str
        Machine on whose own disk the Measurement Set lies; empty if all see it.
    motion_arcsec : float
        Motion (rms) of the whole sky during the tile, as the ionosphere makes it, taken out; 0
        where it was not significant.
    antennas : tuple of AntennaHealth
        Each polarization of each antenna in the data, against the reference tile.
    far_sources : tuple of FarSource
        Sun, Moon and strongest sources far outside the beam that were taken off.
    """

    tile: ConvertedTile
    ms_path: Path
    calibration_set_id: str
    flagged_fraction: float
    rfi_fraction: float
    phase_rms_deg: float
    noise_jy: float
    flag_causes: dict[str, float] = field(default_factory=dict)
    host: str = ""
    motion_arcsec: float = 0.0
    antennas: tuple[AntennaHealth, ...] = ()
    far_sources: tuple[FarSource, ...] = ()

    @property
    def place(self) -> OnHost:
        """Machine and path of the Measurement Set."""
        return OnHost(self.host, self.ms_path)

    @property
    def departures(self) -> tuple[AntennaHealth, ...]:
        """Polarizations of antennas that are not as they were in the reference tile."""
        return tuple(one for one in self.antennas if one.state is not AntennaState.STEADY)


@dataclass(frozen=True)
class SubbandFiles:
    """Sub-band files of any number of observations."""

    paths: Sequence[Path]


@dataclass(frozen=True)
class ConvertedTiles:
    """The tiles of a run, in order of time."""

    tiles: tuple[ConvertedTile, ...]


@dataclass(frozen=True)
class ManualFlags:
    """Flags that operators added by hand."""

    flags: tuple[ManualFlag, ...] = ()


NO_FLAGS = ManualFlags()


@dataclass(frozen=True)
class CalibratedTiles:
    """The tiles of a run that could be calibrated, and the reasons of the others by tile."""

    tiles: tuple[CalibratedTile, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


NO_CALIBRATED = CalibratedTiles()


class Photometry(NamedTuple):
    """A strong, isolated catalogue source in a tile: degrees and Jy at the tile's frequency."""

    ra_deg: float
    dec_deg: float
    catalogue_jy: float
    measured_jy: float
    noise_jy: float


@dataclass(frozen=True)
class TileCheck:
    """Quality of a tile's image.

    Attributes
    ----------
    n_not_finite : int
        Pixels without a number.
    n_sources : int
        Strong, isolated catalogue sources above half response that the ratio and offset are
        made of, without those that carry the calibration; 0 if too few.
    flux_ratio, flux_ratio_error : float
        Median of measured over catalogue flux density.
    east_arcsec, north_arcsec, offset_error_arcsec : float
        Median offset from the catalogue's positions.
    artefacts : Artefacts
    photometry : tuple of Photometry
        Strong sources above half response, those that carry the calibration too.
    """

    n_not_finite: int = 0
    n_sources: int = 0
    flux_ratio: float = 1.0
    flux_ratio_error: float = 0.0
    east_arcsec: float = 0.0
    north_arcsec: float = 0.0
    offset_error_arcsec: float = 0.0
    artefacts: Artefacts = field(default_factory=Artefacts)
    photometry: tuple[Photometry, ...] = ()


@dataclass(frozen=True)
class ImagedTile:
    """Images of one tile.

    Attributes
    ----------
    tile_id : str
    prefix : Path
        Files are this and `.image.fits`, `.pbcor.fits`, `.pb.fits`, `.residual.fits`,
        `.model.fits`, `.psf.fits`, `.rms.fits`, `.png`; with Stokes Q also `.q.fits`.
    calibration_set_id : str
    start, duration_s : float
        Unix seconds, seconds.
    ra_deg, dec_deg : float
    rms_jy, peak_jy : float
        Before beam correction.
    beam_major_rad, beam_minor_rad, beam_angle_rad : float
    cell_arcsec, frequency_hz : float
    size, n_iterations, n_major, n_samples, n_subtracted : int
    averaging_loss : float
        What averaging took from a source in the middle of an edge of the image; corrected.
    beam_corrected : bool
    check : TileCheck
        The image against catalogue and noise.
    remarks : tuple of str
    expected_rms_jy : float or None
        What antennas, time, band and weighting give before beam correction; records of old
        versions have none.
    """

    tile_id: str
    prefix: Path
    calibration_set_id: str
    start: float
    duration_s: float
    ra_deg: float
    dec_deg: float
    rms_jy: float
    peak_jy: float
    beam_major_rad: float
    beam_minor_rad: float
    beam_angle_rad: float
    cell_arcsec: float
    frequency_hz: float
    size: int
    n_iterations: int
    n_major: int
    n_samples: int
    n_subtracted: int
    averaging_loss: float = 0.0
    beam_corrected: bool = True
    check: TileCheck = field(default_factory=TileCheck)
    remarks: tuple[str, ...] = ()
    expected_rms_jy: float | None = None

    def file(self, kind: str) -> Path:
        """Path of one of the images, of `PLANES`."""
        return self.prefix.with_name(f"{self.prefix.name}.{kind}.fits")


@dataclass(frozen=True)
class ImagedTiles:
    """The tiles of a run that could be imaged, and the reasons of the others by tile.

    `left_out` holds those too that could not be calibrated.
    """

    tiles: tuple[ImagedTile, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


NO_IMAGES = ImagedTiles()


def image_files(prefix: Path) -> list[Path]:
    """All that is written of a tile, at most."""
    names = (*(f"{kind}.fits" for kind in PLANES), "png")
    return [prefix.with_name(f"{prefix.name}.{name}") for name in names]
