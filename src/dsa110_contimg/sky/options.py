"""Options of the sky model."""

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

    ra: str | None = Field(None, description="Column of right ascension, degrees")
    dec: str | None = Field(None, description="Column of declination, degrees")
    flux: str | None = Field(None, description="Column of integrated flux density")
    flux_unit: str | None = Field(
        None, description="Jy, mJy or uJy; without one, the unit that the file states"
    )
    peak: bool = Field(False, description="The column holds peaks; take them for compact sources")
    frequency: float = Field(1400.0, gt=0, description="Frequency of the flux densities (MHz)")
    major: str | None = Field(
        None, description="Column of major axes (FWHM without the survey's beam, arcsec)"
    )
    minor: str | None = Field(None, description="Column of minor axes")
    angle: str | None = Field(
        None, description="Column of position angles, degrees, north through east"
    )
