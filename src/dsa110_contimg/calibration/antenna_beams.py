"""Measure what the beams of single antennas differ by from the array's.

An antenna that points 6 arcmin beside the others sees a source at half power 4 % stronger or weaker
than they do. Over all sources of a tile these differences are linear in the antenna's pointing and
in the logarithm of its width: data minus model of the antennas i and j is
``sum_k (p_ik + p_jk) M_k``, where ``M_k`` is the model with each source times the slope of the
antenna's voltage towards it (`sky.primary_beam.voltage_slopes`).

A source that long baselines resolve looks like distant antennas whose beams differ. A beam belongs
to an antenna, whatever the baseline: what shorter and longer baselines do not agree on is no beam.
"""

import numpy as np

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.baseline_sums import BaselineSums, sum_baselines
from dsa110_contimg.robust import MEDIAN_OVER_MEAN, robust_rms
from dsa110_contimg.sky.beam_shape import AntennaBeams
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.primary_beam import voltage_slopes
from dsa110_contimg.visibilities.data import Visibilities

_BEAM_TERMS = 3
_TERMS = 5
"""Width, pointing east, pointing north, gain, phase."""
_UNITS = np.array([0.01, np.deg2rad(1 / 60), np.deg2rad(1 / 60), 0.01, 0.01])
_PRIOR = np.array([0.1, np.deg2rad(15 / 60), np.deg2rad(15 / 60), 0.1, 0.2])
"""Prior standard errors, before the antennas themselves say how much they differ."""
_SIGNIFICANT = 3.0
_LEAST_AGREEMENT = 0.4
"""Minimum correlation between what shorter and longer baselines say of the antennas."""
_IN_HALF, _MIN_IN_BOTH = 6, 8
"""Minimum number of baselines of an antenna in each half, and of antennas that have them."""
_ROUNDS = 2
_DECIMALS = 7
"""The last bits of matrix products depend on the number of threads."""


def measure_antenna_beams(
    vis: Visibilities, sky: np.ndarray, model: SkyModel
) -> AntennaBeams | None:
    """Fit width and pointing of each antenna.

    Parameters
    ----------
    vis : Visibilities
        Calibrated.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of all sources.
    model : SkyModel
        The strongest of them, which show the antennas' beams.

    Returns
    -------
    AntennaBeams or None
        None where the antennas differ by no more than noise.
    """
    here = vis.antennas_present()
    sums = _sums(vis, sky, model, here)
    noise = sums.noise
    if noise <= 0:
        return None
    normal, right = sums.equations(here.size)
    unscale = np.tile(_UNITS, here.size)
    normal, right = normal * unscale[:, None] * unscale[None], right * unscale
    prior = np.tile((_UNITS / _PRIOR) ** 2, here.size)
    agreed = _agreement(sums, here.size, unscale, prior)
    if not agreed.any():
        return None
    seen = np.ones(_BEAM_TERMS, bool)
    for _ in range(_ROUNDS):
        covariance = np.linalg.inv(normal / noise + np.diag(prior))
        found = (covariance @ right).reshape(here.size, _TERMS) / noise
        noise *= sums.excess(found * _UNITS, noise)
        error = np.sqrt(np.diag(covariance)).reshape(here.size, _TERMS)
        scatter2 = np.array([robust_rms(one) ** 2 for one in found.T])
        noise2 = np.median(error**2, axis=0)
        doubt = _SIGNIFICANT * MEDIAN_OVER_MEAN * np.sqrt(2 / here.size) * noise2
        seen = agreed & (scatter2 - noise2 > doubt)[:_BEAM_TERMS]
        spread2 = np.maximum(scatter2 - noise2, 1e-3 * noise2)
        prior = np.tile(1 / spread2, here.size)
    if not seen.any():
        return None
    beams = np.where(seen, found[:, :_BEAM_TERMS], 0.0)
    beams = np.round((beams - np.median(beams, axis=0)) * _UNITS[:_BEAM_TERMS], _DECIMALS)
    names = tuple(vis.array.names[a] for a in here)
    return AntennaBeams(names, *(tuple(one.tolist()) for one in beams.T))


def _agreement(
    sums: BaselineSums, nantenna: int, unscale: np.ndarray, prior: np.ndarray
) -> np.ndarray:
    """Say for each of the beam's terms whether shorter and longer baselines agree on it."""
    halves, known = [], np.ones(nantenna, bool)
    longer = sums.length_m > np.median(sums.length_m)
    for half in (~longer, longer):
        part = sums.select(half)
        normal, right = part.equations(nantenna)
        normal = normal * unscale[:, None] * unscale[None] / sums.noise + np.diag(prior)
        found = np.linalg.solve(normal, right * unscale / sums.noise)
        halves.append(found.reshape(nantenna, _TERMS)[:, :_BEAM_TERMS])
        known &= np.bincount(np.append(part.first, part.second), minlength=nantenna) >= _IN_HALF
    count = np.count_nonzero(known)
    if count < _MIN_IN_BOTH:
        return np.zeros(_BEAM_TERMS, bool)
    # From robust variances: cov(a, b) = (var(a + b) - var(a - b)) / 4 of a and b of variance one.
    one, other = (half[known] / [robust_rms(x) for x in half[known].T] for half in halves)
    correlation = np.array(
        [
            (robust_rms(a + b) ** 2 - robust_rms(a - b) ** 2) / 4
            for a, b in zip(one.T, other.T, strict=True)
        ]
    )
    return correlation > max(_LEAST_AGREEMENT, _SIGNIFICANT / np.sqrt(count))


def _sums(vis: Visibilities, sky: np.ndarray, model: SkyModel, here: np.ndarray) -> BaselineSums:
    """Sums of all baselines of some antennas."""
    apparent = model.apparent_jy(vis.beam_axis, vis.frequencies_hz, vis.dish_m)
    middle_hz = float(vis.frequencies_hz.mean())
    slopes = voltage_slopes(vis.beam_axis, model.directions, middle_hz, vis.dish_m)
    terms = [
        predict.predict_apparent(
            vis, model.directions, apparent * slopes[:, :, k, None], shapes=model.shapes
        )
        for k in range(_BEAM_TERMS)
    ]
    return sum_baselines(vis, sky, terms, [1.0] * _BEAM_TERMS, here)
