"""Calibration sets: what was solved, what operators think of it, and what was chosen."""

import time
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from dsa110_contimg import records
from dsa110_contimg.artifacts.calibration import COMBINED, KnownSet, SolvedSet
from dsa110_contimg.calibration.beam_measurement import BeamMeasurement
from dsa110_contimg.calibration.choice import Choice, Standing
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.events import record_event
from dsa110_contimg.registry.models import CalibrationChoice, CalibrationSet
from dsa110_contimg.registry.read_models import ReadModel
from dsa110_contimg.registry.statements import existing


def add_calibration_set(session: Session, solved: SolvedSet) -> None:
    """Record a calibration set, replacing an earlier solution of the same tile and options."""
    session.merge(
        CalibrationSet(
            id=solved.id,
            tile_id=solved.tile_id,
            path=str(solved.path),
            observed=solved.observed,
            apparent_dec_deg=solved.apparent_dec_deg,
            bandpass_valid_s=solved.bandpass_valid_s,
            gains_valid_s=solved.gains_valid_s,
            quality=records.to_json(solved),
        )
    )


def known_sets(session: Session, start: float) -> tuple[KnownSet, ...]:
    """Calibration sets that may serve an observation: all that are not long out of date.

    A combination of two is no candidate: its bandpass is older than its gains, and would grow
    older with each choice.

    Parameters
    ----------
    session : Session
    start : float
        Of the observation, Unix seconds.
    """
    age = start - CalibrationSet.observed
    # The record of the choice lists sets that are somewhat too old or too new, too.
    within = (
        (func.abs(age) <= 2 * valid_s)
        for valid_s in (CalibrationSet.bandpass_valid_s, CalibrationSet.gains_valid_s)
    )
    may_serve = or_(*within, CalibrationSet.standing == Standing.PREFERRED)
    return tuple(
        KnownSet(records.from_json(SolvedSet, row.quality), Standing(row.standing), row.remark)
        for row in session.scalars(
            select(CalibrationSet).where(may_serve).order_by(CalibrationSet.id)
        )
        if COMBINED not in row.id
    )


def add_choice(session: Session, subject: str, choice: Choice) -> None:
    """Keep the record of a choice of calibration sets."""
    session.add(
        CalibrationChoice(
            at=time.time(),
            subject=subject,
            bandpass_id=choice.bandpass_id,
            gains_id=choice.gains_id,
            reasons=choice.reasons,
        )
    )


class CalibrationSetSummary(ReadModel):
    """A calibration set: validity from the time of observation on, in seconds, and quality.

    `beam` is the primary beam of the array that its tile measured, without those of single
    antennas; None where it was not measured.
    """

    id: str
    tile: str
    path: Path
    observed: float
    apparent_dec_deg: float
    bandpass_valid_s: float
    gains_valid_s: float
    standing: Standing
    remark: str
    flagged_fraction: float
    median_snr: float
    reference_antenna: str
    beam: BeamMeasurement | None


class CalibrationSetDetail(CalibrationSetSummary):
    """A calibration set with all that its solution is known by."""

    quality: SolvedSet


def list_calibration_sets(
    registry: Registry, limit: int | None = None
) -> list[CalibrationSetSummary]:
    """The newest calibration sets, in order of data time."""
    newest = select(CalibrationSet).order_by(
        CalibrationSet.observed.desc(), CalibrationSet.id.desc()
    )
    with registry.read() as session:
        rows = session.scalars(newest.limit(limit)).all()
        return [_summary(row) for row in reversed(rows)]


def get_calibration_set(registry: Registry, set_id: str) -> CalibrationSetDetail:
    """One calibration set, its quality too.

    Raises
    ------
    UsageError
        If it is unknown.
    """
    with registry.read() as session:
        row = _set_row(session, set_id)
        quality = records.from_json(SolvedSet, row.quality)
        return CalibrationSetDetail(**dict(_summary(row)), quality=quality)


def _summary(row: CalibrationSet) -> CalibrationSetSummary:
    """Read what lists show; the rest of a record is left alone, for there are many records."""
    return CalibrationSetSummary(
        id=row.id,
        tile=row.tile_id,
        path=Path(row.path),
        observed=row.observed,
        apparent_dec_deg=row.apparent_dec_deg,
        bandpass_valid_s=row.bandpass_valid_s,
        gains_valid_s=row.gains_valid_s,
        standing=Standing(row.standing),
        remark=row.remark,
        flagged_fraction=row.quality["flagged_fraction"],
        median_snr=row.quality["median_snr"],
        reference_antenna=row.quality["reference_antenna"],
        beam=_beam(row.quality.get("beam")),
    )


def _beam(measured: JsonValue) -> BeamMeasurement | None:
    """A measured beam without those of single antennas; None where there is none."""
    if not isinstance(measured, dict) or not measured["n_sources"]:
        return None
    beam = records.from_json(BeamMeasurement, measured)
    return replace(beam, shape=replace(beam.shape, antennas=None))


def set_standing(registry: Registry, set_id: str, standing: str, remark: str) -> None:
    """Record what operators think of a calibration set.

    Raises
    ------
    UsageError
        If it is unknown.
    """
    with registry.write() as session:
        row = _set_row(session, set_id)
        row.standing, row.remark = standing, remark
        message = f"{standing}{': ' + remark if remark else ''}"
        record_event(session, set_id, message)


def _set_row(session: Session, set_id: str) -> CalibrationSet:
    hint = "'dsa110-contimg caltables list' shows them"
    return existing(session, CalibrationSet, set_id, f"no calibration set {set_id!r}; {hint}")


def solved_set(session: Session, set_id: str) -> SolvedSet | None:
    """A calibration set where its row says that it lies now; None if it is unknown."""
    row = session.get(CalibrationSet, set_id)
    if row is None:
        return None
    return replace(records.from_json(SolvedSet, row.quality), path=Path(row.path))
