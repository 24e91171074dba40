"""Plans of batch mosaics as rows."""

import time
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Plan
from dsa110_contimg.registry.read_models import ReadModel


def save_plan(registry: Registry, name: str, document: JsonObject) -> None:
    """Store a plan; one of the same name is replaced."""
    with registry.write() as session:
        session.merge(Plan(name=name, created=time.time(), document=document))


class PlanSummary(ReadModel):
    """A plan: when it was made (Unix seconds), number of tiles and method."""

    name: str
    created: float
    tiles: int
    method: str


class _Options(BaseModel):
    method: str = ""


class _PlannedImage(BaseModel):
    prefix: Path


class _Document(BaseModel):
    """What queries read of a plan's document."""

    options: _Options = _Options()
    tiles: list[_PlannedImage]


def list_plans(registry: Registry) -> list[PlanSummary]:
    """All plans, the newest first."""
    with registry.read() as session:
        rows = session.scalars(select(Plan).order_by(Plan.created.desc(), Plan.name)).all()
    documents = [_Document.model_validate(row.document) for row in rows]
    return [
        PlanSummary(
            name=row.name,
            created=row.created,
            tiles=len(document.tiles),
            method=document.options.method,
        )
        for row, document in zip(rows, documents, strict=True)
    ]


def planned_folders(session: Session) -> set[Path]:
    """Directories of the images that plans name."""
    documents = map(_Document.model_validate, session.scalars(select(Plan.document)))
    return {tile.prefix.parent for document in documents for tile in document.tiles}


def find_plan(registry: Registry, name: str) -> Plan | None:
    """A plan by its name."""
    with registry.read() as session:
        return session.get(Plan, name)


def delete_plan(registry: Registry, name: str) -> None:
    """Forget a plan."""
    with registry.write() as session:
        session.execute(delete(Plan).where(Plan.name == name))
