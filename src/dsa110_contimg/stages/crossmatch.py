"""Stage 9: sources of a mosaic, matched with a catalogue, and their light curves."""

from dataclasses import replace

from dsa110_contimg import layout
from dsa110_contimg.artifacts.mosaics import Crossmatch, PublishedMosaic
from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.fresh import fresh_path
from dsa110_contimg.light_curves.following import follow
from dsa110_contimg.pipeline.context import StageContext
from dsa110_contimg.pipeline.stage import Stage
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.mosaics import set_crossmatch
from dsa110_contimg.registry.products import add_products, publish_files
from dsa110_contimg.registry.states import CrossmatchState
from dsa110_contimg.sources import catalogue_file
from dsa110_contimg.sources.options import CrossmatchOptions
from dsa110_contimg.stages.state import open_registry
from dsa110_contimg.tasks.crossmatch import crossmatch


class CrossmatchStage(Stage):
    """Cross-matches the published mosaic; the catalogue goes to `products/catalogues`."""

    def __init__(self, options: CrossmatchOptions | None = None, registry: Registry | None = None):
        self.options = options or CrossmatchOptions()
        self.registry = registry

    def run(self, context: StageContext, published: PublishedMosaic) -> Crossmatch:
        """Find and match."""
        name = f"{published.name}_sources"
        matching = call(
            crossmatch,
            mosaic_path=published.path,
            output=fresh_path(layout.images(context.root), name, inside=f"{name}.fits"),
            root=context.root,
            options=self.options,
        )
        result = context.compute(matching, "catalogue")
        if not published.published:
            return result
        registry = open_registry(self.registry, context.root)
        folder = layout.published_catalogues(context.root)
        files = [("catalogue", result.path), *catalogue_file.companions(result.path)]
        rows = publish_files(registry, files, published.name, folder)
        news = follow(context, registry, published.name, result.path, self.options)
        with registry.write() as session:
            set_crossmatch(session, published.name, CrossmatchState.DONE)
            add_products(session, rows)
            for message in (_summary(result, self.options.sky_catalog), *news):
                record_event(session, published.name, message)
        return replace(result, path=folder / result.path.name)


def _summary(result: Crossmatch, catalogue: str) -> str:
    return (
        f"{result.n_sources} sources found, {result.n_matched} of them in {catalogue}, "
        f"{result.n_missing} missing, {result.n_discrepant} discrepant; "
        f"{result.scale_text()}"
    )
