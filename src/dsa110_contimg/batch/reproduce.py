"""Make a published mosaic again from what its provenance tells, and compare.

The deepest inputs that are still kept are used: sub-band files, else raw Measurement Sets (both
with the calibration tables of then), else tile images.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dsa110_contimg import layout
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.mosaics import MAPS, MosaicTarget, companion
from dsa110_contimg.artifacts.provenance import MosaicProvenance, read_provenance
from dsa110_contimg.artifacts.tiles import (
    ConvertedTile,
    ConvertedTiles,
    ImagedTile,
    ImagedTiles,
    ManualFlags,
    SubbandFiles,
)
from dsa110_contimg.batch.plans import SUFFIXES
from dsa110_contimg.errors import ElsewhereError, UsageError
from dsa110_contimg.executors.calls import call
from dsa110_contimg.imaging.fits_image import write_casa_image
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.operations.batch_programs import protected
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.products import provenance
from dsa110_contimg.products.publish import sha256
from dsa110_contimg.registry.calibration_sets import solved_set
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.products import files_of_mosaic
from dsa110_contimg.registry.subband_files import files_of_tile
from dsa110_contimg.registry.tile_images import tile_images
from dsa110_contimg.registry.tiles import measurement_sets
from dsa110_contimg.sources import catalogue_file
from dsa110_contimg.stage_options import PipelineOptions
from dsa110_contimg.stages.calibration_apply import CalibrationApplyStage
from dsa110_contimg.stages.conversion import ConversionStage
from dsa110_contimg.stages.imaging import ImagingStage
from dsa110_contimg.stages.mosaic import MosaicStage
from dsa110_contimg.tasks.crossmatch import crossmatch

_GONE = "/nonexistent"
SUBBANDS, MEASUREMENT_SETS, IMAGES = "sub-band files", "raw Measurement Sets", "tile images"


@dataclass(frozen=True)
class Reproduction:
    """How a product compares with itself made again.

    Attributes
    ----------
    name : str
    made_from : str
        Which inputs were left.
    equal : dict of str to bool
        For each file whether it came out the same: images and picture byte for byte, the catalogue
        value for value.
    largest_difference : dict of str to float
        Of images that did not, in their unit.
    other_versions : dict of str to str
        Software that is not what it was: then and now.
    """

    name: str
    made_from: str
    equal: dict[str, bool]
    largest_difference: dict[str, float]
    other_versions: dict[str, str]

    @property
    def success(self) -> bool:
        """True if everything is equal."""
        return all(self.equal.values())


def reproduce(registry: Registry, root: Path, name: str, context: PipelineContext) -> Reproduction:
    """Make a mosaic again under the context's root, which is another one, and compare.

    Parameters
    ----------
    registry : Registry
    root : Path
        Where the product was made.
    name : str
        Published mosaic, or the file of one that `build` or `reprocess` made.
    context : PipelineContext
        Its root must be empty; what is made stays there.

    Raises
    ------
    UsageError
        If there is no such product, or its inputs are gone.
    """
    public = _files(registry, name)
    trail = _trail(name, public)
    product = trail.product
    options = PipelineOptions.from_dump(trail.options)
    layout.catalogues(context.root).symlink_to(layout.catalogues(root).resolve())
    made_from, images = _images(registry, root, trail, options, public["mosaic"].parent, context)
    stage = MosaicStage(options.mosaic)
    target = context.root / f"{product}.fits"
    with protected(root, [image.prefix.parent for image in images]):
        mosaic = stage.run(
            context, ImagedTiles(tuple(images)), target=MosaicTarget(product, target)
        )
    pairs = {"mosaic": mosaic.path, **{kind: mosaic.companion(kind) for kind in MAPS}}
    equal, largest = {}, {}
    for kind, path in pairs.items():
        if public[kind].is_dir():
            equal[kind] = _same_casa_image(path, public[kind], context.root / "made.image")
            continue
        equal[kind] = sha256(path) == sha256(public[kind])
        if not equal[kind]:
            largest[kind] = _difference(path, public[kind])
    equal["preview"] = mosaic.preview.read_bytes() == public["preview"].read_bytes()
    if "catalogue" in public:
        matching = call(
            crossmatch,
            mosaic_path=mosaic.path,
            output=context.root / "sources.fits",
            root=root,
            options=options.crossmatch,
        )
        matched = context.compute(matching, "catalogue")
        equal["catalogue"] = catalogue_file.same(matched.path, public["catalogue"])
    return Reproduction(name, made_from, equal, largest, _other_versions(trail))


def _files(registry: Registry, name: str) -> dict[str, Path]:
    """Files of a product by their kinds."""
    path = Path(name).absolute()
    if path.suffix in SUFFIXES and path.exists():
        beside = {"preview": path.with_suffix(".png"), "provenance": path.with_suffix(".json")}
        return {"mosaic": path, **{kind: companion(path, kind) for kind in MAPS}, **beside}
    return files_of_mosaic(registry, name)


def _same_casa_image(made: Path, public: Path, scratch: Path) -> bool:
    """True if a FITS file written as CASA image has the pixels and the mask of another one."""
    from casacore.images import image

    write_casa_image(scratch, made)
    first, second = image(str(scratch)), image(str(public))
    return bool(
        np.array_equal(first.getdata(), second.getdata(), equal_nan=True)
        and np.array_equal(first.getmask(), second.getmask())
    )


def _trail(name: str, public: Mapping[str, Path]) -> MosaicProvenance:
    path = public.get("provenance")
    if path is None or not path.exists():
        raise UsageError(
            f"{name}: is no published mosaic with provenance, nor a file with its provenance "
            "(.json) beside it; 'dsa110-contimg-mosaic list' shows what there is"
        )
    return read_provenance(path, MosaicProvenance)


def _images(
    registry: Registry,
    root: Path,
    trail: MosaicProvenance,
    options: PipelineOptions,
    home: Path,
    context: PipelineContext,
) -> tuple[str, Sequence[ImagedTile]]:
    """Tile images, made from the deepest inputs there are."""
    tiles = _where_now(registry, [made.tile for made in trail.calibrated])
    solved = _calibration_set(registry, trail.calibration_set, home)
    if tiles and solved is not None and solved.path.is_dir():
        by_hand = ManualFlags(trail.manual_flags)
        image_all = partial(_image_all, options, context, solved, by_hand)
        files = _subband_files(registry, tiles)
        if files:
            with protected(root, files):
                converted = ConversionStage(options.convert).run(context, SubbandFiles(files))
            return SUBBANDS, image_all(converted)
        if all(tile.host or tile.ms_path.is_dir() for tile in tiles):
            # On a machine that does not answer they are as good as gone.
            with suppress(ElsewhereError), protected(root, [tile.ms_path for tile in tiles]):
                return MEASUREMENT_SETS, image_all(ConvertedTiles(tuple(tiles)))
    images = [_image_now(registry, image) for image in trail.images]
    for image in images:
        path, expected = image.file("image"), trail.inputs[image.tile_id].sha256
        if not path.exists():
            raise UsageError(
                f"{trail.product}: cannot be made again: the sub-band files, Measurement Sets "
                f"and tile images of {image.tile_id} are gone (settings keep_...)"
            )
        if sha256(path) != expected:
            raise UsageError(f"{path}: is not the file that the product was made of")
    return IMAGES, images


def _where_now(registry: Registry, tiles: Sequence[ConvertedTile]) -> list[ConvertedTile]:
    """Tiles with the places of their Measurement Sets that the database tells."""
    with registry.read() as session:
        places = measurement_sets(session, [tile.tile_id for tile in tiles])
    found = [places.get(tile.tile_id, ("", "")) for tile in tiles]
    return [
        replace(tile, ms_path=Path(path or _GONE), host=host)
        for tile, (path, host) in zip(tiles, found, strict=True)
    ]


def _calibration_set(registry: Registry, solved: SolvedSet | None, home: Path) -> SolvedSet | None:
    if solved is None:
        return None
    if solved.path.is_dir() and solved.path.is_relative_to(home):
        # Kept with the product itself: a set of the same name may be another one.
        return solved
    with registry.read() as session:
        now = solved_set(session, solved.id)
    return solved if now is None else replace(solved, path=now.path)


def _image_now(registry: Registry, image: ImagedTile) -> ImagedTile:
    with registry.read() as session:
        for now in tile_images(session, [image.tile_id], [image.calibration_set_id]):
            if now.prefix.parent.name == image.prefix.parent.name:
                return replace(image, prefix=now.prefix)
    return image


def _image_all(
    options: PipelineOptions,
    context: PipelineContext,
    solved: SolvedSet,
    by_hand: ManualFlags,
    converted: ConvertedTiles,
) -> Sequence[ImagedTile]:
    calibrated = CalibrationApplyStage(options.apply).run(context, converted, solved, by_hand)
    return ImagingStage(options.image, options.validate).run(context, calibrated).tiles


def _subband_files(registry: Registry, tiles: Sequence[ConvertedTile]) -> list[Path]:
    """Files that the tiles were converted from; empty if one is gone."""
    files: list[Path] = []
    with registry.read() as session:
        for tile in tiles:
            found = [path for path in files_of_tile(session, tile.tile_id) if path.is_file()]
            if len(found) != tile.n_subbands:
                return []
            files += found
    return files


def _difference(a: Path, b: Path) -> float:
    first, second = read_fits(a).pixels, read_fits(b).pixels
    if first.shape != second.shape:
        return float("inf")
    if (np.isnan(first) != np.isnan(second)).any():
        return float("inf")
    return float(np.nanmax(np.abs(first - second), initial=0.0))


def _other_versions(trail: MosaicProvenance) -> dict[str, str]:
    now = provenance.software()
    return {
        name: f"{then} then, {now.get(name, 'absent')} now"
        for name, then in trail.software.items()
        if now.get(name) != then
    }
