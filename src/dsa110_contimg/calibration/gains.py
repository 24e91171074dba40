"""Gains of antennas."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Gains:
    """Complex gains of antennas.

    Attributes
    ----------
    values : ndarray of complex128, shape (ninterval, nantenna, nchan, npol)
        One where flagged. nchan is 1 for gains that do not depend on frequency.
    flags : ndarray of bool, same shape
    snr : ndarray of float32, same shape
        Gain amplitude over its standard error.
    """

    values: np.ndarray
    flags: np.ndarray
    snr: np.ndarray

    def channels(self, chosen: np.ndarray) -> "Gains":
        """The same of some channels."""
        return Gains(self.values[:, :, chosen], self.flags[:, :, chosen], self.snr[:, :, chosen])


def refer_phases(
    gains: Gains, names: tuple[str, ...], preference: tuple[str, ...]
) -> tuple[Gains, str]:
    """Rotate phases so that a reference antenna's are zero.

    The first antenna of `preference` that is solved everywhere the most-solved antenna is
    becomes the reference; without one, the most-solved antenna itself.

    Parameters
    ----------
    gains : Gains
    names : tuple of str
        Antenna names in the order of the gains.
    preference : tuple of str

    Returns
    -------
    gains : Gains
    reference : str
        Name of the antenna used.
    """
    solved = (~gains.flags).sum(axis=(0, 2, 3))
    best = int(solved.max())
    chain = [names.index(name) for name in preference if name in names]
    index = next((i for i in chain if solved[i] == best), int(solved.argmax()))
    reference = gains.values[:, index : index + 1]
    phase = np.where(np.abs(reference) > 0, reference / np.abs(reference), 1.0)
    values = np.where(gains.flags, 1.0, gains.values * np.conj(phase))
    return Gains(values, gains.flags, gains.snr), names[index]
