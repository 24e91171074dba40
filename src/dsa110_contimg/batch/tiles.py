"""Which tiles a batch user means, imaged or converted."""

import math
from collections.abc import Iterable

from dsa110_contimg.artifacts.tiles import ConvertedTile, ImagedTile
from dsa110_contimg.batch.selection import Selection, TileSelection
from dsa110_contimg.errors import NothingToDo, UsageError
from dsa110_contimg.mosaicking import check_method
from dsa110_contimg.options import parse_options
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.tile_images import registered_images
from dsa110_contimg.registry.tiles import converted_tiles


def choose(registry: Registry, selection: Selection) -> list[ImagedTile]:
    """Images of the tiles that are meant, one a tile, in order of time.

    A tile with several images gives the one whose calibration was observed nearest in time.

    Raises
    ------
    UsageError
        If a tile is named of which there is no such image.
    """
    best: dict[str, tuple[float, str, ImagedTile]] = {}
    with registry.read() as session:
        for one in registered_images(
            session,
            since=selection.since,
            until=selection.until,
            tile_ids=selection.tiles,
            calibration_set=selection.calibration_set,
            beam_corrected_only=not selection.include_uncorrected,
        ):
            image = one.image
            if not _meant(image, selection):
                continue
            observed = one.calibration_observed
            distance = abs(image.start - observed) if observed is not None else math.inf
            candidate = (distance, image.calibration_set_id + one.options_key, image)
            held = best.get(image.tile_id)
            if held is None or candidate[:2] < held[:2]:
                best[image.tile_id] = candidate
    _check_named(selection.tiles or (), best, "image that was asked for")
    return sorted((image for _, _, image in best.values()), key=lambda image: image.start)


def choose_converted(registry: Registry, selection: TileSelection) -> list[ConvertedTile]:
    """Tiles whose Measurement Sets are kept, in order of time.

    Raises
    ------
    UsageError
        If one that is named is not there.
    NothingToDo
        If there is none.
    """
    with registry.read() as session:
        tiles = converted_tiles(session, selection.since, selection.until, selection.tiles)
    found = [tile for tile in tiles if _in_strip(tile.dec_deg, selection)]
    _check_named(selection.tiles or (), [tile.tile_id for tile in found], "Measurement Set")
    if not found:
        raise NothingToDo(
            "no Measurement Set is kept of the tiles that the selection means; widen it, or "
            "convert their sub-band files again"
        )
    return found


def query_tiles(
    registry: Registry,
    time_range: tuple[float | None, float | None] = (None, None),
    method: str = "mean",
    pb_corrected_only: bool = True,
) -> list[ImagedTile]:
    """Images of the tiles observed in a time range, one a tile.

    Parameters
    ----------
    registry : Registry
    time_range : tuple of float or None
        First and last observation time, Unix seconds, both included; None is open.
    method : str
        How they will be combined; each method may combine all of them.
    pb_corrected_only : bool
        Only images that are beam-corrected.

    Raises
    ------
    UsageError
        For an unknown method, or a time that is none of this telescope.
    """
    check_method(method)
    since, until = time_range
    wanted = {"since": since, "until": until, "include_uncorrected": not pb_corrected_only}
    selection = parse_options(Selection, wanted, "selection")
    return choose(registry, selection)


def _check_named(named: Iterable[str], found: Iterable[str], what: str) -> None:
    missing = sorted(set(named) - set(found))
    if missing:
        raise UsageError(f"no {what} of tile {', '.join(missing[:10])}")


def _in_strip(dec_deg: float, selection: TileSelection) -> bool:
    return (
        selection.declination is None
        or selection.declination[0] <= dec_deg <= selection.declination[1]
    )


def _meant(image: ImagedTile, selection: Selection) -> bool:
    if selection.max_rms_mjy is not None and not 1e3 * image.rms_jy <= selection.max_rms_mjy:
        return False
    if not _in_strip(image.dec_deg, selection):
        return False
    return selection.box is None or _reaches_into(image, selection.box)


def _reaches_into(image: ImagedTile, box_deg: tuple[float, float, float, float]) -> bool:
    """True if the box's point nearest to an image's centre is on the image.

    Nearest in declination first, then in right ascension: on a box of many degrees near a pole
    a tile beyond the image's edge may be taken too.
    """
    west, east, south, north = box_deg
    width = (east - west) % 360 if abs(east - west) < 360 else 360.0
    from_west = (image.ra_deg - west) % 360
    beyond = 0.0 if from_west <= width else min(from_west - width, 360 - from_west)
    dec_deg = min(max(image.dec_deg, south), north)
    half_deg = image.size * image.cell_arcsec / 7200
    return (
        abs(image.dec_deg - dec_deg) <= half_deg
        and beyond * math.cos(math.radians(dec_deg)) <= half_deg
    )
