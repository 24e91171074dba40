"""One restoring beam for tiles that have several."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import fft

from dsa110_contimg.imaging.fits_image import Image
from dsa110_contimg.imaging.restore import RestoringBeam

_POINTS = 180
_ROUNDS = 1000
_EXACTNESS = 1e-7


def common_beam(beams: Sequence[RestoringBeam]) -> RestoringBeam:
    """Smallest beam that every one of the given can be convolved to.

    Its half-power ellipse is the smallest that encloses all of theirs, found by Khachiyan's
    algorithm (Todd and Yildirim 2007, Discrete Appl. Math. 155, 1731) for ellipses about one
    centre, then widened by what its finite exactness lacks.

    Parameters
    ----------
    beams : sequence of RestoringBeam
    """
    if len(set(beams)) == 1:
        return beams[0]
    points = np.vstack([_ellipse(beam) for beam in beams])
    shape = _enclosing(points)
    # Of all points, of ellipses between the points too.
    inverse = np.linalg.inv(shape)
    excess = max(
        float(np.linalg.eigvals(inverse @ _squared_axes(beam)).real.max()) for beam in beams
    )
    values, vectors = np.linalg.eigh(shape * excess)
    north, east = vectors[:, 1]
    minor, major = np.sqrt(values)
    return RestoringBeam(float(major), float(minor), float(np.mod(np.arctan2(east, north), np.pi)))


def _squared_axes(beam: RestoringBeam) -> np.ndarray:
    """Matrix of the half-power ellipse: squared axes, (north, east)."""
    sin, cos = np.sin(beam.position_angle_rad), np.cos(beam.position_angle_rad)
    along, across = np.array([cos, sin]), np.array([-sin, cos])
    return np.outer(along, along) * beam.major_rad**2 + np.outer(across, across) * beam.minor_rad**2


def _ellipse(beam: RestoringBeam) -> np.ndarray:
    """Points of the half-power ellipse, doubled in size, shape (n, 2): north, east."""
    angle = np.linspace(0, np.pi, _POINTS, endpoint=False)
    values, vectors = np.linalg.eigh(_squared_axes(beam))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return circle * np.sqrt(values) @ vectors.T


def _enclosing(points: np.ndarray) -> np.ndarray:
    """Matrix of the smallest ellipse about zero that encloses points, (x, y) S^-1 (x, y) <= 1."""
    n, dimensions = points.shape
    weights = np.full(n, 1 / n)
    for _ in range(_ROUNDS):
        moment = points.T @ (points * weights[:, None])
        distance = np.einsum("ij,jk,ik->i", points, np.linalg.inv(moment), points)
        farthest = int(distance.argmax())
        if distance[farthest] <= dimensions * (1 + _EXACTNESS):
            break
        weights *= distance / dimensions
        weights /= weights.sum()
    return dimensions * (points.T @ (points * weights[:, None]))


def differ(beams: Sequence[RestoringBeam], tolerance: float) -> bool:
    """True if an axis differs from the median by more than a fraction."""
    axes = np.array([(beam.major_rad, beam.minor_rad) for beam in beams])
    return bool((np.abs(axes / np.median(axes, axis=0) - 1) > tolerance).any())


def convolve(image: Image, beam: RestoringBeam) -> Image:
    """Bring a restored image to a larger beam; a point source keeps its peak.

    Parameters
    ----------
    image : Image
        Jy per beam, finite everywhere, with its beam.
    beam : RestoringBeam
        As `common_beam` gives.
    """
    if image.beam is None or image.beam == beam:
        return image
    kernel = _covariance(beam, image.cell_rad) - _covariance(image.beam, image.cell_rad)
    ny, nx = image.pixels.shape
    reach = int(np.ceil(4 * np.sqrt(max(np.linalg.eigvalsh(kernel).max(), 0.0)))) + 1
    shape = tuple(fft.next_fast_len(n + reach, real=True) for n in (ny, nx))
    v, u = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    quadratic = kernel[0, 0] * u**2 + 2 * kernel[0, 1] * u * v + kernel[1, 1] * v**2
    transfer = np.exp(-2 * np.pi**2 * quadratic)
    smooth = fft.irfft2(fft.rfft2(image.pixels, shape) * transfer, shape)[:ny, :nx]
    gain = beam.solid_angle_sr / image.beam.solid_angle_sr
    return replace(image, pixels=(gain * smooth).astype(np.float32), beam=beam)


def _covariance(beam: RestoringBeam, cell_rad: float) -> np.ndarray:
    """Of the Gaussian, in pixels: columns, rows."""
    return np.linalg.inv(2 * beam.quadratic_form(cell_rad))


def mean_beam(beams: Sequence[RestoringBeam]) -> RestoringBeam:
    """Mean of beams that are nearly alike: axes and direction one by one."""
    # Directions repeat every half turn.
    doubled = np.exp(2j * np.asarray([one.position_angle_rad for one in beams])).mean()
    return RestoringBeam(
        float(np.mean([one.major_rad for one in beams])),
        float(np.mean([one.minor_rad for one in beams])),
        float(np.mod(np.angle(doubled) / 2, np.pi)),
    )
