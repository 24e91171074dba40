"""Options of a stage: one frozen object whose field descriptions are the documentation.

The same text is the command line's `--help`, the REST schema and the docs.
"""

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_ANGLE = re.compile(r"^\s*([0-9.eE+-]+)\s*(deg|arcmin|arcsec|mas)?\s*$")
_PER_ARCSEC = {"deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0, "mas": 1e-3}


def _arcsec(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _ANGLE.match(value)
    if not match:
        raise ValueError("give a number with deg, arcmin, arcsec or mas, such as 6arcsec")
    return float(match[1]) * _PER_ARCSEC[match[2] or "arcsec"]


def unix_s(value: Any) -> Any:
    """Unix seconds from a number or an ISO time (UTC unless it says otherwise).

    Raises
    ------
    ValueError
    """
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"time {value!r}: give Unix seconds or an ISO time") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


ArcSec = Annotated[float, BeforeValidator(_arcsec)]
"""An angle in arcseconds; text may carry its unit."""

UnixTime = Annotated[float, BeforeValidator(unix_s)]
"""Unix seconds; text may be an ISO time."""

Range = Annotated[tuple[float, float], BeforeValidator(_listed)]
"""Lowest and highest value; text has a comma between them."""

Box = Annotated[tuple[float, float, float, float], BeforeValidator(_listed)]
"""First and last of one coordinate, then of the other; text has commas between them."""

Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Names; text has commas between them."""


class Options(BaseModel):
    """Base of all stage options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def key(self) -> str:
        """Short hash that is equal for equal options."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
