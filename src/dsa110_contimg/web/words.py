"""How values are said to people: times, angles, flux densities, states."""

import math
from functools import lru_cache

import numpy as np
from markupsafe import Markup, escape

from dsa110_contimg import times
from dsa110_contimg.constants import ARCSEC_RAD, DAY_S, SIDEREAL_RATE_RAD_S, UNIX_EPOCH_JD
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.wording import counted, noise_text

_TONES = {
    "good": (
        "converted",
        "published",
        "done",
        "passed",
        "ok",
        "preferred",
        "registered",
        "constant",
    ),
    "busy": ("converting", "processing", "running", "noisy"),
    "wait": (
        "ready",
        "collecting",
        "queued",
        "staged",
        "cancelled",
        "normal",
        "duplicate",
        "info",
        "not imaged",
        "unknown",
        "unsolved",
        "no signal",
    ),
    "warn": ("warning", "held", "failed", "unreadable", "variable", "changed"),
    "bad": ("rejected", "quarantined", "error", "transient", "vanished"),
}
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words}


def tone(state: str) -> str:
    """Which of five colours goes with a word: good, busy, wait, warn or bad."""
    return _TONE_OF.get(str(state), "wait")


def utc(unix_s: float | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time; a dash for none."""
    return "–" if unix_s is None else times.iso(unix_s, form)


def sidereal_hours(unix_s: float) -> float:
    """Local apparent sidereal time of the telescope, hours in [0, 24).

    Exact at midnight UTC, from there at the sidereal rate: within a day that is good to 0.1 s, and
    a page with a hundred times does not wait for a hundred nutations.
    """
    midnight = unix_s // DAY_S * DAY_S
    turned_rad = SIDEREAL_RATE_RAD_S * (unix_s - midnight)
    return (_midnight_hours(midnight) + math.degrees(turned_rad) / 15.0) % 24.0


@lru_cache(maxsize=1000)
def _midnight_hours(unix_s: float) -> float:
    from dsa110_contimg.sky.astrometry import EarthFrame, Site

    frame = EarthFrame(np.array([UNIX_EPOCH_JD + unix_s / DAY_S]), Site.of(DSA110))
    return float(np.rad2deg(frame.local_sidereal_time_rad()[0])) / 15.0


def lst(unix_s: float | None) -> str:
    """Local sidereal time of a moment."""
    if unix_s is None:
        return "–"
    minutes = int(sidereal_hours(unix_s) * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def span(seconds: float | None) -> str:
    """A length of time; a dash for none."""
    return "–" if seconds is None else times.span(seconds)


def flux(jansky: float | str | None) -> str:
    """A flux density in the unit that suits it; records have text for what is no number."""
    jansky = math.nan if jansky is None else float(jansky)
    if not math.isfinite(jansky):
        return "–"
    return f"{jansky:.3f} Jy" if abs(jansky) >= 1 else f"{1e3 * jansky:.2f} mJy"


def number(value: object, digits: int = 4) -> str:
    """A number with so many digits that count; what is none as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:.{digits}g}" if math.isfinite(value) else "–"


def percent(share: float | None) -> str:
    """A share of one."""
    return "–" if share is None else f"{100 * share:.1f} %"


def size(count: float) -> str:
    """A number of bytes."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def right_ascension(degrees: float) -> str:
    """Hours, minutes and seconds."""
    tenths = round(degrees * 2400) % (24 * 36000)
    return f"{tenths // 36000:02d}:{tenths // 600 % 60:02d}:{tenths % 600 / 10:04.1f}"


def declination(degrees: float) -> str:
    """Degrees, minutes and seconds."""
    seconds = round(abs(degrees) * 3600)
    sign = "-" if degrees < 0 else "+"
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def arcsec(radians: float) -> float:
    """An angle in arcseconds."""
    return radians / ARCSEC_RAD


def code(text: str) -> Markup:
    """Text in which backticks enclose what is typed."""
    parts = str(escape(text)).split("`")
    marked = [f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(parts)]
    return Markup("".join(marked))


FILTERS = {
    "tone": tone,
    "utc": utc,
    "lst": lst,
    "span": span,
    "flux": flux,
    "noise": noise_text,
    "number": number,
    "percent": percent,
    "size": size,
    "counted": counted,
    "arcsec": arcsec,
    "degrees": math.degrees,
    "code": code,
    "ra": right_ascension,
    "dec": declination,
}
