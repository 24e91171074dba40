"""Names and groups of observations: the data's own first time is the key, never a file name."""

from collections.abc import Iterable, Sequence

from dsa110_contimg.constants import DAY_S, UNIX_EPOCH_JD
from dsa110_contimg.times import COMPACT, iso
from dsa110_contimg.visibilities.uvh5 import SubbandHeader


def unix_seconds(jd_utc: float) -> float:
    """Unix time of a Julian date, rounded to the millisecond a JD can hold."""
    return round((jd_utc - UNIX_EPOCH_JD) * DAY_S, 3)


def year(jd_utc: float) -> float:
    """Julian epoch of a date, for sources that vary."""
    return 2000.0 + (jd_utc - 2451545.0) / 365.25


def tile_id(jd_utc: float) -> str:
    """Name of the tile whose first integration is centred at a time: YYYYMMDDTHHMMSS, UTC."""
    return iso(int(unix_seconds(jd_utc)), COMPACT)


def group_by_time(headers: Iterable[SubbandHeader]) -> dict[float, list[SubbandHeader]]:
    """Headers by the exact time of their first integration, in order of time."""
    groups: dict[float, list[SubbandHeader]] = {}
    for header in sorted(headers, key=lambda h: (h.time_key, h.path.name)):
        groups.setdefault(header.time_key, []).append(header)
    return groups


def too_few_message(found: int, expected: int, needed: int, absent: Sequence[int] = ()) -> str:
    """Why an observation is rejected."""
    which = f" (absent: {', '.join(f'sb{n:02d}' for n in absent)})" if absent else ""
    return f"{found} of {expected} sub-bands arrived{which}, at least {needed} are needed"
