"""Stage 8: products under their public names, if validation passed."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from dsa110_contimg.calibration import tables
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.products import provenance
from dsa110_contimg.products.publish import publish_file, sha256
from dsa110_contimg.quality import plots, report
from dsa110_contimg.quality.gates import Verdict
from dsa110_contimg.quality.report import Section, Table
from dsa110_contimg.registry import claims, records
from dsa110_contimg.registry.models import Event, GroupState, Mosaic, Product
from dsa110_contimg.stages.calibration_apply import CalibratedTile
from dsa110_contimg.stages.calibration_solve import BANDPASS_NAME
from dsa110_contimg.stages.imaging import ImagedTile
from dsa110_contimg.stages.mosaic import MAPS, MosaicImage
from dsa110_contimg.stages.registration import RegisteredMosaic
from dsa110_contimg.stages.state import open_registry
from dsa110_contimg.stages.validation import Validation


@dataclass(frozen=True)
class PublishedMosaic:
    """What became of a mosaic.

    Attributes
    ----------
    name : str
    published : bool
        False if it was held.
    path, preview, report : Path
        Public paths if published, else where it is staged.
    reason : str
        Why it was held.
    """

    name: str
    published: bool
    path: Path
    preview: Path
    report: Path
    reason: str = ""


class PublishingStage(Stage):
    """Publishes the registered mosaic with its maps, picture, report and provenance.

    Runs where the database is. Only a verdict of `passed` publishes; anything else is held for
    an operator.
    """

    inputs = ("registered", "mosaic", "validation")
    outputs = ("published",)

    def __init__(self, options: Mapping[str, Any] | None = None):
        self.options = options or {}

    def run(self, context: PipelineContext) -> Mapping[str, Any]:
        """Publish or hold."""
        mosaic: MosaicImage = context["mosaic"]
        validation: Validation = context["validation"]
        registered: RegisteredMosaic = context["registered"]
        claim = context.get("claim")
        passed = validation.verdict is Verdict.PASSED
        target = context.root / "products" / "mosaics"
        files = _write_evidence(context, mosaic, validation, self.options, target)
        page = mosaic.path.with_suffix(".html")
        rows = []
        if passed:
            known = _known_products(context)
            for kind, path in files:
                public = target / path.name
                checksum = publish_file(path, public, orphaned=str(public) not in known)
                rows.append((kind, public, checksum))
        reason = "" if passed else validation.reasons()
        now = time.time()
        with open_registry(context).write() as session:
            row = session.get_one(Mosaic, registered.name)
            row.state = "published" if passed else "held"
            row.crossmatch = "owed" if passed else "done"
            for kind, path, checksum in rows:
                session.merge(
                    Product(
                        path=str(path),
                        kind=kind,
                        name=mosaic.name,
                        sha256=checksum,
                        size=path.stat().st_size,
                        published=now,
                    )
                )
            session.add(
                Event(
                    at=now, level="info" if passed else "warning",
                    subject=claim.id if claim is not None else mosaic.name,
                    message=f"published {target / mosaic.path.name}"
                    if passed
                    else f"held {mosaic.path}: {reason}",
                )
            )  # fmt: skip
            if claim is not None:
                claims.change(
                    session, claim, state=GroupState.PUBLISHED if passed else GroupState.HELD,
                    reason=reason, owner="", lease_until=0.0, finished_at=now,
                )  # fmt: skip
        home = target if passed else mosaic.path.parent
        return {
            "published": PublishedMosaic(
                name=mosaic.name,
                published=passed,
                path=home / mosaic.path.name,
                preview=home / mosaic.preview.name,
                report=home / page.name,
                reason=reason,
            )
        }


def _known_products(context: PipelineContext) -> set[str]:
    with open_registry(context).read() as session:
        return set(session.scalars(select(Product.path)))


def _write_evidence(
    context: PipelineContext, mosaic: MosaicImage, validation: Validation,
    options: Mapping[str, Any], target: Path,
) -> list[tuple[str, Path]]:  # fmt: skip
    """Write report and provenance beside the staged mosaic; kinds and paths of all its files.

    The provenance, written last, says enough to put the product back into a database.
    """
    images: Sequence[ImagedTile] = context.get("tile_images", ())
    claim = context.get("claim")
    trail = provenance.record(
        {image.tile_id: image.file("image") for image in images},
        options,
        product=mosaic.name,
        tiles=list(mosaic.tile_ids),
        left_out=mosaic.left_out,
        calibration_sets=list(mosaic.calibration_set_ids),
    )
    page = mosaic.path.with_suffix(".html")
    page.write_text(mosaic_report(context, mosaic, validation, trail))
    files = [
        ("mosaic", mosaic.path),
        *((kind, mosaic.companion(kind)) for kind in MAPS),
        ("preview", mosaic.preview),
        ("report", page),
    ]
    trail |= {
        "group_id": claim.id if claim is not None else "",
        "group_tiles": [image.tile_id for image in images],
        "files": {path.name: sha256(path) for _, path in files},
        "kinds": {path.name: kind for kind, path in files},
        "mosaic": records.to_json(replace(mosaic, path=target / mosaic.path.name)),
        "validation": records.to_json(validation),
    }
    written = mosaic.path.with_suffix(".json")
    written.write_text(json.dumps(trail, indent=1, default=str))
    return [*files, ("provenance", written)]


def mosaic_report(
    context: PipelineContext, mosaic: MosaicImage, validation: Validation, trail: Mapping[str, Any]
) -> str:
    """The page of evidence for one mosaic."""
    calibrated = {c.tile.tile_id: c for c in context.get("calibrated_tiles", ())}
    sections = [
        Section("Mosaic", _summary(mosaic), pictures=[(mosaic.name, mosaic.preview.read_bytes())]),
        Section(
            "Gates",
            f"Reference catalogue: {validation.sky_catalog}. Sources that carry most of the "
            "catalogue's flux are left out of the flux ratio, because they set the calibration.",
            Table(
                ("gate", "verdict", "value", "limit", "note"),
                [(g.name, g.verdict, f"{g.value:.4g}", g.limit, g.note) for g in validation.gates],
                verdict_column=1,
            ),
            _source_plots(validation),
        ),
        Section("Tiles", table=_tiles_table(context.get("tile_images", ()), calibrated, mosaic)),
    ]
    solved = context.get("calibration_set")
    if solved is not None:
        table = tables.read(solved.path / BANDPASS_NAME)
        plot = plots.bandpass(table.frequencies_hz, table.gains.values[0], table.gains.flags[0])
        sections.append(
            Section(
                "Calibration",
                f"Set {solved.id}: reference antenna {solved.reference_antenna}, "
                f"{100 * solved.flagged_fraction:.1f} % of the bandpass flagged, median "
                f"signal-to-noise {solved.median_snr:.0f}, {solved.n_model_sources} model sources "
                f"of {solved.model_flux_jy:.2f} Jy apparent in all ({solved.sky_catalog}); "
                f"{solved.channels_per_solution} channels a solution. {_why(context)}",
                pictures=[("Bandpass of every antenna; one colour a polarization", plot)],
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


def _why(context: PipelineContext) -> str:
    choice = context.get("calibration_choice")
    if choice is None:
        return ""
    said = [f"{name}: {reason}" for name, reason in choice.reasons.items()]
    return "Choice: " + "; ".join(said) + "."


def _summary(mosaic: MosaicImage) -> str:
    beam = [np.rad2deg(a) * 3600 for a in (mosaic.beam_major_rad, mosaic.beam_minor_rad)]
    first, last = (
        datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for t in (mosaic.start, mosaic.end)
    )
    return (
        f"{len(mosaic.tile_ids)} tiles, {first} to {last} UTC, method {mosaic.method}. "
        f"Median rms {1e3 * mosaic.median_rms_jy:.2f} mJy/beam over "
        f"{mosaic.observed_deg2:.1f} square degrees, restoring beam {beam[0]:.1f} x "
        f"{beam[1]:.1f} arcsec, {mosaic.frequency_hz / 1e6:.1f} MHz."
    )


def _source_plots(validation: Validation) -> list[tuple[str, bytes]]:
    bright = [s for s in validation.sources if s.measured_jy >= 10 * s.noise_jy]
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


def _tiles_table(
    images: Sequence[ImagedTile], calibrated: Mapping[str, CalibratedTile], mosaic: MosaicImage
) -> Table:
    rows = []
    for image in images:
        made = calibrated.get(image.tile_id)
        rows.append(
            (
                image.tile_id,
                mosaic.left_out.get(image.tile_id, "in the mosaic"),
                f"{1e3 * image.rms_jy:.2f}",
                f"{image.peak_jy:.3f}",
                f"{100 * made.flagged_fraction:.1f}" if made else "",
                ", ".join(f"{100 * v:.1f} {k}" for k, v in made.flag_causes.items() if v >= 5e-4)
                if made
                else "",
                f"{made.phase_rms_deg:.1f}" if made else "",
                ", ".join(made.tile.dead_antennas) if made else "",
                ", ".join(f"sb{n:02d}" for n in made.tile.absent_subbands) if made else "",
                "; ".join(image.remarks),
            )
        )
    return Table(
        (
            "tile", "", "rms (mJy)", "peak (Jy)", "flagged (%)", "why (%)",
            "phases moved (deg)", "dead antennas", "absent sub-bands", "remarks",
        ),
        rows,
    )  # fmt: skip
