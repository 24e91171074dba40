"""Gates: a number, a limit, a verdict. They can be passed by real data, and say what failed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from dsa110_contimg.quality.options import GateOptions
from dsa110_contimg.robust import median_error, robust_rms

RMS = "rms"
"""Name of the gate whose value is what later mosaics are expected to have."""
_LEAST_CELLS, _LONGEST_BEAM = 2.5, 5.0
_TILES_SHARE = 0.7
_PUBLISHED_TILES_JY = 0.008
"""Rms of a typical tile that others have published (4 to 54 mJy)."""
_SIGNIFICANT = 3.0
_SCALE_ERROR = 0.01
"""Of a flux scale beside the scatter of its sources."""
_MAX_SCALE_OFFSET = 0.05
"""A flux scale that is farther from one is not good, whatever its error."""
_UNITS = {
    RMS: (1e3, "mJy/beam"),
    "astrometry": (1.0, "arcsec"),
    "completeness": (100.0, "%"),
    "coverage": (100.0, "%"),
    "beam": (1.0, "cells"),
    "stripes": (100.0, "%"),
    "rings": (100.0, "%"),
}
"""Factor and unit of the limits by the name of the gate; ratios and counts have none."""


class Verdict(StrEnum):
    """From good to bad; only `passed` publishes by itself."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Gate:
    """One check.

    Attributes
    ----------
    name : str
    value : float
        Flux densities in Jy, shares of one.
    limit : str
        What is asked, in words and numbers.
    verdict : Verdict
    note : str
    """

    name: str
    value: float
    limit: str
    verdict: Verdict
    note: str = ""

    @property
    def value_text(self) -> str:
        """The value in the unit of the limit."""
        factor, unit = _UNITS.get(self.name, (1.0, ""))
        if not np.isfinite(self.value):
            return "unknown"
        return f"{factor * self.value:.4g} {unit}".rstrip()


def overall(gates: Sequence[Gate]) -> Verdict:
    """The worst of the verdicts."""
    order = list(Verdict)
    return max((gate.verdict for gate in gates), key=order.index, default=Verdict.FAILED)


def _judge(good: bool, acceptable: bool) -> Verdict:
    return Verdict.PASSED if good else Verdict.WARNING if acceptable else Verdict.FAILED


def flux_ratio(ratios: np.ndarray, min_sources: int, low: float, high: float) -> Gate:
    """Median flux density over the catalogue's."""
    limit = f"median within {low:g} to {high:g}, from at least {min_sources} sources"
    if ratios.size < min_sources:
        return Gate(
            "flux ratio", float("nan"), limit, Verdict.WARNING, f"only {ratios.size} sources"
        )
    value = float(np.median(ratios))
    scatter = robust_rms(ratios)
    error = float(np.hypot(median_error(ratios), _SCALE_ERROR))
    good = abs(value - 1) <= min(_SIGNIFICANT * error, _MAX_SCALE_OFFSET)
    return Gate(
        "flux ratio",
        value,
        f"one within three times its error and {100 * _MAX_SCALE_OFFSET:.0f} %; {limit}",
        _judge(good and low <= value <= high, low <= value <= high),
        f"{ratios.size} sources, scatter {scatter:.3f}, error {error:.3f}",
    )


def position_offset(
    east_arcsec: np.ndarray, north_arcsec: np.ndarray, min_sources: int, limit_arcsec: float
) -> Gate:
    """Median distance from the catalogue's positions."""
    limit = f"median at most {limit_arcsec:.1f} arcsec, from at least {min_sources} sources"
    if east_arcsec.size < min_sources:
        return Gate(
            "astrometry", float("nan"), limit, Verdict.WARNING, f"only {east_arcsec.size} sources"
        )
    value = float(np.median(np.hypot(east_arcsec, north_arcsec)))
    return Gate(
        "astrometry",
        value,
        limit,
        _judge(value <= limit_arcsec, value <= 2 * limit_arcsec),
        f"mean offset {east_arcsec.mean():+.2f} E, {north_arcsec.mean():+.2f} N arcsec",
    )


