"""Times and lengths of time as people read them."""

from datetime import UTC, datetime

from dsa110_contimg.constants import DAY_S

SECOND, MINUTE = "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"
"""Forms for people."""
STANDARD, COMPACT = "%Y-%m-%dT%H:%M:%S", "%Y%m%dT%H%M%S"
"""Forms for programs and for names."""


def iso(unix_s: float, form: str = SECOND) -> str:
    """A moment, UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime(form)


def span(seconds: float) -> str:
    """A length of time in a unit that suits it."""
    for size, unit in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
