"""The page of evidence for one tile, made when somebody asks for it."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsa110_contimg import records
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.tiles import CalibratedTile, ImagedTile
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.products import provenance
from dsa110_contimg.quality import report
from dsa110_contimg.quality.preview import save_preview
from dsa110_contimg.quality.report import Section, Table
from dsa110_contimg.registry.calibration_sets import solved_set
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.products import provenance_of_groups
from dsa110_contimg.registry.tile_images import newest_image
from dsa110_contimg.registry.tiles import groups_with
from dsa110_contimg.reports.calibration import calibration_section
from dsa110_contimg.reports.sources import source_sections
from dsa110_contimg.sources.options import ComparisonOptions
from dsa110_contimg.tasks.tile_checks import compare_tile
from dsa110_contimg.wording import noise_text

_SHOWN = (("image", "before beam correction"), ("residual", "what CLEAN left"))


@dataclass(frozen=True)
class TileHistory:
    """What is known of a tile that was imaged.

    Attributes
    ----------
    image : ImagedTile
        The newest one.
    calibrated : CalibratedTile or None
        From the provenance of a mosaic that the tile was to be in.
    solved : SolvedSet or None
    mosaics : dict of str to str
        Names of those mosaics, and why the tile was left out, empty where it is in.
    """

    image: ImagedTile
    calibrated: CalibratedTile | None
    solved: SolvedSet | None
    mosaics: dict[str, str]


def history_of(registry: Registry, tile_id: str) -> TileHistory:
    """Look up a tile.

    Raises
    ------
    UsageError
        If it has no image, or no more.
    """
    with registry.read() as session:
        image = newest_image(session, tile_id)
        if image is None:
            raise UsageError(
                f"{tile_id}: has no tile image; it is not imaged yet, or its images were removed "
                "(setting keep_images_h)"
            )
        solved = solved_set(session, image.calibration_set_id)
        groups = [group.id for group in groups_with(session, tile_id, image.start)]
        paths = provenance_of_groups(session, groups)
    calibrated, mosaics = None, {}
    for path in paths:
        trail = json.loads(path.read_text()) if path.exists() else {}
        mosaics[path.stem] = str(trail.get("left_out", {}).get(tile_id, ""))
        for made in trail.get("calibrated", []):
            if made["tile"]["tile_id"] == tile_id:
                calibrated = records.from_json(CalibratedTile, made)
    return TileHistory(image, calibrated, solved, mosaics)


def tile_report(known: TileHistory, root: Path, comparison: ComparisonOptions) -> str:
    """The page as HTML.

    Parameters
    ----------
    known : TileHistory
    root : Path
        Where catalogues lie.
    comparison : ComparisonOptions
        How the image is compared with a catalogue.
    """
    tile = known.image
    pictures = [(what, tile_picture(tile, kind)) for kind, what in _SHOWN]
    sections = [
        Section("Tile", _summary(known), pictures=pictures, side_by_side=True),
        Section("Against the catalogue", _checked(tile, comparison.sky_catalog)),
        *source_sections(
            compare_tile(tile, root, comparison), comparison.sky_catalog, tile.beam_major_rad
        ),
    ]
    if known.calibrated is not None:
        sections.append(_flags(known.calibrated))
    if known.solved is not None and known.solved.path.is_dir():
        sections.append(calibration_section(known.solved, None))
    rows = [
        *(
            ("in mosaic", f"{name}{': left out, ' if why else ''}{why}")
            for name, why in known.mosaics.items()
        ),
        ("calibration set", tile.calibration_set_id),
        ("image", str(tile.file("image"))),
        *provenance.software().items(),
    ]
    sections.append(Section("Provenance", table=Table(("what", "value"), rows)))
    return report.page(f"Tile {tile.tile_id}", "", sections)


def _summary(known: TileHistory) -> str:
    tile = known.image
    major, minor = (a / ARCSEC_RAD for a in (tile.beam_major_rad, tile.beam_minor_rad))
    remarks = "".join(f" {remark}." for remark in tile.remarks)
    return (
        f"{tile.duration_s:.0f} s, centre {tile.ra_deg:.3f} {tile.dec_deg:+.3f} degrees, "
        f"{tile.frequency_hz / 1e6:.1f} MHz. rms {noise_text(tile.rms_jy, tile.expected_rms_jy)}, "
        f"peak {tile.peak_jy:.3f} Jy/beam, restoring beam {major:.1f} x {minor:.1f} arcsec. "
        f"{tile.n_samples} visibilities, {tile.n_iterations} CLEAN iterations in {tile.n_major} "
        f"major cycles, {tile.n_subtracted} sources outside subtracted.{remarks}"
    )


def tile_picture(tile: ImagedTile, kind: str) -> bytes:
    """A tile's `image` (before beam correction) or `residual`, as PNG."""
    image = read_fits(tile.file(kind))
    beam = RestoringBeam(tile.beam_major_rad, tile.beam_minor_rad, tile.beam_angle_rad)
    buffer = io.BytesIO()
    save_preview(
        buffer, image.pixels, tile.rms_jy, image.cell_rad, beam, f"{tile.tile_id} {kind}", 1000
    )
    return buffer.getvalue()


def _checked(tile: ImagedTile, sky_catalog: str) -> str:
    check = tile.check
    if not check.n_sources:
        return f"Too few sources of {sky_catalog} to tell flux scale and positions."
    return (
        f"{check.n_sources} sources of {sky_catalog}: flux ratio {check.flux_ratio:.3f} +- "
        f"{check.flux_ratio_error:.3f}, offset {check.east_arcsec:+.2f} E "
        f"{check.north_arcsec:+.2f} N +- {check.offset_error_arcsec:.2f} arcsec. Strongest stripe "
        f"{100 * check.artefacts.stripe_share:.1f} %, strongest ring "
        f"{100 * check.artefacts.ring_share:.1f} % of the image's variance."
    )


def _flags(made: CalibratedTile) -> Section:
    rows = [(cause, f"{100 * share:.2f}") for cause, share in made.flag_causes.items()]
    dead = ", ".join(made.tile.dead_antennas) or "none"
    absent = ", ".join(f"sb{n:02d}" for n in made.tile.absent_subbands) or "none"
    return Section(
        "Flags",
        f"{100 * made.flagged_fraction:.1f} % of the samples of antennas and channels with data "
        f"are flagged. Dead antennas: {dead}; absent sub-bands: {absent}; samples not finite: "
        f"{made.tile.n_bad_samples}. Phases had moved by {np.round(made.phase_rms_deg, 1)} degrees "
        f"since the calibration; noise of one visibility {made.noise_jy:.2f} Jy. Sun "
        f"{made.tile.sun_deg:.0f}, Moon {made.tile.moon_deg:.0f} degrees away.",
        Table(("flagged first for", "share (%)"), rows),
    )
