"""Times and lengths of time as people read them."""

from datetime import UTC, datetime

from dsa110_contimg.constants import DAY_S


def iso(unix_s: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A moment, UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime(form)


def span(seconds: float) -> str:
    """A length of time in a unit that suits it."""
    for size, unit in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
