"""Shape and pointing of the primary beam, measured on the sources that drift through it.

A source's apparent flux density in part of a tile is its own flux density times the response there.
Along the drift the same source is seen at several places, so width and pointing follow without
knowing the source; across the drift, sources of known flux density tell. Everything is solved
together: the beam, one flux density a source (the catalogue's as prior, with Cauchy weights, since
some have changed), and the gain that all sources share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.calibration.beam_measurement import (
    PRIOR_OFFSET_RAD,
    PRIOR_WIDTH,
    BeamMeasurement,
)
from dsa110_contimg.robust import cauchy_weights, robust_rms
from dsa110_contimg.sky.beam_shape import BeamShape
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.primary_beam import beam_axis

_MEASUREMENT_ERROR = 0.01
"""Relative error of a flux density, beside its noise, from the residuals of other sources."""
_MIN_SNR = 10.0
_MIN_SOURCES = 6
_MIN_RESPONSE = 0.05
"""Farther out the beam has another shape than a dish without blockage."""
_ROUNDS = 30
_STEPS = np.array([0.01, np.deg2rad(1 / 60), np.deg2rad(1 / 60)])
"""For derivatives by width and pointing."""
_OTHER_BEAM_SIGMA = 5.0
"""Minimum difference from the known beam, in standard errors, for a beam that has changed."""
_CONVERGED = 1e-3
"""The iteration stops when no parameter changes by more than this part of its standard error."""


@dataclass(frozen=True, eq=False)
class DriftingSources:
    """Sources measured in parts of a tile.

    Attributes
    ----------
    model : SkyModel
        The sources, with their flux densities by the catalogue.
    catalogue_error : ndarray, shape (nsource,)
        How well these are known, as fractions.
    part : ndarray of int, shape (ntime,)
        Part of the tile that each integration belongs to.
    ratio, error : ndarray, shape (npart, nsource)
        Measured over predicted flux density, and its standard error.
    assumed : BeamShape
        That the prediction was made with.
    weights : ndarray, shape (ntime, nsource), optional
        Of the integrations in a part; alike without it.
    """

    model: SkyModel
    catalogue_error: np.ndarray
    part: np.ndarray
    ratio: np.ndarray
    error: np.ndarray
    assumed: BeamShape
    weights: np.ndarray | None = None


def measure_beam(
    sources: DriftingSources, pointings: np.ndarray, frequencies_hz: np.ndarray, dish_m: float
) -> BeamMeasurement:
    """Fit width and pointing of the beam.

    Parameters
    ----------
    sources : DriftingSources
    pointings : ndarray, shape (ntime, 3)
        Nominal dish axis, ICRS.
    frequencies_hz : ndarray, shape (nfreq,)
    dish_m : float
        Diameter whose beam has width one.
    """

    def response(parameters: np.ndarray) -> np.ndarray:
        """Mean over each part and the band, times the flux density; shape (npart, nsource)."""
        shape = BeamShape(*parameters)
        apparent = sources.model.apparent_jy(
            beam_axis(pointings, shape), frequencies_hz, dish_m / shape.width
        ).mean(axis=2)
        weights = np.ones(apparent.shape) if sources.weights is None else sources.weights
        parts, total = np.zeros((2, sources.ratio.shape[0], apparent.shape[1]))
        np.add.at(parts, sources.part, weights * apparent)
        np.add.at(total, sources.part, weights)
        return np.asarray(parts / total)

    start = np.array([sources.assumed.width, sources.assumed.east_rad, sources.assumed.north_rad])
    predicted = response(start)
    in_beam = predicted > _MIN_RESPONSE * sources.model.flux_jy
    used = in_beam & (sources.ratio > _MIN_SNR * sources.error)
    n_sources = int(np.count_nonzero(used.any(axis=0)))
    if n_sources < _MIN_SOURCES:
        return BeamMeasurement(sources.assumed)
    _, source = np.nonzero(used)
    y = np.log((sources.ratio * predicted)[used])
    sigma = np.hypot((sources.error / np.maximum(sources.ratio, 1e-30))[used], _MEASUREMENT_ERROR)
    # Unknowns: the beam's three, the common gain, and what each source differs by.
    n = 4 + sources.model.flux_jy.size
    sources_at = np.zeros((y.size, n - 4))
    sources_at[np.arange(y.size), source] = 1
    prior = np.zeros(n)
    prior[:3] = [PRIOR_WIDTH**-2, PRIOR_OFFSET_RAD**-2, PRIOR_OFFSET_RAD**-2]
    nominal = np.array([1.0, 0.0, 0.0])
    beam, rest = start.copy(), np.zeros(n - 3)
    for _ in range(_ROUNDS):
        centre = np.log(response(beam)[used])
        slopes = [
            (np.log(response(beam + step)[used]) - np.log(response(beam - step)[used])) / 2
            for step in np.diag(_STEPS)
        ]
        design = np.column_stack([*slopes, np.ones(y.size), sources_at])
        residual = y - centre - design[:, 3:] @ rest
        weight = sigma**-2 * cauchy_weights(residual / sigma)
        pull = rest[1:] / sources.catalogue_error
        prior[4:] = sources.catalogue_error**-2 * cauchy_weights(pull)
        scale = np.concatenate([_STEPS, np.ones(n - 3)])
        expected = np.concatenate([(nominal - beam) / _STEPS, -rest])
        scaled_prior = prior * scale**2
        normal = (design * weight[:, None]).T @ design + np.diag(scaled_prior)
        change = np.linalg.solve(normal, design.T @ (weight * residual) + scaled_prior * expected)
        covariance = np.linalg.inv(normal)
        beam, rest = beam + change[:3] * _STEPS, rest + change[3:]
        if np.all(np.abs(change[:3]) < _CONVERGED * np.sqrt(np.diag(covariance)[:3])):
            break
    kept = cauchy_weights(residual / sigma) > 0.5
    excess = max(1.0, robust_rms((residual / sigma)[kept]))
    # The last bits of matrix products depend on the number of threads.
    shape = np.round(beam, 8).tolist()
    error = np.round(excess * np.sqrt(np.diag(covariance)[:3]) * _STEPS, 8).tolist()
    return BeamMeasurement(BeamShape(*shape), error[0], error[1], error[2], n_sources)


def combine(measured: Sequence[BeamMeasurement]) -> BeamMeasurement:
    """Combine independent measurements of one beam.

    The weighted mean of each parameter. Where measurements scatter by more than their errors, those
    are scaled up by the same factor (Particle Data Group, Review of Particle Physics, section
    "Procedures: unconstrained averaging"). Beams of single antennas are left out.

    Parameters
    ----------
    measured : sequence of BeamMeasurement
        At least one. Where all have measured each polarization, these are combined too.
    """
    values = np.array([one.values for one in measured])
    errors = np.array([one.errors for one in measured])
    weights = errors**-2
    mean = (weights * values).sum(axis=0) / weights.sum(axis=0)
    chi2 = (weights * (values - mean) ** 2).sum(axis=0)
    excess = np.sqrt(np.maximum(1.0, chi2 / max(1, len(measured) - 1)))
    error = excess / np.sqrt(weights.sum(axis=0))
    hands = zip(*(one.hands for one in measured), strict=False)
    width_error, east_error_rad, north_error_rad = error.tolist()
    return BeamMeasurement(
        BeamShape(*mean.tolist()),
        width_error,
        east_error_rad,
        north_error_rad,
        sum(one.n_sources for one in measured),
        tuple(combine(one) for one in hands),
    )


def with_known(measured: BeamMeasurement, known: BeamMeasurement | None) -> BeamMeasurement:
    """Combine what a tile shows of its beam with what other observations have shown.

    The tile's own measurement stands alone if the beam has changed since.
    """
    if known is None:
        return measured
    if not measured.n_sources:
        return replace(known, alone=measured)
    pull = (measured.values - known.values) / np.hypot(measured.errors, known.errors)
    if np.abs(pull).max() > _OTHER_BEAM_SIGMA:
        return replace(measured, alone=measured)
    both = combine([measured, known])
    return replace(both, hands=measured.hands, alone=measured)
