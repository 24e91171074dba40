"""Calibrate tiles against the sky.

The reference tile gives bandpass and gains, and with them the flux scale (`calibration.reference`).
Every tile then has its phases refined against the model. Amplitudes that all antennas have in
common are never refined: they would follow a source that differs from the catalogue and erase its
variability. Only a single antenna that departs from the others takes an amplitude of its own
(`antenna_health`).
"""

from dataclasses import dataclass

import numpy as np

from dsa110_contimg.calibration import predict, residuals, source_fluxes
from dsa110_contimg.calibration.antenna_health import antenna_noise, noise_weights, solve_tile_gains
from dsa110_contimg.calibration.antenna_state import AntennaHealth
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.channels import some_channels
from dsa110_contimg.calibration.crosstalk import Crosstalk, none, subtract_crosstalk
from dsa110_contimg.calibration.far_sources import subtract_far_sources
from dsa110_contimg.calibration.gains import Gains
from dsa110_contimg.calibration.options import SolveOptions
from dsa110_contimg.calibration.within_tile import Changes, follow, measure_changes, take_out
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.sky.strong_sources import FarSource
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.flagging import flag_array_wide, unflagged

_SAMPLE_ROWS = 5000
_ROUGH_CHANNELS = 96
_MISSING_POWER, _MISSING_NOISE = 1e-4, 0.01
"""Shares of the model's power, and of the noise's, that may be left out of a tile's model."""


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


def calibrate_tile(
    vis: Visibilities,
    bandpass: Gains,
    gains: Gains,
    model: SkyModel | None,
    limits: SolveOptions,
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
    limits : SolveOptions
    crosstalk : Crosstalk, optional
    """
    if crosstalk is None:
        crosstalk = none(vis.frequencies_hz)
    _, n_there, n_before = residuals.alive(vis)
    calibrated = apply_gains(vis, bandpass, gains, in_place=True)
    n_solved = int(unflagged(calibrated.flags)[0].sum())
    changes, far = Changes(), tuple[FarSource, ...]()
    if model is None or len(model) == 0:
        sky = np.zeros(vis.data.shape[:2], np.complex64)
        subtract_crosstalk(calibrated, crosstalk, None)
        rfi = residuals.interference(calibrated, None)
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
        rfi = residuals.interference(calibrated, sky, rough)
        far = subtract_far_sources(calibrated, sky, rfi, rough)
        if far:
            rfi = residuals.interference(calibrated, sky, rough)
        tile_gains = solve_tile_gains(calibrated, sky, rfi, limits)
        phases = tile_gains.gains
    moved = np.angle(phases.values[~phases.flags])
    some = slice(None, None, max(1, calibrated.data.shape[0] // _SAMPLE_ROWS))
    sampled = apply_gains(calibrated.rows(some), phases, also_flagged=rfi[some])
    noise = antenna_noise(sampled, sky[some])
    scale = residuals.noise_scale(sampled, sky[some])
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
    vis: Visibilities, sky: np.ndarray, crosstalk: Crosstalk, limits: SolveOptions
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
    """Variance of a visibility; infinite where it cannot be measured.

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
