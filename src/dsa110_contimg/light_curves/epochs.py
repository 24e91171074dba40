"""Epochs of light curves: the images that sources are measured on."""

from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import MosaicImage, companion
from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.registry import light_curves as rows
from dsa110_contimg.registry.database import Session
from dsa110_contimg.registry.mosaics import registered_mosaics
from dsa110_contimg.registry.tile_images import tile_images
from dsa110_contimg.tasks.photometry import Epoch

_MAX_EARLIER = 50


def mosaic_epoch(root: Path, mosaic: MosaicImage) -> Epoch:
    """A published mosaic as an epoch."""
    path = layout.published_mosaics(root) / f"{mosaic.name}.fits"
    return Epoch(
        mosaic.name,
        rows.MOSAIC,
        path,
        companion(path, "rms"),
        mosaic.median_rms_jy,
        None,
        (mosaic.start + mosaic.end) / 2,
        mosaic.frequency_hz,
        mosaic.end - mosaic.start,
        mosaic.tiles,
        mosaic.method,
    )


def tile_epochs(session: Session, mosaic: MosaicImage) -> list[Epoch]:
    """Tiles of a mosaic whose images exist and were not measured before."""
    divisors = dict(zip(mosaic.tile_ids, (one.divisor for one in mosaic.scales), strict=False))
    new = set(mosaic.tile_ids) - rows.measured_images(session, mosaic.tile_ids)
    found = {
        image.tile_id: _tile_epoch(image, divisors.get(image.tile_id, 1.0))
        for image in tile_images(session, new, mosaic.calibration_set_ids)
        if image.file("image").exists() and image.file("pb").exists()
    }
    return [found[tile_id] for tile_id in sorted(found)]


def _tile_epoch(image: ImagedTile, divisor: float) -> Epoch:
    return Epoch(
        image.tile_id,
        rows.TILE,
        image.file("image"),
        None,
        image.rms_jy,
        image.file("pb"),
        image.start + image.duration_s / 2,
        image.frequency_hz,
        image.duration_s,
        divisor=divisor,
    )


def earlier_epochs(session: Session, root: Path, mosaic: MosaicImage) -> list[Epoch]:
    """The newest other mosaics that were measured and whose files exist."""
    names = rows.newest_measured_mosaics(session, mosaic.name, _MAX_EARLIER)
    epochs = [mosaic_epoch(root, one) for one in registered_mosaics(session, names)]
    return [epoch for epoch in epochs if epoch.path.exists()]
