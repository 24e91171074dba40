"""Results of single calls of a mosaic group, kept until the group is finished."""

import time

from sqlalchemy import delete

from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Step


def find_step(registry: Registry, group_id: str, key: str) -> JsonObject | None:
    """The result of a call as JSON; None if it was not made."""
    with registry.read() as session:
        row = session.get(Step, (key, group_id))
    return None if row is None else row.result


def keep_step(registry: Registry, group_id: str, key: str, stage: str, result: JsonObject) -> None:
    """Remember the result of a call."""
    with registry.write() as session:
        session.merge(Step(key=key, group_id=group_id, at=time.time(), stage=stage, result=result))


def clear_steps(registry: Registry, group_id: str) -> None:
    """Forget all calls of a group."""
    with registry.write() as session:
        session.execute(delete(Step).where(Step.group_id == group_id))
