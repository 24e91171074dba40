"""The model's leading sources as the data have them, and the flux scale they agree on.

A catalogue tells what a source was years ago, and least squares let the strongest one alone set
the scale of all gains: if it has changed, every flux density is wrong with it. Here the leading
sources are measured one by one, on a small part of the data that is calibrated with the model so
far; the scale is the weighted median of measured over catalogue; and the model is given what was
measured on that scale. Some rounds of this and the gains follow the majority, whatever became of a
few.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numba
import numpy as np
from scipy import optimize

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.antenna_beams import measure_antenna_beams
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.bandpass import solve_channels
from dsa110_contimg.calibration.beam import (
    BeamMeasurement,
    DriftingSources,
    measure_beam,
    with_known,
)
from dsa110_contimg.calibration.channels import SolveLimits, some_channels
from dsa110_contimg.calibration.solve import Gains
from dsa110_contimg.calibration.within_tile import Changes, measure_changes
from dsa110_contimg.robust import MEDIAN_OVER_MEAN, NORMAL_QUARTILE, weighted_median
from dsa110_contimg.sky import astrometry, flux_scale
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.primary_beam import AntennaBeams
from dsa110_contimg.visibilities.data import Visibilities

_CHANNELS = 16
_BEAM_CHANNELS = 48
"""For the last measurement of the beam: with 16 of 192 channels its noise tilted the flux densities
of a strip by 4 %."""
_SOURCES = 24
_ANTENNA_CHANNELS, _ANTENNA_SOURCES = 96, 64
"""For the beams of single antennas, which take all the signal there is."""
_ROUNDS = 4
_BEAM_ROUNDS = 2
"""Of flux densities and beam in turn."""
_DRIFT_PARTS = 4
"""Of a tile, in which sources are measured while they drift through the beam."""
_ROWS_AT_ONCE = 20_000
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
_SAME_RAD = astrometry.ARCSEC_RAD
_CLIP = 20.0
"""Times the variance of a real component: noise exceeds it once in twenty thousand samples."""


@dataclass(frozen=True)
class FluxScale:
    """What the flux scale rests on.

    Attributes
    ----------
    n_sources : int
        That were measured one by one.
    error : float
        Standard error of the scale, as a fraction.
    unlike : tuple of (float, float, float)
        Right ascension, declination (ICRS, deg), and measured over catalogue flux density of
        sources that differ by more than three times noise and catalogue error.
    """

    n_sources: int
    error: float
    unlike: tuple[tuple[float, float, float], ...] = ()


def measure(
    vis: Visibilities, model: SkyModel, rfi: np.ndarray, limits: SolveLimits,
    known_beam: BeamMeasurement | None = None,
) -> tuple[SkyModel, FluxScale, BeamMeasurement]:  # fmt: skip
    """Measure the leading sources of a model, and the beam that they are seen through.

    Parameters
    ----------
    vis : Visibilities
        Raw.
    model : SkyModel
        By the catalogue; at least one source.
    rfi : ndarray of bool, shape (nrow, nchan)
        Samples to leave out, besides those that are flagged.
    limits : SolveLimits
    known_beam : BeamMeasurement, optional
        From other observations.

    Returns
    -------
    SkyModel
        The same sources; the leading ones with what was measured, on the scale of all.
    FluxScale
    BeamMeasurement
    """
    some, channels = _thinned(vis, rfi)
    beam = known_beam or BeamMeasurement(vis.beam)
    some = replace(some, beam=beam.shape)
    by_catalogue = model, FluxScale(0, float(_errors(model).min())), beam
    if len(model) < 2 or some.frequencies_hz.size == 0:
        return by_catalogue
    brightest_first = np.argsort(-predict.mean_apparent_jy(some, model), kind="stable")
    leading = brightest_first[:_SOURCES]
    factors = None
    for _ in range(_BEAM_ROUNDS):
        found = _measure_leading(some, channels, model, leading, limits)
        if found is None:
            return by_catalogue
        factors = found.factors
        beam = with_known(_measure_beam(some, model.select(leading), found), known_beam)
        some = replace(some, beam=beam.shape)
    many, many_rfi = _thinned(replace(vis, beam=beam.shape), rfi, _BEAM_CHANNELS)
    found = _measure_leading(many, many_rfi, model, leading, limits, factors)
    if found is None:
        return by_catalogue
    beam = with_known(_measure_beam(many, model.select(leading), found), known_beam)
    beam = replace(beam, hands=_beams_of_hands(many, model.select(leading), found))
    some = replace(some, beam=beam.shape)
    found = _measure_leading(some, channels, model, leading, limits)
    if found is None:
        return by_catalogue
    measured = _with_factors(model, leading, found)
    antennas = _antenna_beams(replace(vis, beam=beam.shape), measured, rfi, limits)
    if antennas is not None:
        beam = replace(beam, shape=replace(beam.shape, antennas=antennas))
        some = replace(some, beam=beam.shape)
        found = _measure_leading(some, channels, model, leading, limits) or found
        measured = _with_factors(model, leading, found)
    ra, dec = np.rad2deg(astrometry.vector_to_radec(model.directions[leading]))
    told = tuple(
        (float(ra[k]) % 360, float(dec[k]), float(found.factors[k]))
        for k in np.flatnonzero(found.unlike)
    )
    scale = FluxScale(int(leading.size), found.error, told)
    return measured, scale, beam


def _with_factors(model: SkyModel, leading: np.ndarray, found: "_Leading") -> SkyModel:
    flux = model.flux_jy.copy()
    flux[leading] *= found.factors[: leading.size]
    return replace(model, flux_jy=flux)


def _antenna_beams(
    vis: Visibilities, model: SkyModel, rfi: np.ndarray, limits: SolveLimits
) -> AntennaBeams | None:
    """Measure what antennas' beams differ by, in data that are not calibrated yet."""
    chosen = some_channels(vis, _ANTENNA_CHANNELS)
    some, channels = vis.channels(chosen), rfi[:, chosen]
    strongest = np.argsort(-predict.mean_apparent_jy(some, model), kind="stable")
    sky = predict.predict(some, model)
    gains = solve_channels(some, sky, channels, replace(limits, min_snr=0.0))
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
    vis: Visibilities, near: SkyModel, distant: SkyModel, rfi: np.ndarray,
    gains: Gains | None = None,
) -> SkyModel:  # fmt: skip
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
    some, channels = vis.channels(chosen), rfi[:, chosen]
    if gains is None:
        calibrated = replace(some, flags=some.flags | channels[:, :, None])
    else:
        calibrated = apply_gains(some, gains.channels(chosen), also_flagged=channels)
    sky = predict.predict(some, near)
    parts = [predict.predict(some, distant.select(np.array([k]))) for k in range(len(distant))]
    measured, noise = _fit(calibrated, [sky, *parts], sky)
    factors, noise = measured[1:], noise[1:]
    seen = factors > _SEEN_SIGMA * noise
    return replace(distant, flux_jy=distant.flux_jy * factors).select(seen)


