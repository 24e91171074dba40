"""Calibrate tiles against the sky.

The reference tile gives bandpass and gains, and with them the flux scale. Every tile then has its
phases refined against the model. Amplitudes that all antennas have in common are never refined:
they would follow a source that differs from the catalogue and erase its variability. Only a single
antenna that departs from the others takes an amplitude of its own (`antenna_health`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.calibration import predict, source_fluxes
from dsa110_contimg.calibration.antenna_health import antenna_noise, noise_weights, solve_tile_gains
from dsa110_contimg.calibration.antenna_positions import find_misplaced
from dsa110_contimg.calibration.antenna_state import AntennaHealth, Misplaced
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.bandpass import (
    MAX_FLAGGED,
    smoothed,
    solve_bandpass,
    solve_channels,
    split_bandpass,
)
from dsa110_contimg.calibration.beam import BeamMeasurement
from dsa110_contimg.calibration.channels import SolveLimits, some_channels
from dsa110_contimg.calibration.crosstalk import (
    Crosstalk,
    added,
    measure_crosstalk,
    none,
    short_rows,
    some_long_rows,
    subtract_crosstalk,
    unmodelled_power,
)
from dsa110_contimg.calibration.far_sources import FarSource, subtract_far_sources
from dsa110_contimg.calibration.solve import Gains
from dsa110_contimg.calibration.source_fluxes import FluxScale
from dsa110_contimg.calibration.within_tile import Changes, follow, measure_changes, take_out
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.robust import component_variance, robust_rms
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.flagging import flag_array_wide, flag_interference, unflagged

FindSources = Callable[[Visibilities], tuple[SkyModel, float]]
"""Finds sources in data minus model, and the root of the sum of squares of those it cannot find."""

MIN_ANTENNAS = 10
_SAMPLE_ROWS = 5000
_ROUGH_CHANNELS = 96
_PLACE_CHANNELS = 24
"""Enough to find antennas that are not at their places."""
_CROSSTALK_ROUNDS = 2
_NEGLIGIBLE = 1e-3
"""Error that crosstalk may leave in a source's flux density, as a share of the brightest source."""
_MISSING_POWER, _MISSING_NOISE = 1e-4, 0.01
"""Shares of the model's power, and of the noise's, that may be left out of a tile's model."""


@dataclass(frozen=True, eq=False)
class ReferenceSolution:
    """Bandpass and gains of the reference tile.

    Attributes
    ----------
    bandpass : Gains
        Shape (1, nantenna, nchan, npol); rms amplitude one in each antenna and polarization.
    gains : Gains
        Shape (1, nantenna, 1, npol).
    reference_antenna : str
    flagged_fraction : float
        Of the bandpass, counting only antennas that have data.
    median_snr : float
    model_flux_jy : float
        Apparent flux density of the model in all.
    rfi_fraction : float
    channels_per_solution : int
        More than one where the sky was too weak for single channels.
    flux_scale : FluxScale
    beam : BeamMeasurement
    crosstalk : Crosstalk
    n_unmodelled : int
        Sources that were found in data minus model.
    unmodelled_jy : float
        Root of the sum of squares of apparent flux densities of those that were not.
    misplaced : tuple of Misplaced
        Antennas that do not stand where the files say.
    """

    bandpass: Gains
    gains: Gains
    reference_antenna: str
    flagged_fraction: float
    median_snr: float
    model_flux_jy: float
    rfi_fraction: float
    channels_per_solution: int
    flux_scale: FluxScale
    beam: BeamMeasurement
    crosstalk: Crosstalk
    n_unmodelled: int
    unmodelled_jy: float
    misplaced: tuple[Misplaced, ...]


