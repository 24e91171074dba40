"""Options of the solvers of gains."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from dsa110_contimg.options import Names, Options
from dsa110_contimg.telescope import DSA110


class SolutionOptions(Options):
    """Minimum requirements of a gain solution."""

    min_baselines: int = Field(
        4, ge=1, description="Minimum number of baselines of an antenna that is solved"
    )
    min_snr: float = Field(
        3.0, ge=0, description="Solutions below this signal-to-noise ratio are flagged"
    )


class SolveOptions(SolutionOptions):
    """Options for solving tiles of a drift scan against a sky model."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {
        "uvmin": "uv_min_lambda",
        "refant": "reference_antennas",
    }
    uv_min_lambda: float = Field(
        100.0, ge=0, description="Minimum length of baselines that are used (wavelengths)"
    )
    reference_antennas: Names = Field(
        DSA110.reference_antennas,
        description="Reference antennas by name, comma-separated, in order of preference",
    )


class FieldSolveOptions(SolutionOptions):
    """Options for solving the calibrators of a tracking array."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {
        "solint": "gain_interval_s",
        "phase_solint": "phase_interval_s",
        "refant": "reference_antennas",
    }
    gain_interval_s: float = Field(
        0.0, ge=0, description="Maximum interval of a gain solution (s); 0 for one per scan"
    )
    max_gap_s: float = Field(
        120.0,
        gt=0,
        description="Maximum gap in the data within a solution (s); a longer one ends it",
    )
    phase_interval_s: float = Field(
        60.0,
        gt=0,
        description="Interval of the phases that are taken out before the bandpass is solved (s)",
    )
    reference_antennas: Names = Field(
        (), description="Reference antennas by name, comma-separated, in order of preference"
    )
