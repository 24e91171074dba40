"""Options of mosaicking."""

from typing import Literal

from pydantic import Field

from dsa110_contimg.options import Options
from dsa110_contimg.telescope import SAME_ICRS_STRIP_DEG

Method = Literal["mean", "weighted", "pbweighted"]


class TileLimits(Options):
    """Limits for the tiles of a mosaic."""

    include_uncorrected: bool = Field(
        False, description="Take tiles that are not beam-corrected too"
    )
    min_dynamic_range: float = Field(
        5.0, gt=0, description="Minimum dynamic range (peak over rms) of a tile"
    )
    max_noise_ratio: float = Field(
        2.5, gt=0, description="Maximum rms of a tile over the median of the tiles"
    )
    max_beam_deviation: float = Field(
        0.2,
        gt=0,
        description="Maximum difference of an axis of a tile's restoring beam from the median, as "
        "a fraction",
    )
    max_flux_deviation: float = Field(
        0.25,
        gt=0,
        description="Maximum difference of a tile's flux ratio to the catalogue from the median of "
        "the tiles, as a fraction",
    )
    max_offset_beams: float = Field(
        0.2,
        gt=0,
        description="Maximum offset of a tile from the catalogue's positions, in beams "
        "(minor axis)",
    )
    max_pattern_share: float = Field(
        0.2, gt=0, le=1, description="Maximum share of a tile's variance in one stripe or ring"
    )
    max_dec_offset_deg: float = Field(
        SAME_ICRS_STRIP_DEG,
        gt=0,
        description="Maximum distance of a tile's declination from the median (degrees); tiles "
        "farther away are of another strip",
    )


class MosaicOptions(TileLimits):
    """Options for combining tiles into a mosaic."""

    method: Method = Field(
        "mean", description="mean, weighted (1/rms2) or pbweighted (response2/rms2)"
    )
    min_tiles: int = Field(1, ge=1, description="Minimum number of tiles that must pass the gates")
    flux_scale: bool = Field(
        True,
        description="Bring each tile to the flux scale that its sources, the other tiles and the "
        "catalogue agree on, where the difference is significant",
    )
    beam_tolerance: float = Field(
        0.02,
        ge=0,
        description="Tiles whose restoring beams differ by more than this fraction are brought to "
        "the smallest beam that all of them fit in",
    )