@dataclass(frozen=True, eq=False)
class CalibratedTile:
    """A tile in Jy.

    Attributes
    ----------
    vis : Visibilities
        Weights are inverse variances in Jy**-2, flags final.
    phases : Gains
        What was solved in the tile itself, shape (1, nantenna, 1 or nchan, npol).
    flagged_fraction, rfi_fraction : float
        Of the samples of antennas that have data; `rfi_fraction` is AOFlagger's share.
    phase_rms_deg : float
        How far the phases had moved since the reference tile.
    motion_rms_rad : float
        Motion of the whole sky during the tile that was taken out; 0 where it was not significant.
    noise_jy : float
        Per sample of median weight, from data minus model.
    flag_causes : dict of str to float
        Share of the samples that were flagged first for each reason.
    antennas : tuple of AntennaHealth
        Of every antenna with data; empty without a model.
    far_sources : tuple of FarSource
        Far outside the beam, taken off.
    """

    vis: Visibilities
    phases: Gains
    flagged_fraction: float
    rfi_fraction: float
    phase_rms_deg: float
    motion_rms_rad: float
    noise_jy: float
    flag_causes: dict[str, float]
    antennas: tuple[AntennaHealth, ...]
    far_sources: tuple[FarSource, ...]


def solve_reference(
    vis: Visibilities,
    model: SkyModel,
    limits: SolveLimits,
    overwrite: bool = False,
    find_unmodelled: FindSources | None = None,
    known_beam: BeamMeasurement | None = None,
) -> ReferenceSolution:
    """Solve bandpass and gains on the reference tile.

    The model's leading sources are measured first, so that none of them sets the flux scale alone.
    The first solution leaves out what all baselines have together; interference is then flagged
    in data minus model, for the second.

    Parameters
    ----------
    vis : Visibilities
        Raw.
    model : SkyModel
    limits : SolveLimits
    overwrite : bool
        The arrays of `vis` may be overwritten: a full-size tile does not fit in memory twice.
    find_unmodelled : callable, optional
        Finds in data minus model what the model lacks. Sources below the limit of the catalogue
        would otherwise go into the gains of all tiles.
    known_beam : BeamMeasurement, optional
        Primary beam from other observations.

    Raises
    ------
    CalibrationError
        If the model is empty, or too few antennas or channels can be solved.
    """
    if len(model) == 0:
        raise CalibrationError(
            "the sky model holds no source in the beam; import a deeper catalogue"
        )
    if vis.flags.all():
        raise CalibrationError("every visibility of the tile is flagged")
    if not overwrite:
        vis = replace(
            vis,
            data=vis.data.copy(),
            flags=vis.flags.copy(),
            weights=np.array(vis.weights, np.float32, order="C"),
        )
    rfi = flag_array_wide(vis.data, vis.flags, vis.antenna1, vis.antenna2, vis.time_index)
    near, distant = source_fluxes.apart(vis, model)
    changes = source_fluxes.changes(vis, near, rfi, limits)
    vis = take_out(vis, changes, in_place=True)
    seen = _measure_model(vis, near, distant, rfi, limits, known_beam)
    if subtract_far_sources(vis, seen.sky, rfi, seen.gains):
        seen = _measure_model(vis, near, distant, rfi, limits, known_beam)
    vis = seen.vis
    raw, crosstalk = _without_crosstalk(vis, seen.sky, seen.gains, rfi, limits)
    brightest_jy = predict.mean_apparent_jy(vis, seen.near).max()
    if crosstalk.source_error_jy(len(vis.array.names)) > _NEGLIGIBLE * brightest_jy:
        # What the sources were measured to be had the crosstalk in it.
        seen = _measure_model(vis, near, distant, rfi, limits, known_beam)
        vis, raw = seen.vis, seen.gains
    near, flux_scale, beam, sky = seen.near, seen.flux_scale, seen.beam, seen.sky
    rfi = _interference(vis, sky, smoothed(raw, vis, limits))
    unmodelled, unmodelled_jy = near.select(np.zeros(0, int)), 0.0
    if find_unmodelled is not None:
        unmodelled, unmodelled_jy = find_unmodelled(_data_minus_model(vis, sky, raw, rfi))
        sky += predict.predict(vis, unmodelled)
    alive, n_there, _ = _alive(vis)
    raw, reference, width = solve_bandpass(vis, sky, rfi, limits, alive)
    solved = np.array([a for a in alive if not raw.flags[0, a].all()])
    flagged = float(raw.flags[0, alive].mean())
    if solved.size < MIN_ANTENNAS:
        raise CalibrationError(
            f"only {solved.size} antennas could be solved, {MIN_ANTENNAS} are needed"
        )
    if flagged > MAX_FLAGGED:
        raise CalibrationError(
            f"{100 * flagged:.0f} % of the bandpass of the antennas in the data is flagged, "
            f"more than {100 * MAX_FLAGGED:.0f} %"
        )
    thin, chosen = _some_calibrated(vis, raw, rfi, _PLACE_CHANNELS)
    misplaced = find_misplaced(thin, sky[:, chosen], near)
    bandpass, gains = split_bandpass(raw)
    apparent = near.apparent_jy(vis.beam_axis, np.array([near.reference_hz]), vis.dish_m)
    return ReferenceSolution(
        bandpass=bandpass,
        gains=gains,
        reference_antenna=reference,
        flagged_fraction=flagged,
        median_snr=float(np.median(raw.snr[~raw.flags])),
        model_flux_jy=float(apparent.mean(axis=0).sum()),
        channels_per_solution=width,
        flux_scale=flux_scale,
        beam=beam,
        crosstalk=crosstalk,
        n_unmodelled=len(unmodelled),
        unmodelled_jy=unmodelled_jy,
        misplaced=misplaced,
        rfi_fraction=np.count_nonzero(rfi) / n_there,
    )


