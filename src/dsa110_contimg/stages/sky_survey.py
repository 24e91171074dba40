"""The HiPS of published mosaics, brought up to date with the database."""

from concurrent.futures import Future
from pathlib import Path

from sqlalchemy import select

from dsa110_contimg.pipeline.executors import Executor
from dsa110_contimg.products import survey
from dsa110_contimg.products.survey import Survey
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Mosaic, Product


def folder(root: Path) -> Path:
    """Where all HiPS lie."""
    return root / "products" / "hips"


def start_update(registry: Registry, root: Path, executor: Executor) -> "Future[Survey] | None":
    """Begin drawing what is new and taking away what is held now; None if there is neither."""
    with registry.read() as session:
        rows = session.execute(
            select(Product.name, Product.path)
            .join(Mosaic, Mosaic.name == Product.name)
            .where(Product.kind == "mosaic", Mosaic.state == "published")
        )
        published = {name: Path(path) for name, path in rows}
    if survey.is_current(folder(root), published):
        return None
    return executor.submit(survey.bring_up_to_date, folder=folder(root), published=published)
