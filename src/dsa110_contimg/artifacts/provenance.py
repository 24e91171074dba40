"""The provenance of a mosaic, as it is read back from its file."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.mosaics import MosaicImage, Validation
from dsa110_contimg.artifacts.tiles import CalibratedTile, ImagedTile
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.records import JsonObject
from dsa110_contimg.visibilities.manual_flags import ManualFlag


class InputFile(BaseModel):
    """A file that went into a product."""

    path: Path
    sha256: str


class PublishedFiles(BaseModel):
    """Files of a mosaic that were published together, as its provenance lists them.

    Attributes
    ----------
    product : str
        Name of the mosaic.
    mosaic : MosaicImage
    validation : Validation or None
        None where it was not judged.
    group_id : str
        Empty for a mosaic of batch.
    group_tiles : list of str
    files : dict of str to str
        Checksums by name.
    kinds : dict of str to str
    """

    model_config = ConfigDict(frozen=True)

    product: str
    mosaic: MosaicImage
    validation: Validation | None = None
    group_id: str = ""
    group_tiles: list[str] = []
    files: dict[str, str] = {}
    kinds: dict[str, str] = {}


class MosaicProvenance(PublishedFiles):
    """Inputs, options and software of a mosaic, with its published files.

    Attributes
    ----------
    inputs : dict of str to InputFile
        Tile images by tile.
    options : dict of str to dict
        Options of each stage, as they were dumped.
    software : dict of str to str
        Versions by package.
    images : tuple of ImagedTile
    calibrated : tuple of CalibratedTile
    calibration_set : SolvedSet or None
    manual_flags : tuple of ManualFlag
    """

    inputs: dict[str, InputFile] = {}
    options: dict[str, JsonObject] = {}
    software: dict[str, str] = {}
    images: tuple[ImagedTile, ...]
    calibrated: tuple[CalibratedTile, ...] = ()
    calibration_set: SolvedSet | None = None
    manual_flags: tuple[ManualFlag, ...] = ()


Provenance = TypeVar("Provenance", bound=PublishedFiles)


def read_provenance(path: Path, kind: type[Provenance]) -> Provenance:
    """Read the provenance of a mosaic, or the part of it that a class has.

    Raises
    ------
    BadInputError
        If the file cannot be read, or is of an older version that says too little.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise BadInputError(
            f"{path}: is no provenance of a mosaic, or of a version that says too little "
            f"({place or 'no JSON'}: {error.errors()[0]['msg']})"
        ) from error
