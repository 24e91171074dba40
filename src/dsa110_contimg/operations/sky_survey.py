"""The HiPS of published mosaics, brought up to date with the database."""

from concurrent.futures import Future
from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.executors.base import Executor
from dsa110_contimg.products import survey
from dsa110_contimg.products.survey import Survey
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.products import published_mosaics


def start_update(registry: Registry, root: Path, executor: Executor) -> "Future[Survey]":
    """Begin drawing what is new and taking away what is held now, if there is either."""
    published = published_mosaics(registry)
    return executor.submit(survey.bring_up_to_date, folder=layout.hips(root), published=published)


def is_current(registry: Registry, root: Path) -> bool:
    """True if every published mosaic is drawn, and no other."""
    return survey.is_current(layout.hips(root), published_mosaics(registry))
