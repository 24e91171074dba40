"""Which tile images go into a mosaic, and on which flux scale."""

from collections.abc import Sequence

import numpy as np

from dsa110_contimg.artifacts.tiles import ImagedTile
from dsa110_contimg.errors import NothingToDo
from dsa110_contimg.mosaicking import flux_scale, gates
from dsa110_contimg.mosaicking.flux_scale import TileScale
from dsa110_contimg.mosaicking.options import MosaicOptions


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
