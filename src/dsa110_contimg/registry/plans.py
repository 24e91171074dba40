"""Plans of batch mosaics as rows."""

import time

from sqlalchemy import delete, select

from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Plan


def save_plan(registry: Registry, name: str, document: JsonObject) -> None:
    """Store a plan; one of the same name is replaced."""
    with registry.write() as session:
        session.merge(Plan(name=name, created=time.time(), document=document))


def list_plans(registry: Registry) -> list[Plan]:
    """All plans, the newest first."""
    with registry.read() as session:
        return list(session.scalars(select(Plan).order_by(Plan.created.desc(), Plan.name)))


def find_plan(registry: Registry, name: str) -> Plan | None:
    """A plan by its name."""
    with registry.read() as session:
        return session.get(Plan, name)


def delete_plan(registry: Registry, name: str) -> None:
    """Forget a plan."""
    with registry.write() as session:
        session.execute(delete(Plan).where(Plan.name == name))
