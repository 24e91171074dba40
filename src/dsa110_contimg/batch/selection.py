"""What a batch user can ask of tiles; apart from the database, so that `--help` is quick."""

from typing import Self

from pydantic import Field

from dsa110_contimg.options import Box, Names, Options, Range, UnixTime
from dsa110_contimg.records import STORED

_MAX_TILES = 10_000


class TileSelection(Options):
    """Which observations; what is not given is open."""

    since: UnixTime | None = Field(
        None, description="First observation time: ISO, MJD or Unix seconds", allow_inf_nan=False
    )
    until: UnixTime | None = Field(
        None, description="Last observation time: ISO, MJD or Unix seconds", allow_inf_nan=False
    )
    declination: Range | None = Field(
        None, description="Lowest and highest declination of the tile's centre, deg: LOW,HIGH"
    )
    tiles: Names | None = Field(
        None, max_length=_MAX_TILES, description="Only these tiles: NAME,NAME,..."
    )

    @classmethod
    def of(cls, request: "TileSelection") -> Self:
        """The selection in a request, which has fields of its own too."""
        given = {name: getattr(request, name) for name in cls.model_fields}
        return cls.model_validate(given, context={STORED: True})


class Selection(TileSelection):
    """Which images of tiles."""

    box: Box | None = Field(
        None,
        description="Part of the sky that the image reaches into, deg: RA1,RA2,DEC1,DEC2 (eastward "
        "from RA1 to RA2, also across RA 0)",
    )
    max_rms_mjy: float | None = Field(
        None, gt=0, description="Largest noise of the image, mJy/beam"
    )
    calibration_set: str | None = Field(
        None, max_length=160, description="Only images calibrated with this set"
    )
    include_uncorrected: bool = Field(
        False, description="Take tiles that are not beam-corrected too"
    )
