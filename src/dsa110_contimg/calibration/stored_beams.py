"""Primary beams combined from many calibration sets, stored under the root with their validity.

A stored beam serves the tiles of its declinations from a time of observation on, until a later one
begins. It is never changed: what a tile is calibrated with follows from when it was observed, not
from when it was processed.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from dsa110_contimg import layout, records
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.durable import check_new, whole
from dsa110_contimg.errors import BadInputError, UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class StoredBeam:
    """A primary beam and the observations that it holds for.

    Attributes
    ----------
    name : str
    valid_from : float
        Unix seconds.
    dec_min_deg, dec_max_deg : float
        Apparent declinations.
    set_ids : tuple of str
        Calibration sets that it was combined from.
    beam : BeamMeasurement
    """

    name: str
    valid_from: float
    dec_min_deg: float
    dec_max_deg: float
    set_ids: tuple[str, ...]
    beam: BeamMeasurement


def beam_path(root: Path, name: str) -> Path:
    """Return the path of the beam of a name."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r}: a name has letters, digits and any of _ . + - only")
    return layout.beams(root) / f"{name}.json"


def save(root: Path, stored: StoredBeam) -> Path:
    """Store a beam under the root.

    Raises
    ------
    UsageError
        If there is one of that name, or one that begins at the same time for some of the same
        declinations.
    """
    path = beam_path(root, stored.name)
    check_new([path])
    for other in load_all(root):
        if other.valid_from == stored.valid_from and (
            stored.dec_min_deg <= other.dec_max_deg and other.dec_min_deg <= stored.dec_max_deg
        ):
            raise UsageError(
                f"beam {other.name!r} begins at the same time for some of the same declinations; "
                f"choose other limits, or remove {beam_path(root, other.name)}"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(json.dumps(records.to_json(stored), indent=1))
    return path


def load_all(root: Path) -> list[StoredBeam]:
    """Every stored beam, in the order of time.

    Raises
    ------
    BadInputError
        If one cannot be read.
    """
    stored = []
    for path in sorted(layout.beams(root).glob("*.json")):
        try:
            stored.append(records.from_json(StoredBeam, json.loads(path.read_text())))
        except ValueError as error:
            raise BadInputError(
                f"{path}: is not a stored beam ({str(error).splitlines()[0]}); remove it and make "
                "it anew with 'dsa110-contimg beam combine'"
            ) from error
    return sorted(stored, key=lambda one: (one.valid_from, one.name))


def serving(root: Path, time: float, dec_deg: float) -> StoredBeam | None:
    """The stored beam that holds for a tile, if there is one.

    Parameters
    ----------
    root : Path
    time : float
        Middle of the tile, Unix seconds.
    dec_deg : float
        Apparent declination.
    """
    serve = [
        one
        for one in load_all(root)
        if one.valid_from <= time and one.dec_min_deg <= dec_deg <= one.dec_max_deg
    ]
    return serve[-1] if serve else None
