"""Pixels and resolution of a tile's image, and how its weights lie."""

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from dsa110_contimg.constants import ARCSEC_RAD, SPEED_OF_LIGHT_M_S
from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging import clean, weighting
from dsa110_contimg.imaging.options import TileImageOptions
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.visibilities import averaging
from dsa110_contimg.visibilities.data import Visibilities

CELLS_PER_BEAM = 4.0
_CELLS_PER_TAPERED_BEAM = 3.0
"""Minimum before a taper widens the beam of an image of given size. A beam of four cells
would have more noise from sidelobes and from sources that it does not tell apart."""
HALF_POWER_WIDTH = 1.029
"""Full width at half power of an Airy beam, in wavelengths over diameter."""
_CELL_STEP_RAD = 0.25 * ARCSEC_RAD
_MAX_TAPER = 32.0
"""Of the beam that is wanted."""
ROUGH_LOSS = 0.02
"""Averaging that is good enough to choose the geometry by."""


def _even(pixels: float) -> int:
    return 2 * int(np.ceil(pixels / 2 - 1e-9))


@dataclass(frozen=True)
class Geometry:
    """Pixels, taper, Briggs' robustness, and how the imaging weights lie.

    `rough` are generously averaged samples; `baseline_weights` are their imaging weights by
    baseline, the table those of each integration and frequency bin.
    """

    size: int
    cell_rad: float
    taper_rad: float
    robust: float
    rough: averaging.Samples
    baseline_weights: np.ndarray
    time_frequency_weights: np.ndarray
    bin_centres_hz: np.ndarray
    remarks: tuple[str, ...]


def choose_geometry(
    vis: Visibilities, flags: np.ndarray, options: TileImageOptions, like: TileImage | None = None
) -> Geometry:
    """Pixels and resolution of the image.

    Without a cell of the user's, the image covers the half-power beam of the dish at least, with
    four cells across the restoring beam; where the array resolves more than the number of pixels
    holds, with three, and a taper (beyond any of the user's) widens the beam if it must. A user's
    cell that is too coarse for four is made finer and the image larger. An image `like` another one
    has its pixels, taper and weights.
    """
    given_cell = None if options.cell_arcsec is None else options.cell_arcsec * ARCSEC_RAD
    given = options.taper_arcsec * ARCSEC_RAD
    size = options.size
    if like is not None:
        size, given_cell, given = like.apparent.shape[0], like.cell_rad, like.taper_rad
    # Not what was measured of the beam: images of all tiles shall have one grid.
    wavelength_m = SPEED_OF_LIGHT_M_S / vis.frequencies_hz.mean()
    field_rad = HALF_POWER_WIDTH * wavelength_m / vis.nominal_dish_m
    coarsest = given_cell or _CELL_STEP_RAD * np.ceil(field_rad / size / _CELL_STEP_RAD)
    rough = samples_of(vis, flags, size, coarsest, ROUGH_LOSS)
    field = size * coarsest
    robust = options.robust if like is None else like.robust
    if robust is None:
        robust = weighting.best_robust(
            rough.uvw_lambda, rough.weights, size, coarsest, vis.unmodelled_jy
        )

    def minor_axis(cell: float, taper: float) -> float:
        weights = weighting.imaging_weights(
            rough.uvw_lambda,
            rough.weights,
            _even(field / cell),
            cell,
            options.weighting,
            robust,
            taper,
        )
        return clean.fitted_beam(rough, weights, cell, options.threads).minor_rad

    def settled(npix: int, cell: float, taper: float, *remarks: str) -> Geometry:
        weights = weighting.imaging_weights(
            rough.uvw_lambda, rough.weights, npix, cell, options.weighting, robust, taper
        )
        table, centres = weights_by_time_and_frequency(rough, weights, vis)
        per_baseline = rough.baseline_weights(weights)
        return Geometry(
            npix, float(cell), float(taper), robust, rough, per_baseline, table, centres, remarks
        )

    if like is not None:
        return settled(size, like.cell_rad, like.taper_rad)
    longest = np.hypot(*rough.uvw_lambda[:, :2].T).max()
    minor = minor_axis(0.5 / longest, given)
    # The beam depends on the weights, they on the field; the field is settled by now.
    cell = _CELL_STEP_RAD * np.floor(minor / CELLS_PER_BEAM / _CELL_STEP_RAD)
    if given_cell is not None and given_cell > cell > 0:
        larger = _even(field / cell)
        return settled(
            larger,
            cell,
            given,
            f"cell reduced from {given_cell / ARCSEC_RAD:g} to "
            f"{cell / ARCSEC_RAD:g} arcsec for four cells across the beam, "
            f"size raised to {larger} to keep the field",
        )
    if given_cell is not None:
        return settled(size, given_cell, given)
    if cell >= coarsest:
        return settled(size, cell, given)
    wanted = _CELLS_PER_TAPERED_BEAM * coarsest

    def shortfall(taper: float) -> float:
        return minor_axis(coarsest, taper) - wanted

    # The grid drops baselines beyond its edge, which may widen the beam enough by itself.
    missing = shortfall(given)
    if missing >= 0:
        return settled(
            size,
            coarsest,
            given,
            f"{_CELLS_PER_TAPERED_BEAM + missing / coarsest:.1f} cells across the beam (minor "
            f"axis), so that {size} pixels cover the half-power beam; give --size and "
            "--cell-arcsec for more",
        )
    widest = given + 2 * wanted
    while shortfall(widest) < 0:
        widest *= 2
        if widest > _MAX_TAPER * wanted:
            raise ImagingError(
                "no taper gives the image a beam of three cells: too few baselines are left "
                "unflagged; look at the flags of the tile"
            )
    taper = optimize.brentq(shortfall, given, widest, xtol=_CELL_STEP_RAD, maxiter=20, disp=False)
    return settled(
        size,
        coarsest,
        taper,
        f"tapered from {minor / ARCSEC_RAD:.1f} to "
        f"{wanted / ARCSEC_RAD:.1f} arcsec (minor axis) so that {size} pixels "
        "cover the half-power beam; give --size and --cell-arcsec for full resolution",
    )


def samples_of(
    vis: Visibilities,
    flags: np.ndarray,
    size: int,
    cell_rad: float,
    loss: float,
    importance: np.ndarray | None = None,
    subtract: np.ndarray | None = None,
) -> averaging.Samples:
    """Total intensity averaged for an image; parameters as of `averaging.stokes_i_samples`."""
    return averaging.stokes_i_samples(
        vis.data,
        flags,
        vis.weights,
        vis.uvw_m,
        vis.antenna1,
        vis.antenna2,
        vis.time_index,
        vis.frequencies_hz,
        0.5 * size * cell_rad,
        loss,
        importance,
        subtract,
    )


def weights_by_time_and_frequency(
    samples: averaging.Samples, weights: np.ndarray, vis: Visibilities, nbins: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Imaging weight per integration and frequency bin, and the bins' mean frequencies."""
    frequencies = vis.frequencies_hz
    edges = np.linspace(frequencies.min() - 1, frequencies.max() + 1, nbins + 1)
    which = np.clip(np.searchsorted(edges, samples.frequency_hz) - 1, 0, nbins - 1)
    shares, kind = averaging.integration_shares(samples, vis.times_jd.size)
    total = np.bincount(kind * nbins + which, weights, shares.shape[0] * nbins)
    table = shares.T @ total.reshape(-1, nbins)
    sums = np.bincount(which, weights, nbins)
    means = np.bincount(which, weights * samples.frequency_hz.astype(float), nbins)
    used = sums > 0
    return table[:, used], means[used] / sums[used]
