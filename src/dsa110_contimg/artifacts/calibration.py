"""Calibration sets as they lie on disk, and those that are known from before."""

from dataclasses import dataclass
from pathlib import Path

from dsa110_contimg.calibration.antenna_state import Misplaced
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.calibration.choice import Candidate, Standing
from dsa110_contimg.calibration.source_scale import FluxScale

BANDPASS_NAME = "bandpass.b"
GAINS_NAME = "gains.g"
RECORD_NAME = "set.json"
CROSSTALK_NAME = "crosstalk.npz"
COMBINED = "+"
"""Between the ids of bandpass and gains, in that of a combined set."""


@dataclass(frozen=True)
class SolvedSet:
    """A calibration set on disk.

    Attributes
    ----------
    id : str
    path : Path
        Directory with the bandpass and gain tables and this record.
    tile_id : str
        Reference tile.
    observed : float
        Unix seconds of the middle of that tile.
    apparent_dec_deg : float
    reference_antenna : str
    flagged_fraction, median_snr, model_flux_jy, rfi_fraction : float
    n_model_sources : int
    sky_catalog : str
    bandpass_valid_s, gains_valid_s : float
    channels_per_solution : int
        Of the bandpass; more than one where the sky was weak.
    flux_scale : FluxScale or None
    beam : BeamMeasurement or None
    known_beam : str
        Name of the stored beam that took part; empty if none did.
    n_unmodelled : int
        Sources that the catalogue does not hold, or differently, found in data minus model.
    unmodelled_jy : float
        What is left after these, as in `Visibilities`.
    n_crosstalk : int
        Baselines whose crosstalk is taken off.
    crosstalk_rms_jy : float
    crosstalk_sky_loss : float
        Share of its flux density that a source without a model loses in the reference tile.
    misplaced : tuple of Misplaced
        Antennas that do not stand where the files say.
        Records of old versions have none of these.
    """

    id: str
    path: Path
    tile_id: str
    observed: float
    apparent_dec_deg: float
    reference_antenna: str
    flagged_fraction: float
    median_snr: float
    model_flux_jy: float
    rfi_fraction: float
    n_model_sources: int
    sky_catalog: str
    bandpass_valid_s: float
    gains_valid_s: float
    channels_per_solution: int = 1
    flux_scale: FluxScale | None = None
    beam: BeamMeasurement | None = None
    known_beam: str = ""
    n_unmodelled: int = 0
    unmodelled_jy: float = 0.0
    n_crosstalk: int = 0
    crosstalk_rms_jy: float = 0.0
    crosstalk_sky_loss: float = 0.0
    misplaced: tuple[Misplaced, ...] = ()


@dataclass(frozen=True)
class KnownSet:
    """A stored set with the standing that operators gave it."""

    solved: SolvedSet
    standing: Standing = Standing.NORMAL
    remark: str = ""

    @property
    def candidate(self) -> Candidate:
        """The set as a candidate for the choice of a calibration set."""
        return Candidate(
            self.solved.id,
            self.solved.observed,
            self.solved.apparent_dec_deg,
            self.solved.bandpass_valid_s,
            self.solved.gains_valid_s,
            self.standing,
            self.remark,
        )


@dataclass(frozen=True)
class KnownSets:
    """Sets that may serve if the data themselves cannot be solved.

    Attributes
    ----------
    sets : tuple of KnownSet
    complete : bool
        False while earlier observations are still being solved.
    """

    sets: tuple[KnownSet, ...] = ()
    complete: bool = True


NO_SETS = KnownSets()
