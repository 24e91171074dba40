"""Which calibration set serves an observation: a pure function of data times and of standings.

A set solved on the observation itself comes first, unless an operator rejected it. Otherwise
bandpass and gains are looked for apart, among sets of the same declination strip that were
observed no later (unless they are preferred) and are still valid: preferred ones first, then the
nearest in time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.telescope import SAME_STRIP_DEG
from dsa110_contimg.times import MINUTE, iso


class Standing(StrEnum):
    """What operators think of a set."""

    NORMAL = "normal"
    PREFERRED = "preferred"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Candidate:
    """What the choice needs to know of a set.

    Attributes
    ----------
    id : str
    observed : float
        Unix seconds of the middle of its tile.
    apparent_dec_deg : float
    bandpass_valid_s, gains_valid_s : float
    standing : Standing
    remark : str
        Why an operator rejected or preferred it.
    """

    id: str
    observed: float
    apparent_dec_deg: float
    bandpass_valid_s: float
    gains_valid_s: float
    standing: Standing = Standing.NORMAL
    remark: str = ""


@dataclass(frozen=True)
class Choice:
    """The sets that were chosen, and why: the audit record.

    Attributes
    ----------
    bandpass_id, gains_id : str
    reasons : dict of str to str
        For every candidate, what spoke for or against it.
    """

    bandpass_id: str
    gains_id: str
    reasons: dict[str, str]


def choose(
    candidates: Sequence[Candidate],
    observed: float,
    apparent_dec_deg: float,
    own: Candidate | None = None,
) -> Choice:
    """Choose bandpass and gains.

    Parameters
    ----------
    candidates : sequence of Candidate
        In any order.
    observed : float
        Middle of the observation, Unix seconds.
    apparent_dec_deg : float
    own : Candidate, optional
        Solved on the observation itself.

    Raises
    ------
    CalibrationError
        If there is no acceptable bandpass, or no gains; names what speaks against each candidate.
    """
    everyone = {c.id: c for c in candidates}
    if own is not None:
        everyone.setdefault(own.id, own)
        own = everyone[own.id]
    against = {
        c.id: _against(c, observed, apparent_dec_deg) for c in everyone.values() if c is not own
    }
    if own is not None:
        against[own.id] = _rejection(own)
    usable = [c for c in everyone.values() if not against[c.id]]
    chosen: dict[str, Candidate] = {}
    for kind in ("bandpass", "gains"):
        valid = [c for c in usable if c is own or _age(c, observed) <= _validity(c, kind)]
        if valid:
            chosen[kind] = min(valid, key=lambda c: _rank(c, own, observed))
    reasons = {c.id: against[c.id] or _for(c, chosen, own, observed) for c in everyone.values()}
    missing = [kind for kind in ("bandpass", "gains") if kind not in chosen]
    if missing:
        listed = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
        raise CalibrationError(
            f"no acceptable {' and no '.join(missing)} at declination {apparent_dec_deg:.2f} deg "
            f"({listed or 'no calibration set is known'})"
        )
    return Choice(chosen["bandpass"].id, chosen["gains"].id, reasons)


def _rejection(candidate: Candidate) -> str:
    if candidate.standing is not Standing.REJECTED:
        return ""
    return f"rejected{': ' + candidate.remark if candidate.remark else ''}"


def _against(candidate: Candidate, observed: float, apparent_dec_deg: float) -> str:
    rejected = _rejection(candidate)
    if rejected:
        return rejected
    away = abs(candidate.apparent_dec_deg - apparent_dec_deg)
    if away > SAME_STRIP_DEG:
        return f"another declination strip ({candidate.apparent_dec_deg:.2f} deg)"
    if candidate.observed > observed and candidate.standing is not Standing.PREFERRED:
        return f"observed later ({iso(candidate.observed, MINUTE)})"
    if _age(candidate, observed) > max(candidate.bandpass_valid_s, candidate.gains_valid_s):
        return f"no longer valid (observed {iso(candidate.observed, MINUTE)})"
    return ""


def _age(candidate: Candidate, observed: float) -> float:
    return abs(observed - candidate.observed)


def _validity(candidate: Candidate, kind: str) -> float:
    return candidate.bandpass_valid_s if kind == "bandpass" else candidate.gains_valid_s


def _rank(
    candidate: Candidate, own: Candidate | None, observed: float
) -> tuple[bool, bool, float, str]:
    return (
        candidate.standing is not Standing.PREFERRED,
        candidate is not own,
        _age(candidate, observed),
        candidate.id,
    )


def _for(
    candidate: Candidate, chosen: dict[str, Candidate], own: Candidate | None, observed: float
) -> str:
    kinds = [kind for kind, taken in chosen.items() if taken is candidate]
    what = f"chosen for {' and '.join(kinds)}" if kinds else "good, but another comes first"
    if candidate is own:
        return f"{what}: solved on this observation"
    age = _age(candidate, observed)
    if not kinds and age > candidate.gains_valid_s:
        what = "good for a bandpass only"
    liked = ", preferred" if candidate.standing is Standing.PREFERRED else ""
    return f"{what}: {age / 3600:.1f} h{liked}"
