"""The model's leading sources as the data have them, and the flux scale they agree on.

A catalogue tells what a source was years ago, and least squares let the strongest one alone set
the scale of all gains: if it has changed, every flux density is wrong with it. Here the leading
sources are measured one by one, on a small part of the data that is calibrated with the model so
far; the scale is the weighted median of measured over catalogue; and the model is given what was
measured on that scale. Some rounds of this and the gains follow the majority, whatever became of a
few.
"""

import operator
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import numpy as np
from scipy import optimize

from dsa110_contimg.calibration import predict, source_factors
from dsa110_contimg.calibration.antenna_beams import measure_antenna_beams
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.bandpass import solve_channels
from dsa110_contimg.calibration.beam import DriftingSources, measure_beam, with_known
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.calibration.channels import some_channels
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.source_factors import Equations
from dsa110_contimg.calibration.source_scale import FluxScale
from dsa110_contimg.calibration.within_tile import Changes, measure_changes
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.robust import MEDIAN_OVER_MEAN, NORMAL_QUARTILE, weighted_median
from dsa110_contimg.sky import astrometry, flux_scale
from dsa110_contimg.sky.beam_shape import AntennaBeams
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.visibilities.data import Visibilities

_CHANNELS = 16
"""For the changes within a tile; and channels per block of a measurement on more of them."""


class _Budget(NamedTuple):
    """Number of samples (rows times channels), and limits of the number of channels."""

    samples: int
    min_channels: int
    max_channels: int


_ROUGH = _Budget(350_000, 8, 16)
_FINE = _Budget(2_200_000, 48, 192)
"""With 350 000 samples, the noise of the beam tilted the flux densities of a strip by 4 %."""
_ANTENNAS = _Budget(2_200_000, 48, 96)
"""For the beams of single antennas."""
_SOURCES, _ANTENNA_SOURCES = 24, 64
_ROUNDS = 4
_BEAM_ROUNDS = 2
"""Of flux densities and beam in turn."""
_DRIFT_PARTS = 4
"""Of a tile, in which sources are measured while they drift through the beam."""
_CATALOGUE_ERROR, _PRIMARY_ERROR = 0.05, 0.01
"""How well a catalogue tells what a source is now, and Perley and Butler a primary calibrator."""
_MIN_CATALOGUE_ERROR = 0.003
"""Minimum scatter of sources about a catalogue: the beam is known no better."""
_MIN_SOURCES = 10
"""Minimum number of sources whose scatter about the catalogue is estimated."""
_UNLIKE_SIGMA = 3.0
_SIDELOBE = 0.02
"""Response below which a source is in the sidelobes: the first is 0.0175 of an Airy pattern."""
_DISTANT = 8
"""Most sources in the sidelobes that are measured."""
_SEEN_SIGMA = 5.0
_SAME_RAD = ARCSEC_RAD


def measure(
    vis: Visibilities,
    model: SkyModel,
    rfi: np.ndarray,
    limits: SolveOptions,
    known_beam: BeamMeasurement | None = None,
) -> tuple[SkyModel, FluxScale, BeamMeasurement]:
    """Measure the leading sources of a model, and the beam that they are seen through.

    Parameters
    ----------
    vis : Visibilities
        Raw.
    model : SkyModel
        By the catalogue; at least one source.
    rfi : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    limits : SolveOptions
    known_beam : BeamMeasurement, optional
        From other observations.

    Returns
    -------
    SkyModel
        The same sources; the leading ones with what was measured, on the scale of all.
    FluxScale
    BeamMeasurement
    """
    some, channels = _thinned(vis, rfi, _choose(vis, _ROUGH))
    beam = known_beam or BeamMeasurement(vis.beam)
    some = replace(some, beam=beam.shape)
    found = None
    by_catalogue = model, FluxScale(0, float(_errors(model).min())), beam
    if len(model) < 2 or some.frequencies_hz.size == 0:
        return by_catalogue
    brightest_first = np.argsort(-predict.mean_apparent_jy(some, model), kind="stable")
    leading = brightest_first[:_SOURCES]
    for _ in range(_BEAM_ROUNDS):
        found = _measure_leading(some, channels, model, leading, limits)
        if found is None:
            return by_catalogue
        beam = with_known(_measure_beam(some, model.select(leading), found), known_beam)
        some = replace(some, beam=beam.shape)
    vis = replace(vis, beam=beam.shape)
    found = found and _measure_finely(vis, rfi, model, leading, limits, found.factors)
    if found is None:
        return by_catalogue
    own = _measure_beam(vis, model.select(leading), found)
    hands = _beams_of_hands(vis, model.select(leading), found)
    beam = replace(with_known(own, known_beam), hands=hands)
    vis = replace(vis, beam=beam.shape)
    antennas = _antenna_beams(vis, _with_factors(model, leading, found), rfi, limits)
    if antennas is not None:
        beam = replace(beam, shape=replace(beam.shape, antennas=antennas))
        vis = replace(vis, beam=beam.shape)
    found = _measure_finely(vis, rfi, model, leading, limits, found.factors)
    if found is None:
        return by_catalogue
    measured = _with_factors(model, leading, found)
    ra, dec = np.rad2deg(astrometry.vector_to_radec(model.directions[leading]))
    unlike = tuple(
        (float(ra[k]) % 360, float(dec[k]), float(found.factors[k]))
        for k in np.flatnonzero(found.unlike)
    )
    scale = FluxScale(int(leading.size), found.error, unlike)
    return measured, scale, beam


