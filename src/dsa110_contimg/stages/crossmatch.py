"""Stage 9: sources of a mosaic, matched with a catalogue."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_contimg.errors import UsageError
from dsa110_contimg.imaging.fits_image import read_fits
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.pipeline.fresh import FreshPath
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.products.publish import publish_file
from dsa110_contimg.registry.models import Event, Mosaic, Product
from dsa110_contimg.sky import catalogues, matching
from dsa110_contimg.sky.catalogues import DEFAULT_SPECTRAL_INDEX
from dsa110_contimg.sources.finding import find_sources
from dsa110_contimg.stages.options import CrossmatchOptions
from dsa110_contimg.stages.publishing import PublishedMosaic
from dsa110_contimg.stages.state import open_registry


@dataclass(frozen=True)
class Crossmatch:
    """Outcome of a cross-match.

    Attributes
    ----------
    path : Path
        FITS table, one row a found source.
    n_sources, n_matched, n_missing : int
        Found; found and in the catalogue; in the catalogue on observed pixels, bright enough,
        and not found.
    flux_ratio : float
        Median of matched sources.
    """

    path: Path
    n_sources: int
    n_matched: int
    n_missing: int
    flux_ratio: float


def crossmatch(
    mosaic_path: Path, output: Path, root: Path, options: CrossmatchOptions
) -> Crossmatch:
    """Find the sources of a mosaic and match them with a catalogue.

    Parameters
    ----------
    mosaic_path : Path
    output : Path
        FITS table to write; must not exist.
    root : Path
        Where catalogues lie.
    options : CrossmatchOptions
    """
    from astropy.table import Table

    if output.exists():
        raise UsageError(f"{output}: exists already; choose another --output")
    image = read_fits(mosaic_path)
    found = find_sources(mosaic_path, options.threshold, image.frequency_hz)
    catalogue = catalogues.load(root, options.sky_catalog)
    ny, nx = image.pixels.shape
    middle = image.wcs.all_pix2world([[nx / 2, ny / 2]], 0)[0]
    radius_deg = float(np.rad2deg(np.hypot(nx, ny) / 2 * image.cell_rad))
    near = catalogue.cone(float(middle[0]), float(middle[1]), radius_deg)
    match = matching.nearest(found.ra_deg, found.dec_deg, near.ra_deg, near.dec_deg, options.radius)
    scaled = near.flux_jy * (image.frequency_hz / near.frequency_hz) ** DEFAULT_SPECTRAL_INDEX
    has = match.index >= 0
    partner = np.where(has, match.index, 0)
    columns = {
        "ra_deg": (found.ra_deg, "deg"),
        "dec_deg": (found.dec_deg, "deg"),
        "ra_error_arcsec": (found.ra_error_arcsec, "arcsec"),
        "dec_error_arcsec": (found.dec_error_arcsec, "arcsec"),
        "peak_jy": (found.peak_jy, "Jy/beam"),
        "peak_error_jy": (found.peak_error_jy, "Jy/beam"),
        "flux_jy": (found.flux_jy, "Jy"),
        "flux_error_jy": (found.flux_error_jy, "Jy"),
        "matched": (has, None),
        "catalogue_ra_deg": (_where(has, near.ra_deg, partner), "deg"),
        "catalogue_dec_deg": (_where(has, near.dec_deg, partner), "deg"),
        "catalogue_flux_jy": (_where(has, scaled, partner), "Jy"),
        "separation_arcsec": (np.where(has, match.separation_arcsec, np.nan), "arcsec"),
    }
    table = Table(
        [values for values, _ in columns.values()], names=list(columns),
        units=[unit for _, unit in columns.values()],
        meta={"MOSAIC": mosaic_path.name, "CATALOG": options.sky_catalog, "RADIUS": options.radius},
    )  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    table.write(output, format="fits")
    seen = _bright_and_observed(image, near, scaled, found.peak_jy)
    lost = np.setdiff1d(np.flatnonzero(seen), match.index[has])
    ratios = found.peak_jy[has] / scaled[match.index[has]]
    return Crossmatch(
        path=output,
        n_sources=len(found),
        n_matched=int(has.sum()),
        n_missing=int(lost.size),
        flux_ratio=float(np.median(ratios)) if ratios.size else float("nan"),
    )


def _where(has: np.ndarray, values: np.ndarray, partner: np.ndarray) -> np.ndarray:
    return np.where(has, values[partner], np.nan) if values.size else np.full(has.shape, np.nan)


def _bright_and_observed(
    image: Any, near: Any, scaled: np.ndarray, peaks: np.ndarray
) -> np.ndarray:
    """Catalogue sources on pixels with a number, twice as bright as the faintest found."""
    if not len(near):
        return np.zeros(0, bool)
    x, y = np.rint(image.wcs.all_world2pix(near.ra_deg, near.dec_deg, 0)).astype(int)
    ny, nx = image.pixels.shape
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    on = inside.copy()
    on[inside] = np.isfinite(image.pixels[y[inside], x[inside]])
    faintest = float(np.percentile(peaks, 10)) if peaks.size else 0.0
    return on & (scaled >= 2 * faintest)


class CrossmatchStage(Stage):
    """Cross-matches the published mosaic; the catalogue goes to `products/catalogues`."""

    inputs = ("published",)
    outputs = ("crossmatch",)

    def __init__(self, options: CrossmatchOptions | None = None):
        self.options = options or CrossmatchOptions()

    def run(self, context: PipelineContext) -> Mapping[str, Any]:
        """Find and match."""
        published: PublishedMosaic = context["published"]
        name = f"{published.name}_sources"
        call = {
            "mosaic_path": published.path,
            "output": FreshPath(context.root / "images", name, inside=f"{name}.fits"),
            "root": context.root,
            "options": self.options,
        }
        result: Crossmatch = context.map(crossmatch, [call], "catalogue")[0]
        if not published.published:
            return {"crossmatch": result}
        public = context.root / "products" / "catalogues" / f"{name}.fits"
        registry = open_registry(context)
        with registry.read() as session:
            orphaned = session.get(Product, str(public)) is None
        checksum = publish_file(result.path, public, orphaned=orphaned)
        now = time.time()
        with registry.write() as session:
            mosaic = session.get(Mosaic, published.name)
            if mosaic is not None:
                mosaic.crossmatch = "done"
            session.merge(
                Product(
                    path=str(public), kind="catalogue", name=published.name, sha256=checksum,
                    size=public.stat().st_size, published=now,
                )
            )  # fmt: skip
            session.add(
                Event(
                    at=now, level="info", subject=published.name,
                    message=f"{result.n_sources} sources found, {result.n_matched} of them in "
                    f"{self.options.sky_catalog}",
                )
            )  # fmt: skip
        return {"crossmatch": replace(result, path=public)}
