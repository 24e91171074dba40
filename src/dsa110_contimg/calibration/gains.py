"""Gains of antennas."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from dsa110_contimg.errors import UsageError
from dsa110_contimg.telescope import antenna_order


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


def check_reference_antennas(
    names: Collection[str], preference: Sequence[str], default: Sequence[str]
) -> None:
    """Refuse reference antennas that a user states and the data lack.

    Parameters
    ----------
    names : collection of str
        Antennas of the data.
    preference, default : sequence of str
        Reference antennas of the options, and those that hold without a word of the user: they
        suit one telescope, and data of others fall back to the antenna that is solved most.

    Raises
    ------
    UsageError
    """
    unknown = [name for name in preference if name not in names]
    if unknown and tuple(preference) != tuple(default):
        some = ", ".join(sorted(names, key=antenna_order)[:8])
        raise UsageError(
            f"reference antenna {', '.join(unknown)}: is not in the data, whose antennas are "
            f"{some}{' ...' if len(names) > 8 else ''}"
        )


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
