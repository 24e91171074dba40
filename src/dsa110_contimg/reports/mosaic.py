"""The page of evidence for one mosaic."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dsa110_contimg.artifacts.mosaics import History, MosaicImage, Validation
from dsa110_contimg.artifacts.tiles import CalibratedTile, ImagedTile
from dsa110_contimg.calibration.antenna_state import in_words
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.mosaicking.flux_scale import TileScale
from dsa110_contimg.quality import maps, report
from dsa110_contimg.quality.maps import Map
from dsa110_contimg.quality.report import Section, Table
from dsa110_contimg.reports.calibration import calibration_section
from dsa110_contimg.reports.sources import source_sections
from dsa110_contimg.times import iso
from dsa110_contimg.wording import counted, noise_text


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
        ),
        *source_sections(validation.sources, validation.sky_catalog, mosaic.beam_major_rad),
        _maps_section(mosaic),
        _noise_section(mosaic, history.imaged.tiles),
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


def _maps_section(mosaic: MosaicImage) -> Section:
    rms, coverage = (mosaic.companion(kind) for kind in ("rms", "coverage"))
    drawn = maps.draw_maps(
        [
            Map("Brightness", mosaic.path, "brightness"),
            Map("Noise, propagated from the tiles", rms, "noise"),
            Map("Tiles that see a place", coverage, "count"),
        ],
        mosaic.median_rms_jy,
    )
    return Section("Maps", pictures=[("Brightness, noise and coverage", drawn)])


def _noise_section(mosaic: MosaicImage, images: Sequence[ImagedTile]) -> Section:
    """Pixels against the noise map, and the psf while its tile has images."""
    histogram = maps.draw_noise_histogram(mosaic.path, mosaic.companion("rms"))
    caption = "Pixels over the noise map: what lies left of the Gaussian is no noise"
    pictures = [(caption, histogram)]
    if images and (tile := images[len(images) // 2]).file("psf").exists():
        psf = read_fits(tile.file("psf"))
        beam = RestoringBeam(tile.beam_major_rad, tile.beam_minor_rad, tile.beam_angle_rad)
        caption = f"Psf of tile {tile.tile_id} with its half-power beam, and cuts through both"
        pictures.append((caption, maps.draw_psf(psf.pixels, psf.cell_rad, beam)))
    return Section("Noise and point spread function", pictures=pictures, side_by_side=True)


def _summary(mosaic: MosaicImage) -> str:
    beam = [a / ARCSEC_RAD for a in (mosaic.beam_major_rad, mosaic.beam_minor_rad)]
    first, last = iso(mosaic.start), iso(mosaic.end)
    centre = ""
    if mosaic.ra_deg is not None and mosaic.dec_deg is not None:
        centre = f"centre {mosaic.ra_deg:.4f} {mosaic.dec_deg:+.4f} degrees (ICRS), "
    return (
        f"{counted(len(mosaic.tile_ids), 'tile')}, observed {first} to {last} UTC, written "
        f"{iso(time.time())} UTC, method {mosaic.method}. "
        f"Median rms {noise_text(mosaic.median_rms_jy, mosaic.expected_rms_jy)} over "
        f"{mosaic.observed_deg2:.1f} square degrees, {centre}restoring beam {beam[0]:.1f} x "
        f"{beam[1]:.1f} arcsec at {np.rad2deg(mosaic.beam_angle_rad):.0f} degrees, "
        f"{mosaic.frequency_hz / 1e6:.1f} MHz."
    )


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
        "expected rms (mJy)",
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
            f"{1e3 * image.rms_jy:.3g}",
            "" if image.expected_rms_jy is None else f"{1e3 * image.expected_rms_jy:.3g}",
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
