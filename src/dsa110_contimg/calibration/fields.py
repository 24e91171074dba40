"""Calibrate an array that observes calibrators and targets in turn.

Delays and bandpass come from one calibrator, complex gains from every calibrator, the flux scale
from the primary one; targets get gains interpolated in time. (A drift scan is calibrated
against the sky in its beam instead: see `calibration.tile`.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsa110_contimg.calibration import delay, predict
from dsa110_contimg.calibration.apply import apply_gains
from dsa110_contimg.calibration.bandpass import split_bandpass
from dsa110_contimg.calibration.gains import Gains, check_reference_antennas, refer_phases
from dsa110_contimg.calibration.intervals import interpolated, solution_intervals
from dsa110_contimg.calibration.options import FieldSolveOptions
from dsa110_contimg.calibration.solve import Baselines, solve_gains
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError, CalibrationError
from dsa110_contimg.robust import median_error
from dsa110_contimg.sky import astrometry, flux_scale
from dsa110_contimg.visibilities import observations
from dsa110_contimg.visibilities.data import Visibilities


@dataclass(frozen=True, eq=False)
class FieldCalibration:
    """Solutions of a set of fields.

    Attributes
    ----------
    delays_s, delay_flags : ndarray, shape (1, nantenna, 1, npol)
    delay_reference_hz : float
    bandpass : Gains
        Shape (1, nantenna, nchan, npol).
    gains : Gains
        Shape (ninterval, nantenna, 1, npol), on the flux scale of the primary calibrator.
    gain_times_s : ndarray, shape (ninterval,)
        MJD seconds, ascending.
    reference_antenna : str
    flux_jy : mapping of str to (float, float)
        Flux density and its error by field; no error for a primary calibrator.
    """

    delays_s: np.ndarray
    delay_flags: np.ndarray
    delay_reference_hz: float
    bandpass: Gains
    gains: Gains
    gain_times_s: np.ndarray
    reference_antenna: str
    flux_jy: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class _SolvedField:
    """Gains of the scans of a calibrator.

    Attributes
    ----------
    gains : Gains
        Shape (ninterval, nantenna, 1, npol).
    times_s : ndarray, shape (ninterval,)
    known_jy : float or None
        Flux density of a primary calibrator.
    centre_rad : tuple of float
    """

    gains: Gains
    times_s: np.ndarray
    known_jy: float | None
    centre_rad: tuple[float, float]

    def joined(self, other: "_SolvedField", name: str) -> "_SolvedField":
        """These and later or earlier scans of the same calibrator."""
        apart = float(
            astrometry.separation_rad(
                *(astrometry.radec_to_vector(*one.centre_rad) for one in (self, other))
            )
        )
        if apart > ARCSEC_RAD:
            raise BadInputError(
                f"two fields are called {name} and lie {np.rad2deg(apart):.4f} degrees apart; give "
                "them different names"
            )
        times_s = np.concatenate([self.times_s, other.times_s])
        gains = _in_time((self.gains, other.gains), np.arange(times_s.size))
        return replace(self, gains=gains, times_s=times_s)


def point_source_model(vis: Visibilities) -> tuple[np.ndarray, float | None]:
    """Model of a calibrator at the phase centre.

    Returns
    -------
    model : ndarray of complex64, shape (nrow, nchan)
        Of a primary calibrator's spectrum at its own position, else of 1 Jy at the phase centre.
    flux_jy : float or None
        A primary calibrator's flux density at the middle of the band.
    """
    nrow, nchan = vis.data.shape[:2]
    calibrator = flux_scale.at_position(astrometry.radec_to_vector(*vis.phase_centre_rad))
    if calibrator is None:
        return np.ones((nrow, nchan), np.complex64), None
    year = observations.year(float(vis.times_jd[0]))
    spectrum = calibrator.flux_density_jy(vis.frequencies_hz, year)
    apparent = np.broadcast_to(spectrum, (vis.times_jd.size, 1, nchan))
    middle = calibrator.flux_density_jy(np.array([vis.frequencies_hz.mean()]), year)
    return predict.predict_apparent(vis, calibrator.direction()[None], apparent), float(middle[0])


def calibrate_fields(
    bandpass_field: Visibilities, gain_fields: Sequence[Visibilities], options: FieldSolveOptions
) -> FieldCalibration:
    """Solve delays, bandpass and gains.

    Parameters
    ----------
    bandpass_field : Visibilities
        A bright calibrator.
    gain_fields : sequence of Visibilities
        Calibrators at their phase centres, one of them a primary calibrator (the bandpass field
        may be among them).
    options : FieldSolveOptions

    Raises
    ------
    CalibrationError
        If no field is a primary calibrator, or nothing can be solved.
    BadInputError
        If two fields of one name are at different places.
    UsageError
        If a reference antenna is not in the data.
    """
    names = bandpass_field.array.names
    check_reference_antennas(names, options.reference_antennas, ())
    reference_hz = float(bandpass_field.frequencies_hz.mean())
    model, _ = point_source_model(bandpass_field)
    nchan = model.shape[1]

    # Phases move during a scan: they are taken out before channels are solved over all of it.
    steady = _steady(bandpass_field, model, options)
    channels, reference = refer_phases(
        _solve(steady, model, np.zeros(steady.times_jd.size, np.int64), np.arange(nchan), options),
        names,
        options.reference_antennas,
    )
    delays_s, delay_flags = delay.fit_delays(channels, bandpass_field.frequencies_hz, reference_hz)
    slopes = delay.delay_gains(delays_s, delay_flags, bandpass_field.frequencies_hz, reference_hz)
    bandpass = split_bandpass(
        Gains(channels.values / slopes.values, channels.flags | slopes.flags, channels.snr)
    )[0]

    solved: dict[str, _SolvedField] = {}
    for vis in gain_fields:
        corrected = apply_gains(vis, slopes, bandpass)
        model, known = point_source_model(vis)
        times_s = vis.times_s
        interval = solution_intervals(times_s, options.gain_interval_s or np.inf, options.max_gap_s)
        gains = _solve(corrected, model, interval, np.zeros(nchan, np.int64), options)
        gains, _ = refer_phases(gains, names, (reference,))
        middles = np.array([times_s[interval == k].mean() for k in range(interval.max() + 1)])
        scan = _SolvedField(gains, middles, known, vis.phase_centre_rad)
        before = solved.get(vis.field_name)
        solved[vis.field_name] = scan if before is None else before.joined(scan, vis.field_name)
    return _on_one_scale(solved, delays_s, delay_flags, reference_hz, bandpass, reference)


def calibration_at(solution: FieldCalibration, vis: Visibilities) -> tuple[Gains, ...]:
    """Delays, bandpass, and gains at a field's integrations.

    To be applied together with ``interval=vis.time_index``.
    """
    slopes = delay.delay_gains(
        solution.delays_s, solution.delay_flags, vis.frequencies_hz, solution.delay_reference_hz
    )
    gains = interpolated(solution.gains, solution.gain_times_s, vis.times_s)
    return slopes, solution.bandpass, gains


def transfer_flux_scale(reference: Gains, other: Gains) -> tuple[float, float]:
    """Flux density of a source whose gains were solved as if it had 1 Jy.

    A source of S Jy makes them sqrt(S) times too large; the ratio is averaged over antennas
    and polarizations by the median.

    Returns
    -------
    flux_jy, error_jy : float
        The error is the median's.

    Raises
    ------
    CalibrationError
        If no antenna is solved on both.
    """
    power = []
    for gains in (reference, other):
        good = ~gains.flags
        count = good.sum(axis=0)
        total = np.sum(np.where(good, np.abs(gains.values) ** 2, 0), axis=0)
        power.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    ratio = power[1] / power[0]
    ratio = ratio[np.isfinite(ratio)]
    if ratio.size == 0:
        raise CalibrationError("no antenna is solved on both calibrators: no flux scale")
    return float(np.median(ratio)), median_error(ratio)


def _on_one_scale(
    solved: Mapping[str, _SolvedField],
    delays_s: np.ndarray,
    delay_flags: np.ndarray,
    reference_hz: float,
    bandpass: Gains,
    reference: str,
) -> FieldCalibration:
    primary = next((name for name, field in solved.items() if field.known_jy is not None), None)
    if primary is None:
        raise CalibrationError(
            f"none of the fields {', '.join(solved)} is a primary flux calibrator "
            f"({', '.join(c.name for c in flux_scale.CALIBRATORS)}); include one"
        )
    flux: dict[str, tuple[float, float]] = {}
    scaled = []
    for name, field in solved.items():
        if field.known_jy is not None:
            flux[name], factor = (field.known_jy, 0.0), 1.0
        else:
            flux[name] = transfer_flux_scale(solved[primary].gains, field.gains)
            factor = np.sqrt(flux[name][0])
        scaled.append(Gains(field.gains.values / factor, field.gains.flags, field.gains.snr))
    times_s = np.concatenate([field.times_s for field in solved.values()])
    order = np.argsort(times_s)
    joined = _in_time(scaled, order)
    return FieldCalibration(
        delays_s, delay_flags, reference_hz, bandpass, joined, times_s[order], reference, flux
    )


def _in_time(gains: Sequence[Gains], order: np.ndarray) -> Gains:
    """Intervals of several gains as one, in an order."""
    return Gains(
        *(
            np.concatenate([getattr(one, part) for one in gains])[order]
            for part in ("values", "flags", "snr")
        )
    )


def _steady(vis: Visibilities, model: np.ndarray, options: FieldSolveOptions) -> Visibilities:
    times_s = vis.times_s
    interval = solution_intervals(times_s, options.phase_interval_s, options.max_gap_s)
    phases = _solve(
        vis, model, interval, np.zeros(model.shape[1], np.int64), options, phase_only=True
    )
    phases, _ = refer_phases(phases, vis.array.names, options.reference_antennas)
    return apply_gains(vis, phases, interval=interval[vis.time_index])


def _solve(
    vis: Visibilities,
    model: np.ndarray,
    interval: np.ndarray,
    channel_bin: np.ndarray,
    options: FieldSolveOptions,
    phase_only: bool = False,
) -> Gains:
    return solve_gains(
        vis.data,
        model,
        vis.weights,
        Baselines(vis.antenna1, vis.antenna2, len(vis.array.names)),
        interval[vis.time_index],
        channel_bin,
        options,
        flags=vis.flags,
        phase_only=phase_only,
    )