def changes(vis: Visibilities, model: SkyModel, rfi: np.ndarray, limits: SolveLimits) -> Changes:
    """What changes during a tile that is not calibrated yet; parameters as of `measure`."""
    some, channels = _thinned(vis, rfi)
    if some.frequencies_hz.size == 0:
        return Changes()
    sky = predict.predict(some, model)
    gains = solve_channels(some, sky, channels, replace(limits, min_snr=0.0))
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
    parts : list of ndarray
        Visibilities of each leading source, and of all others together.
    calibrated : Visibilities
    sky : ndarray
        Sum of the parts with their factors.
    """

    factors: np.ndarray
    unlike: np.ndarray
    known: np.ndarray
    error: float
    parts: list[np.ndarray]
    calibrated: Visibilities
    sky: np.ndarray


def _measure_leading(
    some: Visibilities, channels: np.ndarray, model: SkyModel, leading: np.ndarray,
    limits: SolveLimits, factors: np.ndarray | None = None,
) -> _Leading | None:  # fmt: skip
    """Solve gains and flux densities in turn; None where no scale can be found.

    Once, if the factors of the flux densities are given to start with.
    """
    others = np.setdiff1d(np.arange(len(model)), leading)
    parts = [predict.predict(some, model.select(np.array([k]))) for k in leading]
    if others.size:
        parts.append(predict.predict(some, model.select(others)))
    listed = known = _errors(model.select(leading))
    rounds, factors = (_ROUNDS, np.ones(len(parts))) if factors is None else (1, factors.copy())
    for _ in range(rounds):
        sky = np.zeros_like(parts[0])
        for factor, part in zip(factors, parts, strict=True):
            sky += np.float32(factor) * part
        # Weak single channels count too: all of them together are measured.
        gains = solve_channels(some, sky, channels, replace(limits, min_snr=0.0))
        calibrated = apply_gains(some, gains, also_flagged=channels)
        measured, noise = _fit(calibrated, parts, sky)
        measured, noise = measured[: leading.size], noise[: leading.size]
        weight = np.where(np.isfinite(noise), 1 / (known**2 + noise**2), 0.0)
        if np.count_nonzero(weight) < 2:
            return None
        scale = weighted_median(measured, weight)
        if not (np.isfinite(scale) and scale > 0):
            return None
        off = measured / scale - 1
        unlike = (weight > 0) & (np.abs(off) > _UNLIKE_SIGMA * np.sqrt(listed**2 + noise**2))
        # What the catalogue says counts as far as it agrees.
        known = np.minimum(listed, catalogue_scatter(off[weight > 0], noise[weight > 0]))
        trust = np.where(unlike, 1.0, known**2 * weight)
        factors[: leading.size] = 1 + off * trust
    error = float(MEDIAN_OVER_MEAN / np.sqrt(weight.sum()))
    return _Leading(factors, unlike, known, error, parts, calibrated, sky)


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


def _measure_beam(some: Visibilities, leading: SkyModel, found: _Leading) -> BeamMeasurement:
    """Measure the leading sources in parts of the tile, and the beam with them."""
    ntime = some.times_jd.size
    n_parts = min(_DRIFT_PARTS, ntime)
    part = np.arange(ntime) * n_parts // ntime
    ratio = np.zeros((n_parts, len(leading)))
    error = np.full(ratio.shape, np.inf)
    for k in range(n_parts):
        rows = np.isin(some.time_index, np.flatnonzero(part == k))
        if not rows.any():
            continue
        measured, noise = _fit(
            found.calibrated.rows(rows), [one[rows] for one in found.parts], found.sky[rows]
        )
        ratio[k], error[k] = measured[: len(leading)], noise[: len(leading)]
    sources = DriftingSources(leading, found.known, part, ratio, error, some.beam)
    return measure_beam(sources, some.pointings, some.frequencies_hz, some.nominal_dish_m)


def _beams_of_hands(
    some: Visibilities, leading: SkyModel, found: _Leading
) -> tuple[BeamMeasurement, ...]:
    """Measure the beam of each polarization; none where they cannot both be measured."""
    hands = some.parallel_hands
    if len(hands) < 2:
        return ()
    beams = []
    for hand in hands:
        flags = found.calibrated.flags.copy()
        flags[:, :, [other for other in hands if other != hand]] = True
        alone = replace(found, calibrated=replace(found.calibrated, flags=flags))
        beams.append(_measure_beam(some, leading, alone))
    return tuple(beams) if all(beam.n_sources for beam in beams) else ()


def as_measured(model: SkyModel, scale: FluxScale | None) -> SkyModel:
    """Another tile's model with what the reference tile found unlike the catalogue."""
    if scale is None or not scale.unlike:
        return model
    flux = model.flux_jy.copy()
    for ra_deg, dec_deg, factor in scale.unlike:
        place = astrometry.radec_to_vector(np.deg2rad(ra_deg), np.deg2rad(dec_deg))
        flux[model.directions @ place > np.cos(_SAME_RAD)] *= factor
    return replace(model, flux_jy=flux)


