"""What a mosaic is published with: its report and its provenance."""

import json
from dataclasses import replace
from pathlib import Path

from dsa110_contimg import records
from dsa110_contimg.artifacts.mosaics import MAPS, Evidence, History, MosaicImage, Validation
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.products import provenance
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.reports.mosaic import mosaic_report


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