@dataclass(frozen=True, eq=False)
class _MeasuredModel:
    """The model of a tile as the tile shows it.

    Attributes
    ----------
    vis : Visibilities
        With the beam that was measured.
    near : SkyModel
        Sources in the main lobe.
    flux_scale : FluxScale
    beam : BeamMeasurement
    sky : ndarray of complex64, shape (nrow, nchan)
        Of all sources.
    gains : Gains
        Of single channels, still in the data.
    """

    vis: Visibilities
    near: SkyModel
    flux_scale: FluxScale
    beam: BeamMeasurement
    sky: np.ndarray
    gains: Gains


def _measure_model(
    vis: Visibilities,
    near: SkyModel,
    distant: SkyModel,
    rfi: np.ndarray,
    limits: SolveLimits,
    known_beam: BeamMeasurement | None,
) -> _MeasuredModel:
    """Measure flux scale, beam and the strongest sources of a model, and solve the gains."""
    near, flux_scale, beam = source_fluxes.measure(vis, near, rfi, limits, known_beam)
    vis = replace(vis, beam=beam.shape)
    sky = predict.predict(vis, near)
    gains = solve_channels(vis, sky, rfi, limits)
    distant = source_fluxes.measure_distant(vis, near, distant, rfi, gains)
    if len(distant):
        sky += predict.predict(vis, distant)
        gains = solve_channels(vis, sky, rfi, limits)
    return _MeasuredModel(vis, near, flux_scale, beam, sky, gains)


def _data_minus_model(
    vis: Visibilities, sky: np.ndarray, gains: Gains, rfi: np.ndarray
) -> Visibilities:
    """Some channels of a tile, calibrated, without the sources of the model."""
    thin, chosen = _some_calibrated(vis, gains, rfi, _ROUGH_CHANNELS)
    scale = _noise_scale(thin, sky[:, chosen])
    return replace(
        thin, data=thin.data - sky[:, chosen, None], weights=thin.weights / np.float32(scale)
    )


def _some_calibrated(
    vis: Visibilities, gains: Gains, rfi: np.ndarray, count: int
) -> tuple[Visibilities, np.ndarray]:
    """Some channels of a tile, calibrated and without interference; and which they are."""
    chosen = some_channels(vis, count)
    thin = apply_gains(vis.channels(chosen), gains.channels(chosen), also_flagged=rfi[:, chosen])
    return thin, chosen


def _without_crosstalk(
    vis: Visibilities, sky: np.ndarray, raw: Gains, rfi: np.ndarray, limits: SolveLimits
) -> tuple[Gains, Crosstalk]:
    """Measure crosstalk and gains in turn, and take the crosstalk off the data, in place."""
    rows, far = short_rows(vis), some_long_rows(vis)
    crosstalk = none(vis.frequencies_hz)
    if rows.size == 0:
        return raw, crosstalk
    for _ in range(_CROSSTALK_ROUNDS):
        unmodelled = unmodelled_power(apply_gains(vis.rows(far), raw), sky[far], rfi[far])
        found = measure_crosstalk(
            apply_gains(vis.rows(rows), raw), sky[rows], rfi[rows], unmodelled
        )
        if not found.pairs:
            break
        subtract_crosstalk(vis, found, raw)
        crosstalk = added(crosstalk, found)
        raw = solve_channels(vis, sky, rfi, limits)
    return raw, crosstalk


