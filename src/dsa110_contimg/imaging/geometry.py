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
    cell holds; the grid drops baselines that it is too coarse for, and a remark says what that
    costs. An image `like` another one has its pixels, taper and weights.
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
    robust = options.robust if like is None else like.robust
    if robust is None:
        robust = weighting.best_robust(
            rough.uvw_lambda, rough.weights, size, coarsest, vis.unmodelled_jy
        )
    choice = _Choice(vis, rough, options, robust, size * coarsest)
    if like is not None:
        return choice.settle(size, like.cell_rad, like.taper_rad)
    longest = np.hypot(*rough.uvw_lambda[:, :2].T).max()
    minor = choice.minor_axis(0.5 / longest, given)
    # The beam depends on the weights, they on the field; the field is settled by now.
    cell = _CELL_STEP_RAD * np.floor(minor / CELLS_PER_BEAM / _CELL_STEP_RAD)
    if given_cell is not None:
        return choice.settle(size, given_cell, given, *choice.costs(given_cell, given, cell))
    if cell >= coarsest:
        return choice.settle(size, cell, given)
    return choice.taper(size, coarsest, given, minor)


@dataclass(frozen=True, eq=False)
class _Choice:
    """Data and options for the choice of pixels and taper.

    Attributes
    ----------
    vis : Visibilities
    rough : Samples
        Averaged more than for the image.
    options : TileImageOptions
    robust : float
    field_rad : float
        Side of the image.
    """

    vis: Visibilities
    rough: averaging.Samples
    options: TileImageOptions
    robust: float
    field_rad: float

    def minor_axis(self, cell_rad: float, taper_rad: float) -> float:
        """Minor axis of the restoring beam in an image of a cell and a taper, in radians."""
        weights = self._weights(_even(self.field_rad / cell_rad), cell_rad, taper_rad)
        return clean.fitted_beam(self.rough, weights, cell_rad, self.options.threads).minor_rad

    def costs(self, cell_rad: float, taper_rad: float, better_rad: float) -> tuple[str, ...]:
        """What a user's cell costs that is too coarse for the beam.

        Parameters
        ----------
        cell_rad, taper_rad : float
            Of the user.
        better_rad : float
            Cell that the beam has four of.
        """
        across = self.minor_axis(cell_rad, taper_rad) / cell_rad
        if across >= _CELLS_PER_TAPERED_BEAM:
            return ()
        longest = np.hypot(*self.rough.uvw_lambda[:, :2].T)
        dropped = float(np.mean(longest > 0.5 / cell_rad))
        # A source midway between four pixels.
        low = 1 - np.exp(-2 * np.log(2) / across**2)
        return (
            f"{across:.1f} cells across the beam (minor axis) with {cell_rad / ARCSEC_RAD:g} "
            f"arcsec: {100 * dropped:.0f} % of the samples are dropped, and peaks between pixels "
            f"are up to {100 * low:.0f} % low; {better_rad / ARCSEC_RAD:g} arcsec would be four",
        )

    def settle(self, size: int, cell_rad: float, taper_rad: float, *remarks: str) -> Geometry:
        """Make the geometry of pixels and taper."""
        weights = self._weights(size, cell_rad, taper_rad)
        table, centres = weights_by_time_and_frequency(self.rough, weights, self.vis)
        return Geometry(
            size,
            float(cell_rad),
            float(taper_rad),
            self.robust,
            self.rough,
            self.rough.baseline_weights(weights),
            table,
            centres,
            remarks,
        )

    def taper(self, size: int, cell_rad: float, given_rad: float, minor_rad: float) -> Geometry:
        """Find the taper that makes the beam wide enough for a cell.

        Parameters
        ----------
        size : int
        cell_rad : float
        given_rad : float
            Taper that the user wants at least.
        minor_rad : float
            Minor axis of the beam without more, for the remark.

        Raises
        ------
        ImagingError
            If there is none.
        """
        wanted = _CELLS_PER_TAPERED_BEAM * cell_rad

        def shortfall(taper_rad: float) -> float:
            return self.minor_axis(cell_rad, taper_rad) - wanted

        # The grid drops baselines beyond its edge, which may widen the beam enough by itself.
        missing = shortfall(given_rad)
        if missing >= 0:
            return self.settle(
                size,
                cell_rad,
                given_rad,
                f"{_CELLS_PER_TAPERED_BEAM + missing / cell_rad:.1f} cells across the beam (minor "
                f"axis), so that {size} pixels cover the half-power beam; give --size and "
                "--cell-arcsec for more",
            )
        widest = given_rad + 2 * wanted
        while shortfall(widest) < 0:
            widest *= 2
            if widest > _MAX_TAPER * wanted:
                raise ImagingError(
                    "no taper gives the image a beam of three cells: too few baselines are left "
                    "unflagged; look at the flags of the tile"
                )
        found = optimize.brentq(
            shortfall, given_rad, widest, xtol=_CELL_STEP_RAD, maxiter=20, disp=False
        )
        return self.settle(
            size,
            cell_rad,
            found,
            f"tapered from {minor_rad / ARCSEC_RAD:.1f} to "
            f"{wanted / ARCSEC_RAD:.1f} arcsec (minor axis) so that {size} pixels "
            "cover the half-power beam; give --size and --cell-arcsec for full resolution",
        )

    def _weights(self, size: int, cell_rad: float, taper_rad: float) -> np.ndarray:
        return weighting.imaging_weights(
            self.rough.uvw_lambda,
            self.rough.weights,
            size,
            cell_rad,
            self.options.weighting,
            self.robust,
            taper_rad,
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
    return averaging.stokes_i_samples(vis, flags, 0.5 * size * cell_rad, loss, importance, subtract)


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
