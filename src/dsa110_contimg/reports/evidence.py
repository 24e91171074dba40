"""What a mosaic is published with: its report and its provenance."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg import records
from dsa110_contimg.artifacts.calibration import BANDPASS_NAME, SolvedSet
from dsa110_contimg.artifacts.mosaics import MAPS, Evidence, History, MosaicImage, Validation
from dsa110_contimg.artifacts.tiles import CalibratedTile, ImagedTile
from dsa110_contimg.calibration import tables
from dsa110_contimg.calibration.antenna_state import in_words
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.calibration.choice import Choice
from dsa110_contimg.calibration.source_scale import FluxScale
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.mosaicking.flux_scale import TileScale
from dsa110_contimg.products import provenance
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.quality import plots, report
from dsa110_contimg.quality.report import Section, Table
from dsa110_contimg.sky.beam_shape import AntennaBeams
from dsa110_contimg.sources.source_check import SourceCheck
from dsa110_contimg.times import iso


def write_evidence(
    mosaic: MosaicImage, validation: Validation, history: History, target: Path
) -> Evidence:
    """Write report and provenance beside the staged mosaic.

    The provenance, written last, says enough to put the product back into a database.

    Parameters
    ----------
    mosaic : MosaicImage
    validation : Validation
    history : History
    target : Path
        Directory of the public names.
    """
    stays = target == mosaic.path.parent
    trail = provenance.record(
        {image.tile_id: image.file("image") for image in history.imaged.tiles},
        history.options,
        product=mosaic.name,
        again=f"dsa110-contimg reproduce {mosaic.path if stays else mosaic.name}",
        tiles=list(mosaic.tile_ids),
        left_out=mosaic.left_out,
        calibration_sets=list(mosaic.calibration_set_ids),
    )
    page = mosaic.path.with_suffix(".html")
    page.write_text(mosaic_report(mosaic, validation, history, trail))
    files = [
        ("mosaic", mosaic.path),
        *((kind, mosaic.companion(kind)) for kind in MAPS),
        ("preview", mosaic.preview),
        ("report", page),
    ]
    trail |= {
        "group_id": history.group_id,
        "group_tiles": list(history.tile_ids),
        "files": {path.name: sha256(path) for _, path in files},
        "kinds": {path.name: kind for kind, path in files},
        "mosaic": records.to_json(replace(mosaic, path=target / mosaic.path.name)),
        "validation": records.to_json(validation),
        "images": [records.to_json(image) for image in history.imaged.tiles],
        # The database has all antennas.
        "calibrated": [
            records.to_json(replace(made, antennas=made.departures))
            for made in history.calibrated.tiles
        ],
        "calibration_set": None
        if history.calibration_set is None
        else records.to_json(history.calibration_set),
        "manual_flags": [records.to_json(flag) for flag in history.by_hand.flags],
    }
    written = mosaic.path.with_suffix(".json")
    written.write_text(json.dumps(trail, indent=1, default=str))
    return Evidence((*files, ("provenance", written)))


def evidence_of(mosaic_path: Path) -> Evidence:
    """The files of a mosaic that was staged earlier.

    Raises
    ------
    BadInputError
        If one of them is gone.
    """
    written = mosaic_path.with_suffix(".json")
    try:
        kinds = json.loads(written.read_text())["kinds"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(
            f"{written}: the provenance cannot be read ({error}); make the mosaic again with "
            "'dsa110-contimg retry'"
        ) from error
    files = [(kind, mosaic_path.with_name(name)) for name, kind in kinds.items()]
    for _, path in files:
        if not path.exists():
            raise BadInputError(
                f"{path}: is gone; make the mosaic again with 'dsa110-contimg retry'"
            )
    return Evidence((*files, ("provenance", written)))


def mosaic_report(
    mosaic: MosaicImage, validation: Validation, history: History, trail: Mapping[str, Any]
) -> str:
    """The page of evidence for one mosaic."""
    calibrated = {made.tile.tile_id: made for made in history.calibrated.tiles}
    sections = [
        Section("Mosaic", _summary(mosaic), pictures=[(mosaic.name, mosaic.preview.read_bytes())]),
        Section(
            "Gates",
            f"Reference catalogue: {validation.sky_catalog}. Sources that carry most of the "
            "catalogue's flux are left out of the flux ratio, because they set the calibration.",
            Table(
                ("gate", "verdict", "value", "limit", "note"),
                [(g.name, g.verdict, g.value_text, g.limit, g.note) for g in validation.gates],
                verdict_column=1,
            ),
            source_plots(validation.sources),
        ),
        _tiles_section(history.imaged.tiles, calibrated, mosaic),
    ]
    if history.calibration_set is not None:
        sections.append(calibration_section(history.calibration_set, history.choice))
    if history.seconds:
        sections.append(
            Section(
                "Timings",
                "In the run that finished the mosaic; what an earlier one had done took no time.",
                Table(
                    ("stage", "seconds"),
                    [(name, f"{seconds:.1f}") for name, seconds in history.seconds.items()],
                ),
            )
        )
    sections.append(
        Section(
            "Provenance",
            table=Table(
                ("what", "value"),
                [
                    *((name, version) for name, version in trail["software"].items()),
                    *((f"options: {k}", json.dumps(v)) for k, v in trail["options"].items()),
                    *((f"input: {k}", v["sha256"]) for k, v in trail["inputs"].items()),
                ],
            ),
        )
    )
    return report.page(mosaic.name, validation.verdict, sections)


def calibration_section(solved: SolvedSet, choice: Choice | None) -> Section:
    """What the data were calibrated with, and why with that."""
    table = tables.read(solved.path / BANDPASS_NAME)
    plot = plots.bandpass(table.frequencies_hz, table.gains.values[0], table.gains.flags[0])
    return Section(
        "Calibration",
        f"Set {solved.id}: reference antenna {solved.reference_antenna}, "
        f"{100 * solved.flagged_fraction:.1f} % of the bandpass flagged, median "
        f"signal-to-noise {solved.median_snr:.0f}, {solved.n_model_sources} model sources "
        f"of {solved.model_flux_jy:.2f} Jy apparent in all ({solved.sky_catalog})"
        f"{_unmodelled(solved)}; "
        f"{solved.channels_per_solution} channels per solution. {_scale(solved.flux_scale)} "
        f"{_beam(solved)} {_crosstalk(solved)}{_misplaced(solved)}"
        f"{_why(choice)}",
        pictures=[("Bandpass of every antenna; one colour a polarization", plot)],
    )


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


def _summary(mosaic: MosaicImage) -> str:
    beam = [a / ARCSEC_RAD for a in (mosaic.beam_major_rad, mosaic.beam_minor_rad)]
    first, last = iso(mosaic.start), iso(mosaic.end)
    return (
        f"{len(mosaic.tile_ids)} tiles, {first} to {last} UTC, method {mosaic.method}. "
        f"Median rms {1e3 * mosaic.median_rms_jy:.2f} mJy/beam over "
        f"{mosaic.observed_deg2:.1f} square degrees, restoring beam {beam[0]:.1f} x "
        f"{beam[1]:.1f} arcsec, {mosaic.frequency_hz / 1e6:.1f} MHz."
    )


def source_plots(sources: Sequence[SourceCheck]) -> list[tuple[str, bytes]]:
    """Flux densities and positions of strong sources against the catalogue."""
    bright = [source for source in sources if source.is_strong]
    if not bright:
        return []
    column = {
        name: np.array([getattr(s, name) for s in bright])
        for name in ("catalogue_jy", "measured_jy", "noise_jy", "east_arcsec", "north_arcsec")
    }
    return [
        (
            "Flux density of sources above 10 sigma against the catalogue",
            plots.flux_against_catalogue(
                column["catalogue_jy"], column["measured_jy"], column["noise_jy"]
            ),
        ),
        (
            "Positions against the catalogue",
            plots.position_offsets(column["east_arcsec"], column["north_arcsec"]),
        ),
    ]


def _tile_scale(scale: TileScale | None) -> str:
    if scale is None or not np.isfinite(scale.error):
        return ""
    applied = "divided out" if scale.applied else "left"
    return f"{scale.scale:.3f} +- {scale.error:.3f} ({applied})"


def _calibration_columns(made: CalibratedTile | None) -> list[str]:
    """What calibration says of a tile: flags, phases, antennas, absent sub-bands."""
    if made is None:
        return [""] * 8
    dead = made.tile.dead_antennas
    return [
        f"{100 * made.flagged_fraction:.1f}",
        ", ".join(f"{100 * v:.1f} {k}" for k, v in made.flag_causes.items() if v >= 5e-4),
        f"{made.phase_rms_deg:.1f}",
        f"{made.motion_arcsec:.1f}",
        ", ".join(
            f"{far.name}: {far.rms_jy:.1f} Jy (a source without a model lost "
            f"{100 * far.sky_loss:.2g} %)"
            for far in made.far_sources
        ),
        ", ".join(dead),
        ", ".join(
            f"{one.antenna} {'XY'[one.polarization]}: {in_words(one)}"
            for one in made.departures
            if one.antenna not in dead
        ),
        ", ".join(f"sb{n:02d}" for n in made.tile.absent_subbands),
    ]


def _tiles_section(
    images: Sequence[ImagedTile], calibrated: Mapping[str, CalibratedTile], mosaic: MosaicImage
) -> Section:
    """One row per tile; remarks that all tiles have are stated once above the table."""
    common = [
        remark
        for remark in (images[0].remarks if images else ())
        if all(remark in image.remarks for image in images)
    ]
    columns = (
        "tile",
        "",
        "rms (mJy)",
        "peak (Jy)",
        "flux scale",
        "flagged (%)",
        "why (%)",
        "phases moved (deg)",
        "sky moved (arcsec)",
        "taken off short baselines",
        "dead antennas",
        "notable antennas",
        "absent sub-bands",
        "remarks",
    )
    scales = dict(zip(mosaic.tile_ids, mosaic.scales, strict=False))
    rows = [
        [
            image.tile_id,
            mosaic.left_out.get(image.tile_id, "in the mosaic"),
            f"{1e3 * image.rms_jy:.2f}",
            f"{image.peak_jy:.3f}",
            _tile_scale(scales.get(image.tile_id)),
            *_calibration_columns(calibrated.get(image.tile_id)),
            "; ".join(remark for remark in image.remarks if remark not in common),
        ]
        for image in images
    ]
    shown = {image.tile_id for image in images}
    rows += [
        [name, reason, *[""] * (len(columns) - 2)]
        for name, reason in mosaic.left_out.items()
        if name not in shown
    ]
    said = "All tiles: " + "; ".join(common) + "." if common else ""
    return Section("Tiles", said, Table(columns, rows))
