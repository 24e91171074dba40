"""What a report says of calibration: what the data were calibrated with, and why."""

import numpy as np

from dsa110_contimg.artifacts.calibration import BANDPASS_NAME, GAINS_NAME, SolvedSet
from dsa110_contimg.calibration import tables
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.calibration.choice import Choice
from dsa110_contimg.calibration.source_scale import FluxScale
from dsa110_contimg.quality import plots
from dsa110_contimg.quality.report import Section
from dsa110_contimg.sky.beam_shape import AntennaBeams
from dsa110_contimg.times import iso


def calibration_section(solved: SolvedSet, choice: Choice | None) -> Section:
    """What the data were calibrated with, and why with that."""
    return Section(
        "Calibration",
        f"Set {solved.id}, observed {iso(solved.observed)} UTC: reference antenna "
        f"{solved.reference_antenna}, "
        f"{100 * solved.flagged_fraction:.1f} % of the bandpass flagged, median "
        f"signal-to-noise {solved.median_snr:.0f}, {solved.n_model_sources} model sources "
        f"of {solved.model_flux_jy:.2f} Jy apparent in all ({solved.sky_catalog})"
        f"{_unmodelled(solved)}; "
        f"{solved.channels_per_solution} channels per solution. {_scale(solved.flux_scale)} "
        f"{_beam(solved)} {_crosstalk(solved)}{_misplaced(solved)}"
        f"{_why(choice)}",
        pictures=_pictures(solved),
    )


def _pictures(solved: SolvedSet) -> list[tuple[str, bytes]]:
    """Bandpass and gains."""
    table = tables.read(solved.path / BANDPASS_NAME)
    bandpass = plots.bandpass(table.frequencies_hz, table.gains.values[0], table.gains.flags[0])
    made = [("Bandpass: every antenna, and the median of each polarization", bandpass)]
    if (solved.path / GAINS_NAME).exists():
        table = tables.read(solved.path / GAINS_NAME)
        gains = plots.antenna_gains(
            table.frequencies_hz, table.gains.values[0], table.gains.flags[0], table.antenna_names
        )
        made.append(("Gain of each antenna of the reference tile", gains))
    return made


def _unmodelled(solved: SolvedSet) -> str:
    """Describe the sky besides the catalogue."""
    said = f" and {solved.n_unmodelled} found in the tile itself" if solved.n_unmodelled else ""
    if solved.unmodelled_jy:
        said += f", without sources too faint to find of {1e3 * solved.unmodelled_jy:.0f} mJy (rms)"
    return said


def _scale(scale: FluxScale | None) -> str:
    """What the flux densities rest on."""
    if scale is None:
        return ""
    if not scale.n_sources:
        return "Flux scale: the catalogue's, by all sources together."
    said = f"Flux scale: {scale.n_sources} sources agree on it within {100 * scale.error:.1f} %."
    unlike = [f"{ra:.3f} {dec:+.3f} ({factor:.2f})" for ra, dec, factor in scale.unlike]
    return said + (f" Unlike the catalogue (times): {', '.join(unlike)}." if unlike else "")


def _beam(solved: SolvedSet) -> str:
    """Describe the primary beam, and what it is known from."""
    beam = solved.beam
    if beam is None or (not beam.n_sources and not solved.known_beam):
        return "Primary beam: that of the dish; too few sources to measure it."
    said = f"Primary beam: {_width_and_centre(beam)} of where it was expected"
    if not solved.known_beam:
        said += f", measured on {beam.n_sources} drifting sources. "
    elif beam.alone is None or not beam.alone.n_sources:
        said += f", as stored in {solved.known_beam}; too few sources to measure it. "
    elif beam.shape == beam.alone.shape:
        said += (
            f", measured on {beam.n_sources} drifting sources. The stored beam {solved.known_beam} "
            "does not fit them and was left out. "
        )
    else:
        said += (
            f", from the stored beam {solved.known_beam} and {beam.alone.n_sources} drifting "
            f"sources, which alone give {_width_and_centre(beam.alone)}. "
        )
    for name, hand in zip("XY", beam.hands, strict=False):
        said += f"{name} alone: {_width_and_centre(hand)}. "
    return said + _antenna_beams(beam.shape.antennas)


def _width_and_centre(beam: BeamMeasurement) -> str:
    value = beam.in_arcmin()
    return (
        f"width {value['width']:.3f} +- {value['width_error']:.3f} of the dish's, centre "
        f"{value['east_arcmin']:+.1f} +- {value['east_error_arcmin']:.1f} arcmin east and "
        f"{value['north_arcmin']:+.1f} +- {value['north_error_arcmin']:.1f} arcmin north"
    )


def _antenna_beams(antennas: AntennaBeams | None) -> str:
    """How far the beams of single antennas are apart."""
    if antennas is None:
        return "The beams of all antennas are alike."
    width = 100 * np.std(antennas.log_width)
    east, north = (60 * np.rad2deg(np.std(one)) for one in (antennas.east_rad, antennas.north_rad))
    return (
        f"The beams of antennas differ (rms) by {width:.1f} % in width, {east:.1f} arcmin east and "
        f"{north:.1f} arcmin north."
    )


def _crosstalk(solved: SolvedSet) -> str:
    """What is taken off of what antennas radiate into each other."""
    if not solved.n_crosstalk:
        return ""
    return (
        f"Crosstalk of {solved.crosstalk_rms_jy:.2g} Jy (rms) is taken off "
        f"{solved.n_crosstalk} baselines; it costs a source that the model does not hold at most "
        f"{100 * solved.crosstalk_sky_loss:.1f} % of its flux density, in the reference tile only. "
    )


def _misplaced(solved: SolvedSet) -> str:
    """Antennas whose places the files tell wrongly."""
    if not solved.misplaced:
        return ""
    said = "; ".join(str(one) for one in solved.misplaced)
    return f"{said[0].upper()}{said[1:]}: correct the array's table of positions. "


def _why(choice: Choice | None) -> str:
    if choice is None:
        return ""
    said = [f"{name}: {reason}" for name, reason in choice.reasons.items()]
    return "Choice: " + "; ".join(said) + "."
