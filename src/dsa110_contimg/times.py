"""Times and lengths of time as people read them."""

import re
from datetime import UTC, datetime

from dsa110_contimg.constants import DAY_S, MJD_ZERO_JD, UNIX_EPOCH_JD

SECOND, MINUTE = "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"
"""Forms for people."""
STANDARD, COMPACT = "%Y-%m-%dT%H:%M:%S", "%Y%m%dT%H%M%S"
"""Forms for programs and for names."""
_MJD = re.compile(r"(?i)^mjd[\s:=]*(\d+(?:\.\d*)?)$")
_DATE = re.compile(r"^\d{8}$")
_FORMS = "give an ISO time such as 2026-01-25T22:00:00, MJD 61065.9, or Unix seconds"
_EARLIEST_S, _LATEST_S = 1e9, 4.1e9
"""September 2001 and December 2099: no MJD, Julian date or year lies between them."""


def unix_s(given: str | float | datetime) -> float:
    """Unix seconds of a time as people write it.

    Parameters
    ----------
    given : str, float or datetime
        An ISO date or time (UTC unless it says otherwise; 20260125 is a date), "MJD 61065.9", or
        Unix seconds.

    Raises
    ------
    ValueError
        If it is none of these, or a number that is no time of this telescope, such as an MJD
        without its name.
    """
    if isinstance(given, datetime):
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    text = str(given).strip()
    mjd = _MJD.match(text)
    if mjd:
        return _plausible(given, (float(mjd[1]) + MJD_ZERO_JD - UNIX_EPOCH_JD) * DAY_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = None
    try:
        # Eight digits are a date; more may be Unix seconds or a date with a time.
        if seconds is None or _DATE.match(text):
            return _plausible(given, unix_s(datetime.fromisoformat(text)))
    except ValueError as error:
        raise ValueError(f"time {text!r}: {_FORMS}") from error
    return _plausible(given, seconds)


def _plausible(given: object, seconds: float) -> float:
    if not _EARLIEST_S <= seconds <= _LATEST_S:
        raise ValueError(f"time {given!r} is none of this telescope: {_FORMS}")
    return seconds


def iso(unix_s: float, form: str = SECOND) -> str:
    """A moment, UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime(form)


def mjd(unix_s: float) -> float:
    """Modified Julian date of a moment, UTC."""
    return unix_s / DAY_S + (UNIX_EPOCH_JD - MJD_ZERO_JD)


def span(seconds: float) -> str:
    """A length of time in a unit that suits it."""
    for size, unit in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