def calibrate_tile(
    vis: Visibilities,
    bandpass: Gains,
    gains: Gains,
    model: SkyModel | None,
    limits: SolveLimits,
    crosstalk: Crosstalk | None = None,
) -> CalibratedTile:
    """Apply a calibration set to a tile, flag data minus model, refine phases.

    Parameters
    ----------
    vis : Visibilities
        Raw; its arrays are overwritten.
    bandpass, gains : Gains
        Of all antennas of the array.
    model : SkyModel or None
        Without one, phases are left as they are and the data themselves are flagged.
    limits : SolveLimits
    crosstalk : Crosstalk, optional
    """
    if crosstalk is None:
        crosstalk = none(vis.frequencies_hz)
    _, n_there, n_before = _alive(vis)
    calibrated = apply_gains(vis, bandpass, gains, in_place=True)
    n_solved = int(unflagged(calibrated.flags)[0].sum())
    changes, far = Changes(), tuple[FarSource, ...]()
    if model is None or len(model) == 0:
        sky = np.zeros(vis.data.shape[:2], np.complex64)
        subtract_crosstalk(calibrated, crosstalk, None)
        rfi = _interference(calibrated, None)
        one = np.ones((1, len(vis.array.names), 1, min(2, vis.data.shape[2])), complex)
        phases = Gains(one, np.zeros(one.shape, bool), np.ones(one.shape, np.float32))
        tile_gains = None
    else:
        near, distant = source_fluxes.apart(vis, _leading(vis, model))
        sky = predict.predict(vis, near)
        distant = source_fluxes.measure_distant(
            calibrated, near, distant, np.zeros(sky.shape, bool)
        )
        if len(distant):
            sky += predict.predict(vis, distant)
        # An antenna that has changed since the reference tile, or a sky that moves, must not look
        # like interference.
        rough, changes = _rough_look(calibrated, sky, crosstalk, limits)
        calibrated = take_out(calibrated, changes, in_place=True)
        subtract_crosstalk(calibrated, crosstalk, rough)
        follow(sky, vis, changes)
        rfi = _interference(calibrated, sky, rough)
        far = subtract_far_sources(calibrated, sky, rfi, rough)
        if far:
            rfi = _interference(calibrated, sky, rough)
        tile_gains = solve_tile_gains(calibrated, sky, rfi, limits)
        phases = tile_gains.gains
    moved = np.angle(phases.values[~phases.flags])
    some = slice(None, None, max(1, calibrated.data.shape[0] // _SAMPLE_ROWS))
    sampled = apply_gains(calibrated.rows(some), phases, also_flagged=rfi[some])
    noise = antenna_noise(sampled, sky[some])
    scale = _noise_scale(sampled, sky[some])
    calibrated = apply_gains(
        calibrated,
        phases,
        also_flagged=rfi,
        weight_factor=1 / scale,
        antenna_weights=noise_weights(noise),
        in_place=True,
    )
    typical = _typical(calibrated.weights)
    n_kept = int(unflagged(calibrated.flags)[0].sum())
    return CalibratedTile(
        vis=calibrated,
        phases=phases,
        flagged_fraction=1 - n_kept / n_there,
        rfi_fraction=np.count_nonzero(rfi) / n_there,
        phase_rms_deg=float(np.rad2deg(np.sqrt(np.mean(moved**2)))) if moved.size else 0.0,
        motion_rms_rad=changes.motion_rms_rad,
        noise_jy=1 / np.sqrt(typical) if typical > 0 else float("nan"),
        far_sources=far,
        antennas=() if tile_gains is None else tile_gains.health(calibrated, noise),
        flag_causes={
            "before": 1 - n_before / n_there,
            "no solution": (n_before - n_solved) / n_there,
            "interference": np.count_nonzero(rfi) / n_there,
        },
    )


def _rough_look(
    vis: Visibilities, sky: np.ndarray, crosstalk: Crosstalk, limits: SolveLimits
) -> tuple[Gains, Changes]:
    """Gains of the tile's antennas, and what changes during the tile, by some of the channels."""
    chosen = some_channels(vis, _ROUGH_CHANNELS)
    if chosen.size == 0:
        raise CalibrationError(
            "no antenna has enough unflagged baselines to solve for gains: every sample is flagged"
        )
    thin, thin_sky = vis.channels(chosen), sky[:, chosen]
    subtract_crosstalk(thin, crosstalk.channels(chosen), None)
    wide = flag_array_wide(thin.data, thin.flags, thin.antenna1, thin.antenna2, thin.time_index)
    found = solve_tile_gains(thin, thin_sky, wide, limits)
    share = chosen.size / vis.frequencies_hz.size
    changes = measure_changes(thin, thin_sky, found.gains, wide, share)
    return found.gains_at(vis.frequencies_hz), changes


def _leading(vis: Visibilities, model: SkyModel) -> SkyModel:
    """The brightest sources, which have all but a little of the model's power.

    What the others add to a phase averages out below the noise; a flux scale they would bias.
    """
    power = predict.mean_apparent_jy(vis, model) ** 2
    order = np.argsort(-power)
    missing = power.sum() - np.cumsum(power[order])
    allowed = min(_MISSING_POWER * power.sum(), _MISSING_NOISE * _noise_power(vis))
    return model.select(order[: int(np.searchsorted(-missing, -allowed)) + 1])


def _noise_power(vis: Visibilities) -> float:
    """Variance of a visibility; infinite where it cannot be told.

    From amplitudes, which antennas that drift leave alone: what the amplitudes of both hands differ
    by changes from one integration to the next by noise only.
    """
    hands = vis.parallel_hands
    first = np.searchsorted(vis.time_index, np.arange(3) + vis.times_jd.size // 2)
    rows = [np.arange(first[k], first[k + 1]) for k in range(2)]
    if len(hands) < 2 or rows[0].size != rows[1].size or rows[0].size == 0:
        return float("inf")
    if any((x[rows[0]] != x[rows[1]]).any() for x in (vis.antenna1, vis.antenna2)):
        return float("inf")
    differences = []
    seen = np.ones((rows[0].size, vis.data.shape[1]), bool)
    for some in rows:
        amplitude = np.abs(vis.data[some][:, :, hands])
        differences.append(amplitude[:, :, 1] - amplitude[:, :, 0])
        seen &= ~vis.flags[some][:, :, hands].any(axis=2)
    change = (differences[1] - differences[0])[seen]
    return 0.5 * robust_rms(change) ** 2 if change.size else float("inf")


def _typical(weights: np.ndarray) -> float:
    """Median of the weights that are not zero, of every so many rows."""
    some = weights[:: max(1, weights.shape[0] // _SAMPLE_ROWS)]
    some = some[some > 0]
    return float(np.median(some)) if some.size else 0.0


def _interference(
    vis: Visibilities, sky: np.ndarray | None, gains: Gains | None = None
) -> np.ndarray:
    """Flags of data minus model, the data divided by gains if they are given."""
    inverse = None if gains is None else (1 / gains.values[0]).astype(np.complex64)
    return flag_interference(
        vis.data,
        vis.flags,
        vis.antenna1,
        vis.antenna2,
        vis.time_index,
        sky,
        inverse,
        None if sky is None else vis.weights,
    )


def _alive(vis: Visibilities) -> tuple[np.ndarray, int, int]:
    """Antennas with an unflagged sample, how many samples could hold data, and how many do.

    Samples (row, channel) that could are those of such antennas in channels that came.
    """
    per_row, per_channel = unflagged(vis.flags)
    alive = np.union1d(vis.antenna1[per_row > 0], vis.antenna2[per_row > 0])
    rows = np.isin(vis.antenna1, alive) & np.isin(vis.antenna2, alive)
    could = int(np.count_nonzero(rows)) * int(np.count_nonzero(per_channel))
    return alive, max(1, could), int(per_row.sum())


def _noise_scale(vis: Visibilities, sky: np.ndarray) -> float:
    """Factor that turns relative weights into inverse variances, from data minus model."""
    hands = vis.parallel_hands
    residual = vis.data[:, :, hands] - sky[:, :, None]
    used = ~vis.flags[:, :, hands]
    if not used.any():
        return 1.0
    squares = vis.weights[:, :, hands] * np.abs(residual) ** 2
    return component_variance(squares[used])
