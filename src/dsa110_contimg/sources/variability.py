"""How much a light curve varies.

V and eta as in Swinbank et al. 2015 (A&C 11, 25, equations 1 and 2); the modulation of pairs as in
Mooley et al. 2016 (ApJ 818, 105, equations 4 and 5).
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from dsa110_contimg.sources.behaviour import Behaviour

SEEN_SIGMA = 5.0
_ABSENT_SIGMA = 3.5
_FALSE_ALARMS = 1e-3
"""Constant sources that may be called variable."""
_NEARLY_ALWAYS = 0.7
_ESE_DIP = 0.3
_ESE_EPOCHS = 8


@dataclass(frozen=True)
class Variability:
    """Measures of a light curve.

    Attributes
    ----------
    n : int
        Epochs.
    mean_jy : float
        Weighted.
    modulation : float
        V: standard deviation over mean; NaN with fewer than two epochs.
    eta : float
        Reduced chi-square of the constant source; NaN with fewer than two epochs.
    probability : float
        That a constant source varies so much by chance.
    largest_pair_sigma, largest_pair_modulation : float
        Of the two epochs that differ most significantly.
    max_snr, min_snr : float
        Flux density over error.
    n_seen_until_end : int
        Epochs that saw it, if it was seen nearly always until some epoch and never again; else 0.
    dip : bool
        A long low of some depth between highs, as an extreme scattering event has.
    """

    n: int
    mean_jy: float
    modulation: float
    eta: float
    probability: float
    largest_pair_sigma: float
    largest_pair_modulation: float
    max_snr: float
    min_snr: float
    n_seen_until_end: int
    dip: bool

    def behaviour(self, catalogued: bool) -> Behaviour:
        """In one word; what only one epoch saw was there before if a catalogue has it."""
        if self.n < 2:
            return Behaviour.UNKNOWN
        if self.probability > _FALSE_ALARMS:
            return Behaviour.CONSTANT
        if self.max_snr >= SEEN_SIGMA and self.min_snr < _ABSENT_SIGMA:
            was_there = self.n_seen_until_end > (0 if catalogued else 1)
            return Behaviour.VANISHED if was_there else Behaviour.TRANSIENT
        return Behaviour.VARIABLE


def variability(flux_jy: np.ndarray, error_jy: np.ndarray) -> Variability:
    """Measures of a light curve.

    Parameters
    ----------
    flux_jy, error_jy : ndarray, shape (nepoch,)
        In order of time, finite.
    """
    n = flux_jy.size
    if n == 0:
        return Variability(0, *(float("nan"),) * 8, n_seen_until_end=0, dip=False)
    weight = error_jy**-2.0
    mean = float((weight * flux_jy).sum() / weight.sum())
    snr = flux_jy / error_jy
    chi2 = float((weight * (flux_jy - mean) ** 2).sum())
    pair_sigma, pair_modulation = _largest_pair(flux_jy, error_jy)
    return Variability(
        n=n,
        mean_jy=mean,
        modulation=float(flux_jy.std(ddof=1) / abs(flux_jy.mean())) if n > 1 else float("nan"),
        eta=chi2 / (n - 1) if n > 1 else float("nan"),
        probability=float(stats.chi2.sf(chi2, n - 1)) if n > 1 else 1.0,
        largest_pair_sigma=pair_sigma,
        largest_pair_modulation=pair_modulation,
        max_snr=float(snr.max()),
        min_snr=float(snr.min()),
        n_seen_until_end=_seen_until_end(snr >= _ABSENT_SIGMA),
        dip=_has_dip(flux_jy, error_jy),
    )


def _largest_pair(flux: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Significance and modulation of the two epochs that differ most."""
    if flux.size < 2:
        return 0.0, 0.0
    difference = flux[:, None] - flux[None]
    sigma = np.abs(difference) / np.hypot(error[:, None], error[None])
    i, j = np.unravel_index(int(sigma.argmax()), sigma.shape)
    mean = (flux[i] + flux[j]) / 2
    return float(sigma[i, j]), float(difference[i, j] / mean) if mean else 0.0


def _seen_until_end(seen: np.ndarray) -> int:
    until = int(np.flatnonzero(seen)[-1]) + 1 if seen.any() else 0
    if until in (0, seen.size) or seen[:until].mean() < _NEARLY_ALWAYS:
        return 0
    return int(seen.sum())


def _has_dip(flux: np.ndarray, error: np.ndarray) -> bool:
    """A run of at least three epochs, a third below the median at 3 sigma, with highs around it."""
    if flux.size < _ESE_EPOCHS:
        return False
    usual = float(np.median(flux))
    low = (flux < (1 - _ESE_DIP) * usual) & (usual - flux > 3 * error)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], low, [False]]).astype(int)))
    return any(
        end - begin >= 3 and begin > 0 and end < flux.size
        for begin, end in zip(edges[::2], edges[1::2], strict=True)
    )
