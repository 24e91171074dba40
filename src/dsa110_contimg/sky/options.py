"""Options of the sky model."""

from pydantic import Field

from dsa110_contimg.options import Options


class CatalogueOptions(Options):
    """Which catalogue the sky is known from."""

    sky_catalog: str = Field("nvss", description="Catalogue of the sky")


class SkyModelOptions(CatalogueOptions):
    """Which sources of the catalogue the data are compared with."""

    model_radius_deg: float = Field(
        5.0, gt=0, description="Maximum distance of model sources from the tile's centre (degrees)"
    )
    model_min_jy: float = Field(
        0.005, ge=0, description="Minimum apparent flux density of model sources (Jy)"
    )
