"""Combine tile images to one mosaic with its weight, rms and coverage maps."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsa110_contimg.artifacts.mosaics import MosaicImage, companion
from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.errors import NothingToDo, UsageError
from dsa110_contimg.imaging import header_cards
from dsa110_contimg.imaging.fits_image import Image, create_fits
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.mosaicking import beams, combine, grid
from dsa110_contimg.mosaicking.combined_tile import CombinedTile
from dsa110_contimg.mosaicking.flux_scale import TileScale
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.quality.preview import save_preview
from dsa110_contimg.robust import robust_rms
from dsa110_contimg.sky.astrometry import Site
from dsa110_contimg.tasks.mosaic_depth import depth_of
from dsa110_contimg.tasks.tile_selection import scales_of, select_tiles
from dsa110_contimg.telescope import DSA110

_MEDIAN_OF = 2**24
"""Pixels that the median rms of a large mosaic is taken of."""


def build_mosaic(
    images: Sequence[ImagedTile],
    output: Path,
    name: str,
    options: MosaicOptions,
    without: Mapping[str, str] | None = None,
) -> MosaicImage:
    """Combine tile images and write the mosaic.

    Parameters
    ----------
    images : sequence of ImagedTile
    output : Path
        FITS file to write; must not exist.
    name : str
        For header and preview.
    options : MosaicOptions
    without : mapping, optional
        Tiles that were to be in it and have no image, and why.

    Raises
    ------
    NothingToDo
        If no tile passes the gates.
    UsageError
        If the output exists.
    """
    if output.exists():
        raise UsageError(f"{output}: exists already; choose another name or allow overwriting")
    kept, left_out = select_tiles(images, options)
    scales = scales_of(kept) if options.flux_scale else ()
    tiles, beam = _tiles(kept, scales, options.beam_tolerance)
    area = grid.covering_grid([tile.geometry for tile in tiles], beam)
    frequency = float(np.mean([image.frequency_hz for image in kept]))
    start, end = kept[0].start, max(image.start + image.duration_s for image in kept)
    expected_rms = _expected_rms_jy(kept, tiles, options.method)
    header = _header(name, options, kept, scales, start, end)
    if expected_rms is not None:
        header[header_cards.EXPECTED_RMS_CARD] = (expected_rms, "[Jy/beam] expected median rms")
    pixels = np.broadcast_to(np.float32(0), area.shape)
    blank = replace(area.image(pixels), beam=beam, frequency_hz=frequency, header=header)
    units = {
        "": "Jy/beam",
        "weight": "" if options.method == "mean" else "Jy-2",
        "rms": "Jy/beam",
        "coverage": "",
    }
    with contextlib.ExitStack() as stack:
        brightness, weight, rms, coverage = (
            stack.enter_context(
                create_fits(companion(output, kind) if kind else output, replace(blank, unit=unit))
            )
            for kind, unit in units.items()
        )
        noise, observed_sr = [], 0.0
        for box, maps in combine.combine(area, tiles, options.method):
            at = box.slices
            brightness[at], weight[at] = maps.brightness, maps.weight
            rms[at], coverage[at] = maps.rms, maps.coverage
            seen = maps.coverage > 0
            noise.append(maps.rms[seen][:: 1 + brightness.size // _MEDIAN_OF])
            observed_sr += float(area.solid_angles_sr(box)[seen].sum())
        if observed_sr == 0:
            raise NothingToDo("no tile sees any pixel within its beam; nothing to combine")
        median_rms = float(np.median(np.concatenate(noise)))
        save_preview(output.with_suffix(".png"), brightness, median_rms, area.cell_rad, beam, name)
    return MosaicImage(
        name=name,
        path=output,
        method=options.method,
        tile_ids=tuple(image.tile_id for image in kept),
        left_out={**(without or {}), **left_out},
        start=start,
        end=end,
        calibration_set_ids=tuple(sorted({image.calibration_set_id for image in kept})),
        median_rms_jy=median_rms,
        frequency_hz=frequency,
        beam_major_rad=beam.major_rad,
        beam_minor_rad=beam.minor_rad,
        beam_angle_rad=beam.position_angle_rad,
        observed_deg2=float(np.rad2deg(np.rad2deg(observed_sr))),
        ra_deg=float(np.rad2deg(area.centre_rad[0])) % 360,
        dec_deg=float(np.rad2deg(area.centre_rad[1])),
        tiles=tuple(
            CombinedTile(image.start, image.duration_s, image.ra_deg, image.dec_deg)
            for image in kept
        ),
        scales=scales,
        expected_rms_jy=expected_rms,
    )


def _expected_rms_jy(
    images: Sequence[ImagedTile], tiles: Sequence[combine.Tile], method: str
) -> float | None:
    """Median noise of a mosaic of tiles that have their expected noise; None if one has none."""
    expected = [
        tile.rms_jy * image.expected_rms_jy / image.rms_jy
        for image, tile in zip(images, tiles, strict=True)
        if image.expected_rms_jy is not None
    ]
    if len(expected) < len(images):
        return None
    return depth_of(images, expected, method).median_rms_jy


def _tiles(
    images: Sequence[ImagedTile], scales: Sequence[TileScale], beam_tolerance: float
) -> tuple[list[combine.Tile], RestoringBeam]:
    """Tiles to combine and the beam of the mosaic, which they are brought to if theirs differ."""
    divisors = [one.divisor for one in scales] or [1.0] * len(images)
    shown = [
        RestoringBeam(image.beam_major_rad, image.beam_minor_rad, image.beam_angle_rad)
        for image in images
    ]
    if not beams.differ(shown, beam_tolerance):
        kept = [_tile(*one, None) for one in zip(images, divisors, strict=True)]
        return kept, beams.mean_beam(shown)
    beam = beams.common_beam(shown)
    return [_tile(*one, beam) for one in zip(images, divisors, strict=True)], beam


def _tile(image: ImagedTile, divisor: float, beam: RestoringBeam | None) -> combine.Tile:
    """A tile divided by its flux scale, and brought to a beam if one is given."""

    def load() -> tuple[Image, np.ndarray]:
        apparent = read_fits(image.file("image"))
        if divisor != 1:
            apparent = replace(apparent, pixels=apparent.pixels / np.float32(divisor))
        if beam is not None:
            apparent = beams.convolve(apparent, beam)
        return apparent, read_fits(image.file("pb")).pixels

    geometry = read_fits(image.file("image"))
    rms = image.rms_jy / divisor
    if beam is not None:
        rms = image.rms_jy * robust_rms(load()[0].pixels) / robust_rms(geometry.pixels)
    no_pixels = np.broadcast_to(np.float32(0), geometry.pixels.shape)
    return combine.Tile(replace(geometry, pixels=no_pixels), rms, load)


def _header(
    name: str,
    options: MosaicOptions,
    kept: Sequence[ImagedTile],
    scales: Sequence[TileScale],
    start: float,
    end: float,
) -> dict[str, object]:
    from astropy.time import Time

    # Tiles begin with the middle of their first integration.
    half_s = 0.5 * DSA110.integration_s
    band_hz = DSA110.band_top_hz - DSA110.band_bottom_hz
    begin, last = (Time(moment - half_s, format="unix", scale="utc") for moment in (start, end))
    header: dict[str, object] = {
        **header_cards.origin(DSA110.common_name),
        **header_cards.times(begin, last),
        **header_cards.place_and_band(Site.of(DSA110), band_hz),
        "OBJECT": name,
        "METHOD": (options.method, "combination"),
        "NTILES": (len(kept), "tiles combined"),
        "PBCOR": True,
    }
    for number, image in enumerate(kept[:99], start=1):
        header[f"TILE{number:02d}"] = image.tile_id
    for number, scale in enumerate(scales[:99], start=1):
        header[f"FSCALE{number:02d}"] = (scale.divisor, "flux scale of that tile, divided out")
    for number, calset in enumerate(sorted({i.calibration_set_id for i in kept})[:99], start=1):
        header[f"CALSET{number:02d}"] = calset
    return header
