"""Options of the sky model."""

from typing import Literal

from pydantic import Field

from dsa110_contimg.options import Options


class CatalogueOptions(Options):
    """Choice of the catalogue of the sky."""

    sky_catalog: str = Field("nvss", description="Catalogue of the sky")


class SkyModelOptions(CatalogueOptions):
    """Selection of the catalogue sources in the sky model."""

    model_radius_deg: float = Field(
        5.0, gt=0, description="Maximum distance of model sources from the tile's centre (degrees)"
    )
    model_min_jy: float = Field(
        0.005, ge=0, description="Minimum apparent flux density of model sources (Jy)"
    )


class ImportOptions(Options):
    """Columns of a file that becomes a catalogue; without any, the file says what they are."""

    ra: str | None = Field(None, description="Column of right ascension")
    dec: str | None = Field(None, description="Column of declination")
    flux: str | None = Field(None, description="Column of integrated flux density")
    flux_unit: str | None = Field(
        None, description="Jy, mJy or uJy; without one, the unit that the file states"
    )
    peak: bool = Field(False, description="The column holds peaks; take them for compact sources")
    frequency: float | None = Field(
        None,
        gt=0,
        description="Frequency of the flux densities (MHz); without one, that which the file "
        "states, else 1400",
    )
    position_unit: Literal["deg", "hours", "rad"] | None = Field(
        None,
        description="Unit of the positions (hours: right ascension in hours, declination in "
        "degrees); without one, that which the file states, else deg",
    )
    frame: Literal["icrs", "fk5", "fk4", "galactic"] | None = Field(
        None,
        description="Frame of the positions; without one, that which the file states, else icrs",
    )
    major: str | None = Field(
        None, description="Column of major axes (FWHM without the survey's beam, arcsec)"
    )
    minor: str | None = Field(None, description="Column of minor axes")
    angle: str | None = Field(
        None, description="Column of position angles, degrees, north through east"
    )
