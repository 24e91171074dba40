"""Tables, by their names in the domain. Times are Unix seconds, UTC."""

from enum import StrEnum
from typing import ClassVar

from sqlalchemy import BigInteger, Enum, Float, ForeignKey, Index, Integer, String, Text, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry.rooted import RootedJson, RootedPath
from dsa110_contimg.registry.states import (
    CrossmatchState,
    FileState,
    GroupState,
    JobState,
    MosaicState,
    TileState,
    check_change,
)


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar = {JsonObject: RootedJson, list[str]: RootedJson}


def _state(kind: type[StrEnum]) -> Enum:
    """Column type of a state: its value as text."""
    return Enum(
        kind,
        native_enum=False,
        length=16,
        values_callable=lambda states: [one.value for one in states],
    )


class Stateful:
    """Rows with states that follow each other as `registry.states` says."""

    @validates("state", "crossmatch")
    def _check(self, column: str, after: StrEnum) -> StrEnum:
        kind = inspect(type(self)).columns[column].type.enum_class
        before = getattr(self, column)
        # A new row has none.
        if before is not None:
            check_change(before, kind(after))
        return kind(after)


class Claimable(Stateful):
    """Columns of work that is claimed by lease; see `registry.claims`."""

    attempt: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    owner: Mapped[str] = mapped_column(String(64), default="")
    lease_until: Mapped[float] = mapped_column(Float, default=0.0)
    not_before: Mapped[float] = mapped_column(Float, default=0.0)
    reason: Mapped[str] = mapped_column(Text, default="")