def _with_factors(model: SkyModel, leading: np.ndarray, found: "_Leading") -> SkyModel:
    flux = model.flux_jy.copy()
    flux[leading] *= found.factors[: leading.size]
    return replace(model, flux_jy=flux)


def _antenna_beams(
    vis: Visibilities, model: SkyModel, rfi: np.ndarray, limits: SolveOptions
) -> AntennaBeams | None:
    """Measure what antennas' beams differ by, in data that are not calibrated yet."""
    some, channels = _thinned(vis, rfi, _choose(vis, _ANTENNAS))
    strongest = np.argsort(-predict.mean_apparent_jy(some, model), kind="stable")
    sky = predict.predict(some, model)
    gains = solve_channels(some, sky, channels, limits.model_copy(update={"min_snr": 0.0}))
    calibrated = apply_gains(some, gains, also_flagged=channels)
    return measure_antenna_beams(calibrated, sky, model.select(strongest[:_ANTENNA_SOURCES]))


def apart(vis: Visibilities, model: SkyModel) -> tuple[SkyModel, SkyModel]:
    """Sources in the main lobe of the beam, and those that only its sidelobes see.

    What sidelobes are is not known beforehand: sources there take part when they were measured.
    """
    middle_hz = np.array([vis.frequencies_hz.mean()])
    apparent = model.apparent_jy(vis.beam_axis, middle_hz, vis.dish_m).max(axis=(0, 2))
    in_lobe = apparent > _SIDELOBE * model.spectra_jy(middle_hz)[:, 0]
    return model.select(in_lobe), model.select(~in_lobe)


def measure_distant(
    vis: Visibilities,
    near: SkyModel,
    distant: SkyModel,
    rfi: np.ndarray,
    gains: Gains | None = None,
) -> SkyModel:
    """Measure sources far outside the beam; those that are not there are left out.

    Parameters
    ----------
    vis : Visibilities
        Calibrated, phases to some degrees; or with gains that are still to be divided out.
    near, distant : SkyModel
        As of `apart`.
    rfi : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    gains : Gains, optional
        Shape (1, nantenna, nchan, npol).
    """
    strongest = np.argsort(-predict.mean_apparent_jy(vis, distant), kind="stable")[:_DISTANT]
    distant = distant.select(strongest)
    if len(distant) == 0:
        return distant
    chosen = some_channels(vis, _CHANNELS)
    some, channels = _thinned(vis, rfi, chosen)
    if gains is None:
        calibrated = replace(some, flags=some.flags | channels[:, :, None])
    else:
        calibrated = apply_gains(some, gains.channels(chosen), also_flagged=channels)
    sky = predict.predict(some, near)
    parts = [predict.predict(some, distant.select(np.array([k]))) for k in range(len(distant))]
    measured, noise = source_factors.set_up(calibrated, np.stack([sky, *parts]), sky).solve()
    factors, noise = measured[1:], noise[1:]
    seen = factors > _SEEN_SIGMA * noise
    return replace(distant, flux_jy=distant.flux_jy * factors).select(seen)


