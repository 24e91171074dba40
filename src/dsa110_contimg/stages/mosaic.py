"""Stage 5: many tile images, one mosaic with its weight, rms and coverage maps."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg import __version__, layout
from dsa110_contimg.artifacts.mosaics import MosaicImage, MosaicTarget, companion, mosaic_name
from dsa110_contimg.artifacts.tiles import ConvertedTile, ConvertedTiles, ImagedTile, ImagedTiles
from dsa110_contimg.errors import NothingToDo, UsageError
from dsa110_contimg.imaging.fits_image import Image, create_fits, read_fits
from dsa110_contimg.imaging.restore import RestoringBeam
from dsa110_contimg.mosaicking import beams, combine, flux_scale, gates, grid
from dsa110_contimg.mosaicking.flux_scale import TileScale
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.mosaicking.transits import CombinedTile
from dsa110_contimg.pipeline.calls import call
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.fresh import fresh_path
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.quality.preview import save_preview
from dsa110_contimg.robust import robust_rms

_STAGED = MosaicTarget()
_MEDIAN_OF = 2**24
"""Pixels that the median rms of a large mosaic is taken of."""
_COARSE_PIXELS = 256
"""Noise varies slowly: it is predicted on at least so many pixels a side of a tile."""


def select_tiles(
    images: Sequence[ImagedTile], options: MosaicOptions
) -> tuple[list[ImagedTile], dict[str, str]]:
    """Tiles that pass the gates, in order of time, and why the others do not.

    Raises
    ------
    NothingToDo
        If too few are left.
    """
    ordered = sorted(images, key=lambda image: (image.start, image.calibration_set_id))
    reasons = gates.tile_gates([facts(image) for image in ordered], options)
    kept = [image for image in ordered if image.tile_id not in reasons]
    if len(kept) < options.min_tiles:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise NothingToDo(
            f"{len(kept)} tiles to combine, at least {options.min_tiles} are needed"
            + (f" (left out: {why})" if why else "")
        )
    return kept, reasons


def facts(image: ImagedTile) -> gates.TileFacts:
    """What the tile gates look at."""
    check = image.check
    return gates.TileFacts(
        name=image.tile_id,
        rms_jy=image.rms_jy,
        peak_jy=image.peak_jy,
        beam_major_rad=image.beam_major_rad,
        beam_minor_rad=image.beam_minor_rad,
        cell_arcsec=image.cell_arcsec,
        dec_deg=image.dec_deg,
        beam_corrected=image.beam_corrected,
        n_not_finite=check.n_not_finite,
        n_sources=check.n_sources,
        flux_ratio=check.flux_ratio,
        flux_ratio_error=check.flux_ratio_error,
        offset_arcsec=float(np.hypot(check.east_arcsec, check.north_arcsec)),
        offset_error_arcsec=check.offset_error_arcsec,
        stripe_share=check.artefacts.stripe_share,
        ring_share=check.artefacts.ring_share,
    )


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
    header = _header(name, options, kept, scales, start, end)
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
    )


def scales_of(images: Sequence[ImagedTile]) -> tuple[TileScale, ...]:
    """Flux scale of each tile, by the sources that the tiles have in common with a catalogue."""
    rows = [(number, one) for number, image in enumerate(images) for one in image.check.photometry]
    found = [one for _, one in rows]
    return flux_scale.tile_scales(
        np.array([number for number, _ in rows], int),
        flux_scale.same_sources([(one.ra_deg, one.dec_deg) for one in found]),
        np.array([one.measured_jy / one.catalogue_jy for one in found]),
        np.array([one.noise_jy / one.measured_jy for one in found]),
        len(images),
    )


@dataclass(frozen=True)
class Depth:
    """What a mosaic will reach.

    Attributes
    ----------
    median_rms_jy, best_rms_jy : float
        Of observed pixels.
    observed_deg2 : float
    """

    median_rms_jy: float
    best_rms_jy: float
    observed_deg2: float


def predict_depth(images: Sequence[ImagedTile], options: MosaicOptions) -> Depth:
    """Noise of a mosaic before it is made: that of its tiles, combined on a coarse grid.

    Parameters
    ----------
    images : sequence of ImagedTile
    options : MosaicOptions

    Raises
    ------
    NothingToDo
        If no tile passes the gates.
    """
    kept, _ = select_tiles(images, options)
    tiles = [_coarse_tile(image) for image in kept]
    area = grid.covering_grid([tile.geometry for tile in tiles])
    rms, observed_sr = [], 0.0
    for box, maps in combine.combine(area, tiles, options.method):
        seen = maps.coverage > 0
        rms.append(maps.rms[seen])
        observed_sr += float(area.solid_angles_sr(box)[seen].sum())
    found = np.concatenate(rms)
    return Depth(
        float(np.median(found)), float(found.min()), float(np.rad2deg(np.rad2deg(observed_sr)))
    )


def _coarse_tile(image: ImagedTile) -> combine.Tile:
    """A tile without content, thinned out."""
    whole = read_fits(image.file("pb"))
    step = max(1, min(whole.pixels.shape) // _COARSE_PIXELS)
    response = np.ascontiguousarray(whole.pixels[::step, ::step])
    x, y = whole.reference_pixel
    blank = replace(
        whole,
        pixels=np.zeros_like(response),
        cell_rad=whole.cell_rad * step,
        reference_pixel=(x / step, y / step),
    )
    return combine.Tile(blank, image.rms_jy, lambda: (blank, response))


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
        beam = RestoringBeam(
            float(np.mean([one.major_rad for one in shown])),
            float(np.mean([one.minor_rad for one in shown])),
            _mean_axis([one.position_angle_rad for one in shown]),
        )
        return [_tile(*one, None) for one in zip(images, divisors, strict=True)], beam
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


def _mean_axis(angles_rad: Sequence[float]) -> float:
    """Mean of directions that repeat every half turn."""
    doubled = np.exp(2j * np.asarray(angles_rad)).mean()
    return float(np.mod(np.angle(doubled) / 2, np.pi))


def _header(
    name: str,
    options: MosaicOptions,
    kept: Sequence[ImagedTile],
    scales: Sequence[TileScale],
    start: float,
    end: float,
) -> dict[str, Any]:
    from astropy.time import Time

    header: dict[str, Any] = {
        "OBJECT": name,
        "TELESCOP": "OVRO_MMA",
        "DATE-OBS": Time(start, format="unix", scale="utc").isot,
        "DATE-END": Time(end, format="unix", scale="utc").isot,
        "TIMESYS": "UTC",
        "ORIGIN": f"dsa110-contimg {__version__}",
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


class MosaicStage(Stage):
    """Combines tile images.

    Without a target the mosaic is staged under the root with streaming's name.
    """

    def __init__(self, options: MosaicOptions | None = None):
        self.options = options or MosaicOptions()

    def run(
        self,
        context: StageContext,
        imaged: ImagedTiles,
        converted: ConvertedTiles | None = None,
        target: MosaicTarget = _STAGED,
    ) -> MosaicImage:
        """Combine."""
        images = sorted(imaged.tiles, key=lambda image: image.start)
        if not images:
            raise NothingToDo("there are no tile images to combine")
        # Named after all tiles of the group, those too that could not be imaged.
        group: Sequence[ConvertedTile | ImagedTile] = (
            imaged.tiles if converted is None else converted.tiles
        )
        first = min(group, key=lambda tile: tile.start)
        end = max(tile.start + tile.duration_s for tile in group)
        name = target.name or mosaic_name(first.tile_id, first.start, end)
        output = target.path or fresh_path(layout.images(context.root), name, inside=f"{name}.fits")
        combination = call(
            build_mosaic,
            images=images,
            output=output,
            name=name,
            options=self.options,
            without=imaged.left_out,
        )
        return context.compute(combination, "mosaic")