class SubbandFile(Stateful, Base):
    """A file seen in the input directory."""

    __tablename__ = "subband_files"
    path: Mapped[str] = mapped_column(RootedPath(1024), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    first_seen: Mapped[float] = mapped_column(Float)
    state: Mapped[FileState] = mapped_column(_state(FileState), index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    look_again: Mapped[float | None] = mapped_column(Float, default=None)
    subband: Mapped[int | None] = mapped_column(Integer, default=None)
    tile_id: Mapped[str | None] = mapped_column(ForeignKey("tiles.id"), default=None, index=True)


class Tile(Claimable, Base):
    """One observation."""

    __tablename__ = "tiles"
    __table_args__ = (Index("ix_tiles_state_start", "state", "start"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    time_key: Mapped[float] = mapped_column(Float, unique=True)
    state: Mapped[TileState] = mapped_column(_state(TileState))
    start: Mapped[float] = mapped_column(Float, index=True)
    apparent_dec_deg: Mapped[float] = mapped_column(Float)
    last_arrival: Mapped[float] = mapped_column(Float)
    n_subbands: Mapped[int] = mapped_column(Integer, default=0)
    ms_path: Mapped[str] = mapped_column(RootedPath(1024), default="")
    ms_host: Mapped[str] = mapped_column(String(255), default="")
    converted: Mapped[JsonObject | None] = mapped_column(RootedJson, default=None)
    converted_at: Mapped[float | None] = mapped_column(Float, default=None, index=True)


class MosaicGroup(Claimable, Base):
    """Consecutive tiles that make one mosaic."""

    __tablename__ = "mosaic_groups"
    __table_args__ = (Index("ix_mosaic_groups_state_start", "state", "start"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[GroupState] = mapped_column(_state(GroupState))
    start: Mapped[float] = mapped_column(Float, index=True)
    tile_ids: Mapped[list[str]] = mapped_column(RootedJson)
    finished_at: Mapped[float | None] = mapped_column(Float, default=None, index=True)


class CalibrationSet(Base):
    """Tables that belong together."""

    __tablename__ = "calibration_sets"
    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    tile_id: Mapped[str] = mapped_column(String(32), index=True)
    path: Mapped[str] = mapped_column(RootedPath(1024))
    observed: Mapped[float] = mapped_column(Float, index=True)
    apparent_dec_deg: Mapped[float] = mapped_column(Float)
    bandpass_valid_s: Mapped[float] = mapped_column(Float)
    gains_valid_s: Mapped[float] = mapped_column(Float)
    quality: Mapped[JsonObject] = mapped_column(RootedJson)
    standing: Mapped[str] = mapped_column(String(16), default="normal")
    remark: Mapped[str] = mapped_column(Text, default="")


class CalibrationChoice(Base):
    """Which sets a mosaic was calibrated with, and what spoke for and against each."""

    __tablename__ = "calibration_choices"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[float] = mapped_column(Float)
    subject: Mapped[str] = mapped_column(String(128), index=True)
    bandpass_id: Mapped[str] = mapped_column(String(160))
    gains_id: Mapped[str] = mapped_column(String(160))
    reasons: Mapped[JsonObject] = mapped_column(RootedJson)


class ManualFlagRow(Base):
    """A flag given by hand."""

    __tablename__ = "manual_flags"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    created: Mapped[float] = mapped_column(Float)
    flag: Mapped[JsonObject] = mapped_column(RootedJson)


class TileImage(Base):
    """An image of a tile under one calibration set and one set of options."""

    __tablename__ = "images"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    tile_id: Mapped[str] = mapped_column(String(32), index=True)
    calibration_set_id: Mapped[str] = mapped_column(String(160), index=True)
    options_key: Mapped[str] = mapped_column(String(64))
    start: Mapped[float] = mapped_column(Float, index=True)
    beam_corrected: Mapped[bool]
    folder: Mapped[str] = mapped_column(RootedPath(1024), server_default="")
    record: Mapped[JsonObject] = mapped_column(RootedJson)
    __table_args__ = (
        Index("one_image_per_key", "tile_id", "calibration_set_id", "options_key", unique=True),
    )


class TileAntennasRow(Base):
    """Antennas of a tile against the reference tile of its newest calibration.

    `antennas` has a list for each field of `AntennaHealth`: months of them are kept.
    """

    __tablename__ = "tile_antennas"
    tile_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    start: Mapped[float] = mapped_column(Float, index=True)
    duration_s: Mapped[float] = mapped_column(Float)
    calibration_set_id: Mapped[str] = mapped_column(String(160))
    antennas: Mapped[JsonObject] = mapped_column(RootedJson)


class Mosaic(Stateful, Base):
    """A mosaic, published or held."""

    __tablename__ = "mosaics"
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    group_id: Mapped[str] = mapped_column(String(32), default="", index=True)
    start: Mapped[float] = mapped_column(Float, index=True)
    method: Mapped[str] = mapped_column(String(16))
    state: Mapped[MosaicState] = mapped_column(_state(MosaicState), index=True)
    verdict: Mapped[str] = mapped_column(String(16))
    crossmatch: Mapped[CrossmatchState] = mapped_column(
        _state(CrossmatchState), server_default="done", index=True
    )
    path: Mapped[str] = mapped_column(RootedPath(1024), server_default="")
    n_tiles: Mapped[int] = mapped_column(Integer, server_default="0")
    median_rms_jy: Mapped[float | None] = mapped_column(Float, default=None)
    record: Mapped[JsonObject] = mapped_column(RootedJson)


class Product(Base):
    """A file that users get."""

    __tablename__ = "products"
    path: Mapped[str] = mapped_column(RootedPath(1024), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    name: Mapped[str] = mapped_column(String(128), index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    published: Mapped[float] = mapped_column(Float)


class Source(Base):
    """A place of the sky that is measured on every image."""

    __tablename__ = "sources"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(32), unique=True)
    ra_deg: Mapped[float] = mapped_column(Float)
    dec_deg: Mapped[float] = mapped_column(Float, index=True)
    origin: Mapped[str] = mapped_column(String(64))
    catalogue_jy: Mapped[float | None] = mapped_column(Float, default=None)
    first_detected: Mapped[float | None] = mapped_column(Float, default=None)
    behaviour: Mapped[str] = mapped_column(String(16), default="unknown", index=True)
    n_epochs: Mapped[int] = mapped_column(Integer, default=0)
    mean_jy: Mapped[float | None] = mapped_column(Float, default=None)
    modulation: Mapped[float | None] = mapped_column(Float, default=None)
    eta: Mapped[float | None] = mapped_column(Float, default=None)
    max_snr: Mapped[float | None] = mapped_column(Float, default=None)
    dip: Mapped[bool] = mapped_column(default=False)


class MeasuredImage(Base):
    """A mosaic or tile that sources were measured on: an epoch of their light curves.

    The scale is that of `n_compared` sources against their other epochs; with none it is one.
    """

    __tablename__ = "measured_images"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(String(8))
    observed: Mapped[float] = mapped_column(Float, index=True)
    frequency_hz: Mapped[float] = mapped_column(Float)
    scale: Mapped[float] = mapped_column(Float, default=1.0)
    scale_error: Mapped[float] = mapped_column(Float, default=0.0)
    n_compared: Mapped[int] = mapped_column(Integer, default=0)


class Measurement(Base):
    """Flux density of a source on an image; the error is that of the noise.

    The source was observed from `first` to `last`, in the mean at `observed`.
    """

    __tablename__ = "measurements"
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.id"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("measured_images.id"), primary_key=True)
    flux_jy: Mapped[float] = mapped_column(Float)
    error_jy: Mapped[float] = mapped_column(Float)
    observed: Mapped[float] = mapped_column(Float)
    first: Mapped[float] = mapped_column(Float)
    last: Mapped[float] = mapped_column(Float)
    # A million rows a year: no second index.
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012


class Plan(Base):
    """A batch mosaic as it was planned."""

    __tablename__ = "plans"
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    created: Mapped[float] = mapped_column(Float)
    document: Mapped[JsonObject] = mapped_column(RootedJson)


class Job(Stateful, Base):
    """A batch request."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    type: Mapped[str] = mapped_column(String(32), index=True)
    params: Mapped[JsonObject] = mapped_column(RootedJson)
    state: Mapped[JobState] = mapped_column(_state(JobState), index=True)
    stage: Mapped[str] = mapped_column(String(64), default="")
    fraction: Mapped[float] = mapped_column(Float, default=0.0)
    message: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[float] = mapped_column(Float)
    started: Mapped[float | None] = mapped_column(Float, default=None)
    ended: Mapped[float | None] = mapped_column(Float, default=None)
    result: Mapped[JsonObject | None] = mapped_column(RootedJson, default=None)
    error: Mapped[str] = mapped_column(Text, default="")
    idempotency_key: Mapped[str | None] = mapped_column(String(128), default=None, unique=True)


class Token(Base):
    """Who may use the REST interface from where no person sits; the secret itself is not kept."""

    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scope: Mapped[str] = mapped_column(String(8))
    created: Mapped[float] = mapped_column(Float)
    revoked: Mapped[float | None] = mapped_column(Float, default=None)


class Event(Base):
    """Something an operator may want to know."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[float] = mapped_column(Float, index=True)
    level: Mapped[str] = mapped_column(String(8))
    subject: Mapped[str] = mapped_column(String(128), index=True)
    message: Mapped[str] = mapped_column(Text)


class Alert(Base):
    """A rule that is broken now, and when people were last notified of it."""

    __tablename__ = "alerts"
    rule: Mapped[str] = mapped_column(String(128), primary_key=True)
    since: Mapped[float] = mapped_column(Float)
    notified: Mapped[float] = mapped_column(Float)
    message: Mapped[str] = mapped_column(Text)


class Step(Base):
    """What one call gave, until its group is finished; see `streaming.journal`."""

    __tablename__ = "steps"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    group_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    at: Mapped[float] = mapped_column(Float)
    stage: Mapped[str] = mapped_column(String(32), server_default="")
    result: Mapped[JsonObject] = mapped_column(RootedJson)