def changes(vis: Visibilities, model: SkyModel, rfi: np.ndarray, limits: SolveOptions) -> Changes:
    """What changes during a tile that is not calibrated yet; parameters as of `measure`."""
    some, channels = _thinned(vis, rfi, some_channels(vis, _CHANNELS))
    if some.frequencies_hz.size == 0:
        return Changes()
    sky = predict.predict(some, model)
    gains = solve_channels(some, sky, channels, limits.model_copy(update={"min_snr": 0.0}))
    share = some.frequencies_hz.size / vis.frequencies_hz.size
    return measure_changes(some, sky, gains, channels, share)


@dataclass(frozen=True, eq=False)
class _Leading:
    """Leading sources, measured.

    Attributes
    ----------
    factors : ndarray, shape (npart,)
        Flux densities on the common scale, over those of the model, of every part of it.
    unlike : ndarray of bool, shape (nsource,)
    known : ndarray, shape (nsource,)
        How well the catalogue knows each source, as a fraction.
    error : float
        Standard error of the common scale, as a fraction.
    equations : Equations
        Of each leading source, and of all others together.
    frequencies_hz : ndarray
        Of the channels that were used.
    """

    factors: np.ndarray
    unlike: np.ndarray
    known: np.ndarray
    error: float
    equations: Equations
    frequencies_hz: np.ndarray


def _measure_leading(
    some: Visibilities,
    channels: np.ndarray,
    model: SkyModel,
    leading: np.ndarray,
    limits: SolveOptions,
) -> _Leading | None:
    """Solve gains and flux densities in turn; None where no scale can be found."""
    parts = _predict_parts(some, model, leading)
    listed = known = _errors(model.select(leading))
    factors = np.ones(len(parts))
    found = None
    for _ in range(_ROUNDS):
        equations = _set_up(some, channels, parts, factors, limits)
        found = _agree(equations, some.frequencies_hz, listed, known)
        if found is None:
            return None
        factors, known = found.factors, found.known
    return found


