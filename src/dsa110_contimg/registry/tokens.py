"""Tokens of the REST interface: made once, shown once, kept as checksums.

A secret has 256 random bits, so a plain SHA-256 of it cannot be guessed back.
"""

import hashlib
import hmac
import secrets
import time
from enum import StrEnum

from sqlalchemy import select

from dsa110_contimg.errors import UsageError
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.models import Token
from dsa110_contimg.registry.read_models import ReadModel

_PREFIX = "contimg"


class Scope(StrEnum):
    """What a token allows; write includes read."""

    READ = "read"
    WRITE = "write"


def create(registry: Registry, name: str, scope: Scope) -> str:
    """Make a token; this is the only place that returns it.

    Raises
    ------
    UsageError
        If the name is taken.
    """
    secret = secrets.token_urlsafe(32)
    with registry.write() as session:
        if session.scalar(select(Token.id).where(Token.name == name)) is not None:
            raise UsageError(f"{name}: a token of this name exists, or did; choose another name")
        row = Token(
            name=name, secret_sha256=_checksum(secret), scope=scope.value, created=time.time()
        )
        session.add(row)
        record_event(session, "tokens", f"{name} made")
        session.flush()
        return f"{_PREFIX}_{row.id}_{secret}"


def revoke(registry: Registry, name: str) -> None:
    """Make a token worthless at once.

    Raises
    ------
    UsageError
        If there is no such token in force.
    """
    with registry.write() as session:
        row = session.scalars(
            select(Token).where(Token.name == name, Token.revoked.is_(None))
        ).one_or_none()
        if row is None:
            raise UsageError(f"{name}: no token of this name is in force; see 'token list'")
        row.revoked = time.time()
        message = f"{name} revoked"
        record_event(session, "tokens", message)


class TokenSummary(ReadModel):
    """A token without its secret; moments in Unix seconds."""

    name: str
    scope: Scope
    created: float
    revoked: float | None


def list_tokens(registry: Registry) -> list[TokenSummary]:
    """All tokens, in the order in which they were made."""
    with registry.read() as session:
        rows = session.scalars(select(Token).order_by(Token.id))
        return [TokenSummary.model_validate(row) for row in rows]


def scope_of(registry: Registry, token: str) -> Scope | None:
    """What a token allows; None if it is wrong or revoked. Takes the same time for each."""
    prefix, _, rest = token.partition("_")
    number, _, secret = rest.partition("_")
    row = None
    if prefix == _PREFIX and number.isascii() and number.isdigit() and len(number) < 10:
        with registry.read() as session:
            row = session.get(Token, int(number))
    kept = row.secret_sha256 if row is not None else _checksum("")
    same = hmac.compare_digest(kept, _checksum(secret))
    if row is None or not same or row.revoked is not None:
        return None
    return Scope(row.scope)


def _checksum(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
