"""Solve bandpass and gains on the reference tile, whose model sets the flux scale of all tiles."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.calibration import predict, residuals, source_fluxes
from dsa110_contimg.calibration.antenna_positions import find_misplaced
from dsa110_contimg.calibration.antenna_state import Misplaced
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.bandpass import (
    MAX_FLAGGED,
    smoothed,
    solve_bandpass,
    solve_channels,
    split_bandpass,
)
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.calibration.channels import some_channels
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
from dsa110_contimg.calibration.far_sources import subtract_far_sources
from dsa110_contimg.calibration.gains import Gains, check_reference_antennas
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.source_scale import FluxScale
from dsa110_contimg.calibration.within_tile import take_out
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.flagging import flag_array_wide

FindSources = Callable[[Visibilities], tuple[SkyModel, float]]
"""Finds sources in data minus model, and the root of the sum of squares of those it cannot find."""

MIN_ANTENNAS = 10
_IMAGED_CHANNELS = 96
"""Number of channels of data minus model that are imaged to find unmodelled sources."""
_PLACE_CHANNELS = 24
"""Enough to find antennas that are not at their places."""
_CROSSTALK_ROUNDS = 2
_NEGLIGIBLE = 1e-3
"""Error that crosstalk may leave in a source's flux density, as a share of the brightest source."""


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


def solve_reference(
    vis: Visibilities,
    model: SkyModel,
    limits: SolveOptions,
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
    limits : SolveOptions
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
    UsageError
        If a reference antenna that a user states is not in the data.
    """
    if len(model) == 0:
        raise CalibrationError(
            "the sky model holds no source in the beam; import a deeper catalogue"
        )
    if vis.flags.all():
        raise CalibrationError("every visibility of the tile is flagged")
    check_reference_antennas(vis.array.names, limits.reference_antennas, DSA110.reference_antennas)
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
    rfi = residuals.interference(vis, sky, smoothed(raw, vis, limits))
    unmodelled, unmodelled_jy = near.select(np.zeros(0, int)), 0.0
    if find_unmodelled is not None:
        unmodelled, unmodelled_jy = find_unmodelled(_data_minus_model(vis, sky, raw, rfi))
        sky += predict.predict(vis, unmodelled)
    alive, n_there, _ = residuals.alive(vis)
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
    limits: SolveOptions,
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
    thin, chosen = _some_calibrated(vis, gains, rfi, _IMAGED_CHANNELS)
    scale = residuals.noise_scale(thin, sky[:, chosen])
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
    vis: Visibilities, sky: np.ndarray, raw: Gains, rfi: np.ndarray, limits: SolveOptions
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
