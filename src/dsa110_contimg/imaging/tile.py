"""Make the image of one tile: subtract what CLEAN cannot model, weight, CLEAN, correct."""

from dataclasses import dataclass, field, replace

import numpy as np

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.directional import peel
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging import clean, components, weighting
from dsa110_contimg.imaging.expected_noise import expected_rms_jy
from dsa110_contimg.imaging.geometry import (
    ROUGH_LOSS,
    Geometry,
    choose_geometry,
    samples_of,
    weights_by_time_and_frequency,
)
from dsa110_contimg.imaging.options import TileImageOptions
from dsa110_contimg.imaging.parameters import TileImage
from dsa110_contimg.imaging.restore import restore
from dsa110_contimg.imaging.source_shapes import fit_shapes
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky import astrometry, primary_beam
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.shapes import POINTS, Shapes
from dsa110_contimg.visibilities import averaging
from dsa110_contimg.visibilities.data import Visibilities

_EDGE_PIXELS = 2
"""Sources nearer to the edge count as outside: an image needs pixels around a source."""
_MOST_COMPONENTS = 48
_COMPONENT_SIGMA = 30.0
"""Sources this far above the thermal noise are fitted in the visibilities, the brightest first."""
_SHAPE_SIGMA = 100.0
"""Brighter ones get the shape that the data show, where they are resolved."""
_EXACT_SIGMA = 1000.0
"""Brighter ones are taken off the data before averaging, others off the averaged samples."""
_UNLIKE_NOISE = 0.03
"""What one source may add to the noise, in units of it, by what antennas' beams differ by."""
_PEELED_SIGMA = 5000.0
"""Brighter ones leave more than the noise behind unless each antenna has a gain towards them."""
_SEEN_SIGMA = 3.0
"""Fainter sources outside the image leave no sidelobes in it that the noise would not hide."""
_CORRECTED = 10.0
"""Averaging may take so many times the allowed loss, because an image is corrected for it: the
mean over all samples is known to a few per cent of itself."""
_UNMODELLED = 0.25
"""But only so much of it without a model, where CLEAN takes off every source: it knows one psf for
all, and what smearing changes about it stays behind as sidelobes (150 sources of 100 sigma raised
the rms by a tenth with the factor above, by a hundredth with this one)."""