def _thinned(
    vis: Visibilities, rfi: np.ndarray, count: int = _CHANNELS
) -> tuple[Visibilities, np.ndarray]:
    """All baselines and times, some of the channels that came; and their interference."""
    chosen = some_channels(vis, count)
    return vis.channels(chosen), rfi[:, chosen]


def _errors(model: SkyModel) -> np.ndarray:
    """How well the model's flux densities are known, as fractions."""
    primary = [flux_scale.at_position(direction) is not None for direction in model.directions]
    return np.where(primary, _PRIMARY_ERROR, _CATALOGUE_ERROR)


def _fit(
    vis: Visibilities, parts: list[np.ndarray], sky: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Real factors of the parts that make up the data, by linear least squares; and their errors.

    Samples far from the sky so far are interference and take no part. The parts may overlap on
    the sky: errors are those of the whole covariance.
    """
    noise2 = _noise_per_weight(vis, sky)
    normal, right = np.zeros((len(parts), len(parts))), np.zeros(len(parts))
    for rows in _blocks(len(vis.data)):
        data, weight = (array[rows][:, :, vis.parallel_hands] for array in (vis.data, vis.weights))
        off = weight * np.abs(data - sky[rows, :, None]) ** 2
        weight = np.where(
            vis.flags[rows][:, :, vis.parallel_hands] | (off > _CLIP * noise2), 0, weight
        )
        columns = np.stack([part[rows].ravel() for part in parts], axis=1)
        weighted = (weight * data).sum(axis=2).ravel()
        _accumulate(columns, weight.sum(axis=2).ravel(), weighted, normal, right)
    normal += np.tril(normal, -1).T
    inverse = np.linalg.pinv(normal, hermitian=True)
    noise = np.sqrt(np.clip(np.diag(inverse), 0, None) * noise2)
    # A part that is nowhere in the data is not measured.
    return inverse @ right, np.where(np.diag(normal) > 0, noise, np.inf)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _accumulate(
    columns: np.ndarray, weight: np.ndarray, weighted: np.ndarray, normal: np.ndarray,
    right: np.ndarray,
) -> None:  # fmt: skip
    """Add samples to the lower half of the normal equations.

    Not as products of matrices: their last bits depend on how many threads BLAS has.

    Parameters
    ----------
    columns : ndarray of complex64, shape (nsample, npart)
    weight : ndarray, shape (nsample,)
    weighted : ndarray of complex64, shape (nsample,)
        Weight times data.
    normal, right : ndarray, shape (npart, npart) and (npart,)
    """
    count = columns.shape[1]
    for n in range(columns.shape[0]):
        w = weight[n]
        if w > 0:
            for k in range(count):
                a = columns[n, k]
                right[k] += a.real * weighted[n].real + a.imag * weighted[n].imag
                x, y = w * a.real, w * a.imag
                for m in range(k + 1):
                    b = columns[n, m]
                    normal[k, m] += x * b.real + y * b.imag


def _noise_per_weight(vis: Visibilities, sky: np.ndarray) -> float:
    """Robust variance of sqrt(weight) times the residual, a real component."""
    rows = slice(None, None, max(1, len(vis.data) // _ROWS_AT_ONCE))
    data, weight, flags = (
        array[rows][:, :, vis.parallel_hands] for array in (vis.data, vis.weights, vis.flags)
    )
    squares = weight * np.abs(data - sky[rows, :, None]) ** 2
    return float(np.median(squares[~flags]) / (2 * np.log(2))) if not flags.all() else 1.0


def _blocks(nrow: int) -> Iterator[slice]:
    for begin in range(0, nrow, _ROWS_AT_ONCE):
        yield slice(begin, begin + _ROWS_AT_ONCE)