def completeness(n_detected: int, n_expected: int, least: float) -> Gate:
    """Share of catalogue sources on observed pixels that are seen."""
    limit = f"at least {100 * least:.0f} % of catalogue sources on observed pixels"
    if n_expected == 0:
        return Gate("completeness", float("nan"), limit, Verdict.WARNING, "no source expected")
    value = n_detected / n_expected
    return Gate(
        "completeness",
        value,
        limit,
        _judge(value >= least, value >= 0.8 * least),
        f"{n_detected} of {n_expected}",
    )


def noise(
    rms_jy: float, computed_jy: float | None, usual_jy: float | None, options: GateOptions
) -> Gate:
    """Measured noise against what is usual, or else against what the receivers make.

    Parameters
    ----------
    rms_jy : float
    computed_jy : float or None
        Expected noise of antennas, time and band; None where an image does not say.
    usual_jy : float or None
        Of earlier mosaics of the strip; None where there are too few.
    options : GateOptions
    """
    note = ""
    if computed_jy is not None:
        note = (
            f"antennas, time and band give {1e3 * computed_jy:.3g} mJy/beam "
            f"({rms_jy / computed_jy:.2f} times)"
        )
    known = (
        (usual_jy, options.max_rms_ratio, "median of the strip's published mosaics"),
        (options.expected_rms_jy, options.max_rms_ratio, "stated in the settings"),
        (computed_jy, options.max_rms_over_noise, "by antennas, time and band"),
        (_PUBLISHED_TILES_JY, options.max_rms_ratio, "tiles of DSA-110 that others published"),
    )
    expected_jy, factor, origin = next(
        (jy, factor, origin) for jy, factor, origin in known if jy is not None
    )
    return Gate(
        RMS,
        rms_jy,
        f"at most {factor:g} times {1e3 * expected_jy:.3g} mJy/beam ({origin})",
        _judge(rms_jy <= factor * expected_jy, rms_jy <= 1.5 * factor * expected_jy),
        note,
    )


def dynamic_range(peak_jy: float, rms_jy: float, least: float) -> Gate:
    """Brightest pixel over noise."""
    value = peak_jy / rms_jy if rms_jy > 0 else float("nan")
    return Gate("dynamic range", value, f"at least {least:g}", _judge(value >= least, False))


def finite(n_bad: int, n_observed: int) -> Gate:
    """Observed pixels that are no numbers."""
    return Gate(
        "finite pixels",
        float(n_bad),
        "no observed pixel without a number",
        _judge(n_bad == 0 and n_observed > 0, False),
        f"{n_observed} observed",
    )


def tiles_used(n_used: int, n_given: int) -> Gate:
    """Tiles that passed their gates; a bad one that stayed out is no fault of the mosaic."""
    share = n_used / n_given
    return Gate(
        "tiles",
        float(n_used),
        f"at least {math.ceil(_TILES_SHARE * n_given)} of {n_given} tiles",
        _judge(share >= _TILES_SHARE, share >= 0.5),
    )


def beam(major_cells: float, minor_cells: float) -> Gate:
    """Restoring beam that the pixels can hold, and that is a beam."""
    good = minor_cells >= _LEAST_CELLS and major_cells <= _LONGEST_BEAM * minor_cells
    return Gate(
        "beam",
        minor_cells,
        f"minor axis at least {_LEAST_CELLS:g} cells, major at most {_LONGEST_BEAM:g} times as "
        "long",
        _judge(good, False),
        f"major axis {major_cells:.1f} cells",
    )


def coverage(observed: np.ndarray, least: float) -> Gate:
    """Share of the strip, from the first observed column or row to the last, that was seen."""
    along = np.any(observed, axis=0 if observed.shape[1] >= observed.shape[0] else 1)
    first, last = np.flatnonzero(along)[[0, -1]]
    value = float(np.mean(along[first : last + 1]))
    return Gate(
        "coverage",
        value,
        f"at least {100 * least:.0f} % of the strip from end to end",
        _judge(value >= least, True),
    )


def pattern(kind: str, share: float, cells: float, most: float) -> Gate:
    """The strongest stripe or ring."""
    return Gate(
        kind,
        share,
        f"at most {100 * most:.0f} % of the variance",
        _judge(share <= most, share <= 2 * most),
        f"wavelength {cells:.0f} cells",
    )