def image_tile(
    vis: Visibilities,
    model: SkyModel | None,
    options: TileImageOptions,
    like: TileImage | None = None,
) -> TileImage:
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
    like : TileImage, optional
        An image whose pixels, taper and weights this one shall have.

    Raises
    ------
    ImagingError
        If nothing can be imaged.
    """
    length = np.hypot(*vis.uvw_m[:, :2].T) * vis.frequencies_hz.mean() / SPEED_OF_LIGHT_M_S
    outside = (length < options.uv_min_lambda) | (length > (options.uv_max_lambda or np.inf))
    flags = vis.flags | outside[:, None, None]
    if flags.all():
        raise ImagingError("every visibility is flagged: nothing to image")
    geometry = choose_geometry(vis, flags, options, like)
    size, cell_rad = geometry.size, geometry.cell_rad
    unseen = _Unseen()
    if model is not None and len(model):
        unseen = _unseen_by_clean(vis, flags, geometry, model, fit=options.niter > 0)
    factor = _CORRECTED if model is not None and len(model) else _UNMODELLED
    samples, weights, smearing = _averaged(
        vis, flags, geometry, options, unseen.predicted, factor * options.averaging_loss
    )
    if unseen.sources is not None:
        values = samples.values - components.source_values(samples, unseen.sources)
        samples = replace(samples, values=values)
    result = clean.clean(samples, weights, size, cell_rad, options)
    table, centres = weights_by_time_and_frequency(samples, weights, vis)
    beam_response = primary_beam.effective_beam(
        vis.beam_axis, centres, table, vis.dish_m, vis.phase_centre_rad, size, cell_rad
    )
    # One beam for images that are to be compared pixel by pixel.
    beam = result.beam if like is None else like.beam
    apparent = restore(result.model, result.residual, beam, cell_rad)
    apparent /= _kept(smearing, size, cell_rad)
    components.add_components(
        apparent, unseen.restored_lmn, unseen.restored_jy, unseen.restored_shapes, beam, cell_rad
    )
    return TileImage(
        apparent=apparent,
        residual=result.residual,
        model=result.model,
        psf=result.psf,
        primary_beam=beam_response,
        cell_rad=cell_rad,
        taper_rad=geometry.taper_rad,
        robust=geometry.robust,
        frequency_hz=float(np.average(samples.frequency_hz, weights=weights)),
        rms_jy=robust_rms(result.residual),
        thermal_jy=result.thermal_jy,
        expected_rms_jy=expected_rms_jy(vis, flags, samples.weights, weights, options.sefd_jy),
        beam=beam,
        n_iterations=result.n_iterations,
        n_major=result.n_major,
        n_samples=int(np.count_nonzero(weights)),
        n_components=unseen.restored_jy.size,
        n_subtracted=unseen.n_outside,
        averaging_loss=averaging.edge_loss(smearing, 0.5 * size * cell_rad),
        remarks=geometry.remarks,
        fitted=unseen.model,
    )


def stokes_q(vis: Visibilities) -> Visibilities:
    """The same data with Q = (XX - YY) / 2 where total intensity is (XX + YY) / 2."""
    data, flags = vis.data.copy(), vis.flags.copy()
    data[:, :, -1] *= -1
    # Of one hand alone there is no difference.
    flags |= (flags[:, :, 0] | flags[:, :, -1])[:, :, None]
    return replace(vis, data=data, flags=flags)


def _averaged(
    vis: Visibilities,
    flags: np.ndarray,
    geometry: Geometry,
    options: TileImageOptions,
    subtract: np.ndarray | None,
    allowed: float,
) -> tuple[averaging.Samples, np.ndarray, np.ndarray]:
    """Samples, their imaging weights, and their smearing, which takes at most what is allowed."""
    target = allowed
    while True:
        samples = samples_of(
            vis,
            flags,
            geometry.size,
            geometry.cell_rad,
            target,
            geometry.baseline_weights,
            subtract,
        )
        weights = weighting.imaging_weights(
            samples.uvw_lambda,
            samples.weights,
            geometry.size,
            geometry.cell_rad,
            options.weighting,
            geometry.robust,
            geometry.taper_rad,
        )
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
    restored_shapes : Shapes
    n_outside : int
        Sources outside the image.
    model : SkyModel or None
        All of them, with fitted flux densities.
    """

    predicted: np.ndarray | None = None
    sources: components.Sources | None = None
    restored_lmn: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    restored_jy: np.ndarray = field(default_factory=lambda: np.zeros(0))
    restored_shapes: Shapes = POINTS
    n_outside: int = 0
    model: SkyModel | None = None