def _measure_finely(
    vis: Visibilities,
    rfi: np.ndarray,
    model: SkyModel,
    leading: np.ndarray,
    limits: SolveOptions,
    factors: np.ndarray,
) -> _Leading | None:
    """Measure once more, on many channels, some of them at a time."""
    chosen = _choose(vis, _FINE)
    equations = []
    for block in np.array_split(chosen, -(-chosen.size // _CHANNELS)):
        some, channels = _thinned(vis, rfi, block)
        parts = _predict_parts(some, model, leading)
        equations.append(_set_up(some, channels, parts, factors, limits, by_hand=True))
    total = reduce(operator.add, equations)
    listed = _errors(model.select(leading))
    found = _agree(total, vis.frequencies_hz[chosen], listed, listed)
    return found and _agree(total, found.frequencies_hz, listed, found.known)


def _predict_parts(some: Visibilities, model: SkyModel, leading: np.ndarray) -> np.ndarray:
    """Visibilities of each leading source, and of all others together."""
    others = np.setdiff1d(np.arange(len(model)), leading)
    single = [np.array([k]) for k in leading]
    sources = [*single, others] if others.size else single
    parts = np.empty((len(sources), *some.data.shape[:2]), np.complex64)
    for part, these in zip(parts, sources, strict=True):
        part[:] = predict.predict(some, model.select(these))
    return parts


def _set_up(
    some: Visibilities,
    channels: np.ndarray,
    parts: np.ndarray,
    factors: np.ndarray,
    limits: SolveOptions,
    by_hand: bool = False,
) -> Equations:
    """Calibrate with the sum of the parts, and set up the equations of their factors."""
    sky = np.zeros_like(parts[0])
    for factor, part in zip(factors, parts, strict=True):
        sky += np.float32(factor) * part
    # Weak single channels count too: all of them together are measured.
    gains = solve_channels(some, sky, channels, limits.model_copy(update={"min_snr": 0.0}))
    calibrated = apply_gains(some, gains, also_flagged=channels)
    n_drift = min(_DRIFT_PARTS, some.times_jd.size)
    return source_factors.set_up(calibrated, parts, sky, n_drift, by_hand)


def _agree(
    equations: Equations, frequencies_hz: np.ndarray, listed: np.ndarray, known: np.ndarray
) -> _Leading | None:
    """Find the scale that the leading sources agree on; None if there is none.

    Parameters
    ----------
    equations : Equations
    frequencies_hz : ndarray
    listed, known : ndarray, shape (nsource,)
        How well a catalogue knows the leading sources, as fractions: commonly, and this one as far
        as the sources agree with it.
    """
    measured, noise = equations.solve()
    measured, noise = measured[: listed.size], noise[: listed.size]
    weight = np.where(np.isfinite(noise), 1 / (known**2 + noise**2), 0.0)
    if np.count_nonzero(weight) < 2:
        return None
    scale = weighted_median(measured, weight)
    if not (np.isfinite(scale) and scale > 0):
        return None
    off = measured / scale - 1
    unlike = (weight > 0) & (np.abs(off) > _UNLIKE_SIGMA * np.sqrt(listed**2 + noise**2))
    known = np.minimum(listed, catalogue_scatter(off[weight > 0], noise[weight > 0]))
    trust = np.where(unlike, 1.0, known**2 * weight)
    factors = np.ones(equations.right.shape[-1])
    factors[: listed.size] = 1 + off * trust
    error = float(MEDIAN_OVER_MEAN / np.sqrt(weight.sum()))
    return _Leading(factors, unlike, known, error, equations, frequencies_hz)


def catalogue_scatter(off: np.ndarray, noise: np.ndarray) -> float:
    """Scatter of sources about their catalogue, apart from the noise.

    With this scatter, the median of ``|off|`` in standard errors is that of a normal distribution,
    so a few sources that have changed do not count.

    Parameters
    ----------
    off, noise : ndarray, shape (nsource,)
        Measured over listed flux density, less one, and its standard error by the noise.

    Returns
    -------
    float
        Between 0.003 and 0.05; 0.05 if there are fewer than ten sources.
    """
    if off.size < _MIN_SOURCES:
        return _CATALOGUE_ERROR

    def excess(scatter: float) -> float:
        return float(np.median(np.abs(off) / np.hypot(scatter, noise))) - NORMAL_QUARTILE

    if excess(_CATALOGUE_ERROR) >= 0:
        return _CATALOGUE_ERROR
    if excess(_MIN_CATALOGUE_ERROR) <= 0:
        return _MIN_CATALOGUE_ERROR
    return float(optimize.brentq(excess, _MIN_CATALOGUE_ERROR, _CATALOGUE_ERROR, xtol=1e-6))


def _measure_beam(
    vis: Visibilities, leading: SkyModel, found: _Leading, hand: int | None = None
) -> BeamMeasurement:
    """Measure the beam, of all polarizations or of one, with the leading sources as they drift."""
    n_drift = len(found.equations.right)
    solved = [found.equations.solve(drift, hand) for drift in range(n_drift)]
    ratio, error = np.array(solved)[:, :, : len(leading)].swapaxes(0, 1)
    part = source_factors.drift_part(vis.times_jd.size, n_drift)
    sources = DriftingSources(leading, found.known, part, ratio, error, vis.beam)
    return measure_beam(sources, vis.pointings, found.frequencies_hz, vis.nominal_dish_m)


def _beams_of_hands(
    vis: Visibilities, leading: SkyModel, found: _Leading
) -> tuple[BeamMeasurement, ...]:
    """Measure the beam of each polarization; none where they cannot both be measured."""
    n_hands = len(vis.parallel_hands)
    if n_hands < 2:
        return ()
    beams = tuple(_measure_beam(vis, leading, found, hand) for hand in range(n_hands))
    return beams if all(beam.n_sources for beam in beams) else ()


def as_measured(model: SkyModel, scale: FluxScale | None) -> SkyModel:
    """Another tile's model with what the reference tile found unlike the catalogue."""
    if scale is None or not scale.unlike:
        return model
    flux = model.flux_jy.copy()
    for ra_deg, dec_deg, factor in scale.unlike:
        place = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
        flux[model.directions @ place > np.cos(_SAME_RAD)] *= factor
    return replace(model, flux_jy=flux)


def _choose(vis: Visibilities, budget: _Budget) -> np.ndarray:
    """Choose the channels of a measurement."""
    wanted = budget.samples // max(1, len(vis.data))
    return some_channels(vis, int(np.clip(wanted, budget.min_channels, budget.max_channels)))


def _thinned(
    vis: Visibilities, rfi: np.ndarray, chosen: np.ndarray
) -> tuple[Visibilities, np.ndarray]:
    """Select channels of the data and of their interference."""
    return vis.channels(chosen), rfi[:, chosen]


def _errors(model: SkyModel) -> np.ndarray:
    """How well the model's flux densities are known, as fractions."""
    primary = [flux_scale.at_position(direction) is not None for direction in model.directions]
    return np.where(primary, _PRIMARY_ERROR, _CATALOGUE_ERROR)
