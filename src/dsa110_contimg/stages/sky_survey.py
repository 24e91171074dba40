"""The HiPS of published mosaics, brought up to date with the database."""

from concurrent.futures import Future
from pathlib import Path

from sqlalchemy import select

from dsa110_contimg import layout
from dsa110_contimg.pipeline.executors import Executor
from dsa110_contimg.products import survey
from dsa110_contimg.products.survey import Published, Survey
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Mosaic, Product


def start_update(registry: Registry, root: Path, executor: Executor) -> "Future[Survey]":
    """Begin drawing what is new and taking away what is held now, if there is either."""
    published = _published(registry)
    return executor.submit(survey.bring_up_to_date, folder=layout.hips(root), published=published)


def is_current(registry: Registry, root: Path) -> bool:
    """True if every published mosaic is drawn, and no other."""
    return survey.is_current(layout.hips(root), _published(registry))


def _published(registry: Registry) -> dict[str, Published]:
    with registry.read() as session:
        rows = session.execute(
            select(Product.name, Product.path, Product.sha256)
            .join(Mosaic, Mosaic.name == Product.name)
            .where(Product.kind == "mosaic", Mosaic.state == "published")
        )
        return {name: Published(Path(path), sha256) for name, path, sha256 in rows}
