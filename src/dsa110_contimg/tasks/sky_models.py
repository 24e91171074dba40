"""Make sky models from the options of calibration and imaging."""

from pathlib import Path

from dsa110_contimg.sky import catalogues
from dsa110_contimg.sky.model import SkyModel, in_beam
from dsa110_contimg.sky.options import SkyModelOptions
from dsa110_contimg.visibilities import observations
from dsa110_contimg.visibilities.data import Visibilities


def sky_model(vis: Visibilities, root: Path, options: SkyModelOptions) -> SkyModel:
    """Catalogue sources that the beam sees during a tile."""
    catalogue = catalogues.load(root, options.sky_catalog)
    return in_beam(
        catalogue,
        vis.beam_axis,
        float(vis.frequencies_hz.mean()),
        vis.dish_m,
        observations.year(float(vis.times_jd[0])),
        options.model_radius_deg,
        options.model_min_jy,
    )
