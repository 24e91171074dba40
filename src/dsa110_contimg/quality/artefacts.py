"""Stripes and rings that do not belong to the sky, found in an image's Fourier plane.

Noise fills the Fourier plane as the baselines do. One bad baseline is a wave over the whole image,
one point there; gains that were wrong for all antennas of an arm leave rings, one annulus. What
stands above its surroundings is given as its share of the image's variance: a wave as high as the
rms has a third.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from dsa110_contimg.robust import robust_rms

_CLIP_SIGMA = 4.0
_WINDOW = 1024
_BLOCK = 16
_ANNULI = 21
_LEAST_OBSERVED = 0.5


@dataclass(frozen=True)
class Artefacts:
    """The strongest patterns of an image.

    Attributes
    ----------
    stripe_share, ring_share : float
        Of the variance.
    stripe_cells, ring_cells : float
        Wavelengths, pixels.
    """

    stripe_share: float = 0.0
    stripe_cells: float = 0.0
    ring_share: float = 0.0
    ring_cells: float = 0.0


def find_artefacts(pixels: np.ndarray, noise: np.ndarray | float = 1.0) -> Artefacts:
    """The strongest stripe and ring in any window of an image.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
        NaN where nothing was observed; sources are cut off at four times the rms.
    noise : ndarray or float
        rms in the same unit, where it varies over the image.
    """
    found = Artefacts()
    for rows in _windows(pixels.shape[0]):
        for columns in _windows(pixels.shape[1]):
            part = np.asarray(pixels[rows, columns], float)
            level = noise[rows, columns] if isinstance(noise, np.ndarray) else noise
            with np.errstate(invalid="ignore", divide="ignore"):
                scaled = part / level
            seen = np.isfinite(scaled)
            if seen.mean() < _LEAST_OBSERVED:
                continue
            rms = robust_rms(scaled[seen])
            clipped = np.clip(
                scaled - np.median(scaled[seen]), -_CLIP_SIGMA * rms, _CLIP_SIGMA * rms
            )
            found = _worse(found, _patterns(np.where(seen, clipped, 0.0)))
    return found


def _windows(n: int) -> list[slice]:
    """Windows over a side, the last one ending with it."""
    if n <= _WINDOW:
        return [slice(0, n)]
    starts = sorted({*range(0, n - _WINDOW, _WINDOW), n - _WINDOW})
    return [slice(start, start + _WINDOW) for start in starts]


def _worse(a: Artefacts, b: Artefacts) -> Artefacts:
    stripe = a if a.stripe_share >= b.stripe_share else b
    ring = a if a.ring_share >= b.ring_share else b
    return Artefacts(stripe.stripe_share, stripe.stripe_cells, ring.ring_share, ring.ring_cells)


def _patterns(values: np.ndarray) -> Artefacts:
    ny, nx = values.shape
    taper = np.hanning(ny)[:, None] * np.hanning(nx)[None]
    power = np.abs(fft.rfft2(values * taper)) ** 2
    # The last column stands for itself, the others for two.
    power[:, 1 : (nx + 1) // 2] *= 2
    total = power.sum()
    if not total > 0:
        return Artefacts()
    power /= total
    v, u = fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None]
    frequency = np.hypot(u, v)
    # A wave under the taper is three pixels wide.
    wave = 9 * (ndimage.uniform_filter(power, 3, mode="wrap") - _surroundings(power))
    at = np.unravel_index(int(wave.argmax()), wave.shape)
    side = min(ny, nx)
    radius = np.rint(frequency * side).astype(int)
    profile = np.bincount(radius.ravel(), power.ravel())
    ring = 3 * (ndimage.uniform_filter1d(profile, 3) - ndimage.median_filter(profile, _ANNULI))
    best = int(ring.argmax())
    return Artefacts(
        stripe_share=max(float(wave[at]), 0.0),
        stripe_cells=float(1 / max(frequency[at], 1 / side)),
        ring_share=max(float(ring[best]), 0.0),
        ring_cells=side / max(best, 1),
    )


def _surroundings(power: np.ndarray) -> np.ndarray:
    """Median of the block that a point lies in."""
    rows, columns = (-(-n // _BLOCK) for n in power.shape)
    padded = np.full((rows * _BLOCK, columns * _BLOCK), np.nan)
    padded[: power.shape[0], : power.shape[1]] = power
    blocks = padded.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)
    medians = np.nanmedian(blocks.reshape(rows, columns, -1), axis=2)
    wide = np.repeat(np.repeat(medians, _BLOCK, axis=0), _BLOCK, axis=1)
    return wide[: power.shape[0], : power.shape[1]]
