"""Noise that an image has if its receivers are all that makes noise."""

import numpy as np

from dsa110_contimg.imaging.weighting import noise_variance
from dsa110_contimg.visibilities.data import Visibilities


def expected_rms_jy(
    vis: Visibilities,
    flags: np.ndarray,
    sample_weights: np.ndarray,
    imaging_weights: np.ndarray,
    sefd_jy: float,
) -> float:
    """Noise (Jy per beam) of an image of total intensity before beam correction.

    ``SEFD / sqrt(2 N B t)`` for ``N`` baselines and hands of bandwidth ``B`` and time ``t``, summed
    over what is not flagged (Thompson, Moran and Swenson 2017, equation 6.62), times what imaging
    weights cost over natural ones.

    Parameters
    ----------
    vis : Visibilities
        For the band and the length of integrations.
    flags : ndarray of bool, shape (nrow, nchan, npol)
        What is not imaged.
    sample_weights, imaging_weights : ndarray, shape (nsample,)
        Inverse variances and imaging weights; only the ratios of either matter.
    sefd_jy : float
        System equivalent flux density of one antenna and polarization.
    """
    used = np.sum(~flags[:, :, vis.parallel_hands], axis=(0, 2))
    total = float(np.sum(used * vis.channel_width_hz)) * vis.integration_s
    natural = 1 / np.sum(sample_weights, dtype=float)
    increase = np.sqrt(noise_variance(sample_weights, imaging_weights) / natural)
    return float(increase * sefd_jy / np.sqrt(2 * total))