def _unseen_by_clean(
    vis: Visibilities, flags: np.ndarray, geometry: Geometry, model: SkyModel, *, fit: bool
) -> _Unseen:
    """Bright sources, with flux densities fitted to the data, and others outside the image.

    An image that stays dirty keeps the bright ones that are in it. What drift and spectrum change
    about the mean of fainter sources inside is lost in the noise.
    """
    lmn = astrometry.direction_cosines(model.directions, *vis.phase_centre_rad)
    radius = 0.5 * geometry.size * geometry.cell_rad
    inside = (np.abs(lmn[:, :2]) < radius - _EDGE_PIXELS * geometry.cell_rad).all(axis=1)
    inside &= lmn[:, 2] > 0
    table = geometry.time_frequency_weights
    binned = model.apparent_jy(vis.beam_axis, geometry.bin_centres_hz, vis.dish_m)
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
    flux = some.apparent_jy(vis.beam_axis, 0.5 * (edges[1:] + edges[:-1]), vis.dish_m)
    shapes = some.shapes.each(taken.size)
    sources = components.Sources(
        lmn[taken], np.ascontiguousarray(flux.transpose(0, 2, 1), np.float32), edges, shapes
    )
    factors = np.ones(taken.size)
    fitted = np.arange(bright.size)
    if fitted.size:
        factors[fitted] = components.fit_components(geometry.rough, sources.select(fitted))
        clear = fitted[(mean[taken] * factors)[fitted] > _SHAPE_SIGMA * noise_jy]
        shapes = fit_shapes(geometry.rough, sources.scaled(factors), clear)
        if not np.array_equal(shapes.major_rad, sources.shapes.major_rad):
            sources, some = replace(sources, shapes=shapes), replace(some, shapes=shapes)
            factors[fitted] = components.fit_components(geometry.rough, sources.select(fitted))
    predicted = None
    strongest = np.flatnonzero(fit & (mean[taken] * factors > _PEELED_SIGMA * noise_jy))
    if strongest.size:
        predicted, factors = _peeled(
            vis, flags, geometry, some, sources, factors, strongest, fitted
        )
    exact = np.flatnonzero(mean[taken] > _exact_sigma(vis, some) * noise_jy)
    exact = np.setdiff1d(exact, strongest)
    if exact.size:
        more = predict.predict(vis, _scaled(some, factors).select(exact))
        predicted = more if predicted is None else np.add(predicted, more, out=predicted)
    averaged = np.setdiff1d(np.arange(taken.size), np.union1d(exact, strongest))
    restored = inside[taken]
    return _Unseen(
        predicted,
        sources.scaled(factors).select(averaged),
        lmn[taken[restored]],
        (mean[taken] * factors)[restored],
        sources.shapes.select(restored),
        beside.size,
        _scaled(some, factors),
    )


def _exact_sigma(vis: Visibilities, model: SkyModel) -> np.ndarray:
    """How far above the thermal noise each source has to be taken off the data, shape (nsource,).

    Averaged samples hold one beam for all antennas. What the antennas of ``n`` baselines differ by,
    as a fraction ``e`` of a source, adds ``e sqrt(2 / n)`` of it to the noise of the image.
    """
    gains = predict.antenna_gains(vis, model)
    if gains is None:
        return np.full(len(model), _EXACT_SIGMA)
    here = vis.antennas_present()
    unlike = np.sqrt(np.mean(np.log(gains[:, :, here]) ** 2, axis=(0, 2)))
    n_baselines = here.size * (here.size - 1) / 2
    added = np.maximum(unlike * np.sqrt(2 / n_baselines), _UNLIKE_NOISE / _EXACT_SIGMA)
    return np.asarray(_UNLIKE_NOISE / added)


def _scaled(model: SkyModel, factors: np.ndarray) -> SkyModel:
    return replace(model, flux_jy=model.flux_jy * factors)


def _peeled(
    vis: Visibilities,
    flags: np.ndarray,
    geometry: Geometry,
    model: SkyModel,
    sources: components.Sources,
    factors: np.ndarray,
    strongest: np.ndarray,
    fitted: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Take the strongest sources off the data, and fit the others to what is left.

    Parameters
    ----------
    model, sources : SkyModel and Sources
        The same sources, those that are fitted first.
    factors : ndarray, shape (nsource,)
        Flux densities over those of the model, as averaged samples give them.
    strongest, fitted : ndarray of int
        Those that get gains of their own; those that are fitted.

    Returns
    -------
    ndarray of complex64, shape (nrow, nchan)
        Visibilities of the strongest.
    ndarray, shape (nsource,)
        Flux densities over those of the model.
    """
    factors = factors.copy()
    scaled = _scaled(model, factors)
    predicted = predict.predict(vis, scaled)
    few = scaled.select(strongest)
    apparent = few.apparent_jy(vis.beam_axis, vis.frequencies_hz, vis.dish_m)
    factors[strongest] *= peel(vis, flags, few, apparent, predicted)
    others = np.setdiff1d(np.arange(len(model)), strongest)
    if others.size:
        predicted -= predict.predict(vis, scaled.select(others))
    again = np.setdiff1d(fitted, strongest)
    if again.size:
        # What averaging does to the strongest sources is no longer in the way.
        rough = samples_of(
            vis, flags, geometry.size, geometry.cell_rad, ROUGH_LOSS, None, predicted
        )
        factors[again] = components.fit_components(rough, sources.select(again))
    return predicted, factors
