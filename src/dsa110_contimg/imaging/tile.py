"""Make the image of one tile: subtract what CLEAN cannot model, weight, CLEAN, correct."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy import optimize

from dsa110_contimg.calibration import predict
from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging import clean, components, weighting
from dsa110_contimg.imaging.restore import RestoringBeam, restore, robust_rms
from dsa110_contimg.sky import astrometry, primary_beam
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.telescope import SPEED_OF_LIGHT_M_S
from dsa110_contimg.visibilities import averaging
from dsa110_contimg.visibilities.measurement_set import Visibilities

CELLS_PER_BEAM = 4.0
HALF_POWER_WIDTH = 1.029
"""Full width at half power of an Airy beam, in wavelengths over diameter."""
_CELL_STEP_RAD = 0.25 * astrometry.ARCSEC_RAD
_EDGE_PIXELS = 16
_MOST_COMPONENTS = 48
_COMPONENT_SIGMA = 30.0
"""Sources this far above the thermal noise are fitted in the visibilities, the brightest first."""
_EXACT_SIGMA = 1000.0
"""Brighter ones are taken off the data before averaging, others off the averaged samples."""
_SEEN_SIGMA = 3.0
"""Fainter sources outside the image leave no sidelobes in it that the noise would not hide."""
_CORRECTED = 10.0
"""Averaging may take so many times the allowed loss, because an image is corrected for it: the
mean over all samples is known to a few per cent of itself."""
_ROUGH_LOSS = 0.02
"""Averaging that is good enough to choose the geometry by."""


@dataclass(frozen=True)
class TileImageOptions:
    """How to image; see `stages.imaging.ImagingOptions` for meanings and units."""

    size: int
    cell_rad: float | None
    scheme: Literal["natural", "uniform", "briggs"]
    robust: float
    niter: int
    auto_mask_sigma: float
    auto_threshold_sigma: float
    major_gain: float
    max_major: int
    uv_min_lambda: float
    averaging_loss: float
    threads: int
    deconvolver: Literal["hogbom", "multiscale"] = "hogbom"


@dataclass(frozen=True, eq=False)
class TileImage:
    """All images of one tile, shape (npix, npix), in FITS order.

    Attributes
    ----------
    apparent : ndarray
        Restored, Jy per beam, not beam-corrected.
    residual, psf : ndarray
        Jy per beam.
    model : ndarray
        Jy per pixel.
    primary_beam : ndarray
        Response with the weights that were imaged.
    cell_rad, frequency_hz, rms_jy : float
        `rms_jy` is the residual's, before beam correction.
    beam : RestoringBeam
    n_iterations, n_major, n_samples, n_components, n_subtracted : int
        `n_components` counts sources fitted in the visibilities, which `model` does not hold;
        `n_subtracted` those outside the image that were taken off.
    averaging_loss : float
        What averaging took from a source in the middle of an edge of the image; `apparent` is
        corrected for it.
    remarks : tuple of str
        What differs from what was asked, and why.
    """

    apparent: np.ndarray
    residual: np.ndarray
    model: np.ndarray
    psf: np.ndarray
    primary_beam: np.ndarray
    cell_rad: float
    frequency_hz: float
    rms_jy: float
    beam: RestoringBeam
    n_iterations: int
    n_major: int
    n_samples: int
    n_components: int
    n_subtracted: int
    averaging_loss: float
    remarks: tuple[str, ...] = ()


def image_tile(vis: Visibilities, model: SkyModel | None, options: TileImageOptions) -> TileImage:
    """Image one tile.

    Parameters
    ----------
    vis : Visibilities
        Calibrated, in Jy.
    model : SkyModel or None
        Sources in the beam. The bright ones are fitted in the visibilities, subtracted, and
        restored with the flux density that was found. Of the others, those outside the image
        are subtracted. The model's own flux densities are never added back, so an image shows
        what the data hold.
    options : TileImageOptions

    Raises
    ------
    ImagingError
        If nothing can be imaged.
    """
    keep = np.hypot(*vis.uvw_m[:, :2].T) * vis.frequencies_hz.mean() / SPEED_OF_LIGHT_M_S
    flags = vis.flags | (keep < options.uv_min_lambda)[:, None, None]
    if flags.all():
        raise ImagingError("every visibility is flagged: nothing to image")
    geometry = _geometry(vis, flags, options)
    size, cell_rad = geometry.size, geometry.cell_rad
    unseen = _Unseen()
    if model is not None and len(model):
        unseen = _unseen_by_clean(vis, geometry, model, fit=options.niter > 0)
    samples, weights, smearing = _averaged(vis, flags, geometry, options, unseen.predicted)
    if unseen.sources is not None:
        values = samples.values - components.source_values(samples, unseen.sources)
        samples = replace(samples, values=values)
    result = clean.clean(
        samples, weights, size, cell_rad, niter=options.niter,
        auto_mask_sigma=options.auto_mask_sigma,
        auto_threshold_sigma=options.auto_threshold_sigma, major_gain=options.major_gain,
        max_major=options.max_major, threads=options.threads,
        multiscale=options.deconvolver == "multiscale",
    )  # fmt: skip
    table, centres = _weights_by_time_and_frequency(samples, weights, vis)
    beam_response = primary_beam.effective_beam(
        vis.pointings, centres, table, float(np.median(vis.array.dish_diameters_m)),
        vis.phase_centre_rad, size, cell_rad,
    )  # fmt: skip
    apparent = restore(result.model, result.residual, result.beam, cell_rad)
    apparent /= _kept(smearing, size, cell_rad)
    components.add_components(
        apparent, unseen.restored_lmn, unseen.restored_jy, result.beam, cell_rad
    )
    return TileImage(
        apparent=apparent,
        residual=result.residual,
        model=result.model,
        psf=result.psf,
        primary_beam=beam_response,
        cell_rad=cell_rad,
        frequency_hz=float(np.average(samples.frequency_hz, weights=weights)),
        rms_jy=robust_rms(result.residual),
        beam=result.beam,
        n_iterations=result.n_iterations,
        n_major=result.n_major,
        n_samples=int(np.count_nonzero(weights)),
        n_components=unseen.restored_jy.size,
        n_subtracted=unseen.n_outside,
        averaging_loss=averaging.edge_loss(smearing, 0.5 * size * cell_rad),
        remarks=geometry.remarks,
    )


def _samples(
    vis: Visibilities, flags: np.ndarray, size: int, cell_rad: float, loss: float,
    importance: np.ndarray | None = None, subtract: np.ndarray | None = None,
) -> averaging.Samples:  # fmt: skip
    return averaging.stokes_i_samples(
        vis.data, flags, vis.weights, vis.uvw_m, vis.antenna1, vis.antenna2, vis.time_index,
        vis.frequencies_hz, 0.5 * size * cell_rad, loss, importance, subtract,
    )  # fmt: skip


def _averaged(
    vis: Visibilities, flags: np.ndarray, geometry: "_Geometry", options: TileImageOptions,
    subtract: np.ndarray | None,
) -> tuple[averaging.Samples, np.ndarray, np.ndarray]:  # fmt: skip
    """Samples, their imaging weights, and their smearing, which takes at most what may be."""
    allowed = _CORRECTED * options.averaging_loss
    target = allowed
    while True:
        samples = _samples(
            vis,
            flags,
            geometry.size,
            geometry.cell_rad,
            target,
            geometry.baseline_weights,
            subtract,
        )
        weights = weighting.imaging_weights(
            samples.uvw_lambda, samples.weights, geometry.size, geometry.cell_rad,
            options.scheme, options.robust, geometry.taper_rad,
        )  # fmt: skip
        smearing = samples.mean_smearing(weights)
        loss = averaging.edge_loss(smearing, 0.5 * geometry.size * geometry.cell_rad)
        if loss <= allowed:
            return samples, weights, smearing
        target *= 0.98 * allowed / loss


def _kept(smearing: np.ndarray, size: int, cell_rad: float) -> np.ndarray:
    """What averaging leaves of a source in each pixel."""
    axis = (np.arange(size) - size // 2) * cell_rad
    l, m = -axis[None, :], axis[:, None]
    lost = smearing[0] * l * l + 2 * smearing[1] * l * m + smearing[2] * m * m
    return np.asarray((1 - lost).astype(np.float32))


def _even(pixels: float) -> int:
    return 2 * int(np.ceil(pixels / 2 - 1e-9))


@dataclass(frozen=True)
class _Geometry:
    """Pixels, taper, and how the imaging weights lie.

    `rough` are generously averaged samples; `baseline_weights` are their imaging weights by
    baseline, the table those of each integration and frequency bin.
    """

    size: int
    cell_rad: float
    taper_rad: float
    rough: averaging.Samples
    baseline_weights: np.ndarray
    time_frequency_weights: np.ndarray
    bin_centres_hz: np.ndarray
    remarks: tuple[str, ...]


def _geometry(vis: Visibilities, flags: np.ndarray, options: TileImageOptions) -> _Geometry:
    """Pixels and resolution of the image: never fewer than four cells across the beam.

    Without a cell of the user's, the image covers the half-power beam of the dish at least; where
    the array resolves more than so many pixels hold, a taper widens the restoring beam
    to four cells. A user's cell that is too coarse is made finer and the image larger.
    """
    dish_m = float(np.median(vis.array.dish_diameters_m))
    field_rad = HALF_POWER_WIDTH * SPEED_OF_LIGHT_M_S / vis.frequencies_hz.mean() / dish_m
    coarsest = options.cell_rad or _CELL_STEP_RAD * np.ceil(
        field_rad / options.size / _CELL_STEP_RAD
    )
    rough = _samples(vis, flags, options.size, coarsest, _ROUGH_LOSS)
    field = options.size * coarsest

    def minor_axis(cell: float, taper: float) -> float:
        weights = weighting.imaging_weights(
            rough.uvw_lambda, rough.weights, _even(field / cell), cell, options.scheme,
            options.robust, taper,
        )  # fmt: skip
        return clean.fitted_beam(rough, weights, cell, options.threads).minor_rad

    def settled(size: int, cell: float, taper: float, *remarks: str) -> _Geometry:
        weights = weighting.imaging_weights(
            rough.uvw_lambda, rough.weights, size, cell, options.scheme, options.robust, taper
        )
        table, centres = _weights_by_time_and_frequency(rough, weights, vis)
        per_baseline = rough.baseline_weights(weights)
        return _Geometry(
            size, float(cell), float(taper), rough, per_baseline, table, centres, remarks
        )

    longest = np.hypot(*rough.uvw_lambda[:, :2].T).max()
    minor = minor_axis(0.5 / longest, 0.0)
    # The beam depends on the weights, they on the field; the field is settled by now.
    cell = _CELL_STEP_RAD * np.floor(minor / CELLS_PER_BEAM / _CELL_STEP_RAD)
    if options.cell_rad is not None and options.cell_rad > cell > 0:
        size = _even(field / cell)
        return settled(
            size, cell, 0.0,
            f"cell reduced from {options.cell_rad / astrometry.ARCSEC_RAD:g} to "
            f"{cell / astrometry.ARCSEC_RAD:g} arcsec for four cells across the beam, "
            f"size raised to {size} to keep the field",
        )  # fmt: skip
    if options.cell_rad is not None:
        return settled(options.size, options.cell_rad, 0.0)
    if cell >= coarsest:
        return settled(options.size, cell, 0.0)
    wanted = CELLS_PER_BEAM * coarsest

    def shortfall(taper: float) -> float:
        return minor_axis(coarsest, taper) - wanted

    # The grid drops baselines beyond its edge, which may widen the beam enough by itself.
    taper = 0.0
    if shortfall(0.0) < 0:
        taper = optimize.brentq(shortfall, 0.0, 2 * wanted, xtol=_CELL_STEP_RAD, maxiter=20,
                                disp=False)  # fmt: skip
    return settled(
        options.size, coarsest, taper,
        f"tapered from {minor / astrometry.ARCSEC_RAD:.1f} to "
        f"{wanted / astrometry.ARCSEC_RAD:.1f} arcsec (minor axis) so that {options.size} pixels "
        "cover the half-power beam; give --size and --cell for full resolution",
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Unseen:
    """What CLEAN of one tile and one band cannot hold.

    Attributes
    ----------
    predicted : ndarray of complex64, shape (nrow, nchan), or None
        To be taken off the data.
    sources : Sources or None
        To be taken off the averaged samples.
    restored_lmn, restored_jy : ndarray
        Direction cosines and apparent flux densities of those that belong into the image.
    n_outside : int
        Sources outside the image.
    """

    predicted: np.ndarray | None = None
    sources: components.Sources | None = None
    restored_lmn: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    restored_jy: np.ndarray = field(default_factory=lambda: np.zeros(0))
    n_outside: int = 0


def _unseen_by_clean(
    vis: Visibilities, geometry: _Geometry, model: SkyModel, *, fit: bool
) -> _Unseen:
    """Bright sources, with flux densities fitted to the data, and others outside the image.

    An image that stays dirty keeps the bright ones that are in it. What drift and spectrum change
    about the mean of fainter sources inside is lost in the noise.
    """
    lmn = astrometry.direction_cosines(model.directions, *vis.phase_centre_rad)
    radius = 0.5 * geometry.size * geometry.cell_rad
    inside = (np.abs(lmn[:, :2]) < radius - _EDGE_PIXELS * geometry.cell_rad).all(axis=1)
    inside &= lmn[:, 2] > 0
    dish_m = float(np.median(vis.array.dish_diameters_m))
    table = geometry.time_frequency_weights
    binned = model.apparent_jy(vis.pointings, geometry.bin_centres_hz, dish_m)
    mean = np.einsum("tf,tsf->s", table, binned) / table.sum()

    noise_jy = 1 / np.sqrt(np.sum(geometry.rough.weights, dtype=float))
    order = np.argsort(-mean)[: _MOST_COMPONENTS if fit else 0]
    bright = order[(mean[order] > _COMPONENT_SIGMA * noise_jy) & (lmn[order, 2] > 0)]
    beside = np.flatnonzero(~inside & (mean > _SEEN_SIGMA * noise_jy))
    taken = np.concatenate([bright, np.setdiff1d(beside, bright)])
    if taken.size == 0:
        return _Unseen()
    edges = components.frequency_bins(vis.frequencies_hz)
    some = model.select(taken)
    flux = some.apparent_jy(vis.pointings, 0.5 * (edges[1:] + edges[:-1]), dish_m)
    sources = components.Sources(
        lmn[taken], np.ascontiguousarray(flux.transpose(0, 2, 1), np.float32), edges
    )
    factors = np.ones(taken.size)
    if bright.size:
        factors[: bright.size] = components.fit_components(
            geometry.rough, sources.select(np.arange(bright.size))
        )
    sources = sources.scaled(factors)
    exact = mean[taken] > _EXACT_SIGMA * noise_jy
    predicted = None
    if exact.any():
        apparent = some.select(exact).apparent_jy(vis.pointings, vis.frequencies_hz, dish_m)
        apparent *= factors[exact, None]
        predicted = predict.predict_apparent(vis, some.directions[exact], apparent)
    restored = inside[taken]
    return _Unseen(
        predicted, sources.select(np.flatnonzero(~exact)), lmn[taken[restored]],
        (mean[taken] * factors)[restored], beside.size,
    )  # fmt: skip


def _weights_by_time_and_frequency(
    samples: averaging.Samples, weights: np.ndarray, vis: Visibilities, nbins: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Imaging weight per integration and frequency bin, and the bins' mean frequencies."""
    frequencies = vis.frequencies_hz
    edges = np.linspace(frequencies.min() - 1, frequencies.max() + 1, nbins + 1)
    which = np.clip(np.searchsorted(edges, samples.frequency_hz) - 1, 0, nbins - 1)
    ntime = vis.times_jd.size
    low = np.clip(np.floor(samples.time).astype(int), 0, ntime - 1)
    high = np.minimum(low + 1, ntime - 1)
    part = samples.time - low
    table = np.zeros((ntime, nbins))
    np.add.at(table, (low, which), weights * (1 - part))
    np.add.at(table, (high, which), weights * part)
    sums = np.bincount(which, weights, nbins)
    means = np.bincount(which, weights * samples.frequency_hz.astype(float), nbins)
    used = sums > 0
    return table[:, used], means[used] / sums[used]
