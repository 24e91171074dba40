"""Answers of queries: one class each, shared by pages, REST, `--json` and Python."""

from pydantic import BaseModel, ConfigDict


class ReadModel(BaseModel):
    """Base of the answers; each can be made from a row of the same columns."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class WorkSummary(ReadModel):
    """A tile or a mosaic group as a piece of work. Times are Unix seconds."""

    id: str
    start: float
    attempt: int
    failures: int
    owner: str
    lease_until: float
    not_before: float
    reason: str


class GroupMention(ReadModel):
    """A mosaic group that something belongs to."""

    id: str
    state: str


class LoggedEvent(ReadModel):
    """Something that operators may want to know."""

    at: float
    level: str
    subject: str
    message: str


class Neighbours(ReadModel):
    """Names of what was observed before and after."""

    before: str | None
    after: str | None
