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
