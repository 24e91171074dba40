"""One settings object: command line > environment > TOML file > default.

Environment variables are `CONTIMG_` and a field's name in capitals, nested fields after a
double underscore (`CONTIMG_IMAGE__ROBUST=0`). The file is `contimg.toml` in the root.
"""

import os
import platform
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from dsa110_contimg import layout
from dsa110_contimg.errors import UsageError

FILE_NAME = "contimg.toml"


class AlertRule(BaseModel):
    """Whom to tell when something is wrong, and again when it is over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=128, description="What the alert is called")
    when: Literal["data_age_s", "lag_s", "failing", "antennas", "disk_free_gb", "night"] = Field(
        description="What is watched: seconds since the newest tile, seconds of sky that wait, "
        "failed tiles and groups, antennas of the newest tile without signal or not as in their "
        "reference tile, free space (GB); night: a summary once a day"
    )
    limit: float = Field(
        0.0, description="Broken above this (disk_free_gb: below); night: hour of the day, UTC"
    )
    repeat_h: float = Field(24.0, gt=0, description="Hours after which it is told again")
    command: list[str] = Field(
        default_factory=list, description="Program and arguments; facts come as CONTIMG_ALERT_..."
    )
    webhook: str = Field("", pattern="^(https?://.*)?$", description="URL that gets them as JSON")


class ExecutorSettings(BaseModel):
    """Who computes, if not processes of this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler: str = Field(
        "",
        pattern="^(tls://.+:[0-9]+)?$",
        description="Dask scheduler, tls://HOST:PORT; empty: processes of this machine",
    )
    tls_directory: Path | None = Field(
        None,
        description="Where the cluster's cert.pem and key.pem are; empty: state/tls in the root",
    )
    patience_s: float = Field(
        300.0,
        gt=0,
        description="Seconds that a machine may be without a worker before the "
        "Measurement Sets on its own disk are given up and their tiles converted again",
    )
    minimum_jobs: int = Field(0, ge=0, description="Jobs of SLURM or PBS that are kept")
    maximum_jobs: int = Field(10, ge=1, description="Most jobs of SLURM or PBS at once")
    slurm: dict[str, Any] | None = Field(
        None,
        description="Jobs of SLURM compute, table [executor.slurm]: cores, memory, walltime, "
        "queue and whatever else dask-jobqueue's SLURMCluster takes",
    )
    pbs: dict[str, Any] | None = Field(
        None, description="Jobs of PBS compute, table [executor.pbs], as for SLURM"
    )


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="CONTIMG_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    root: Path = Field(Path("."), description="Directory that holds everything the pipeline writes")
    database_url: str = Field(
        "", description="SQLAlchemy URL; empty: SQLite at state/products.sqlite3 in the root"
    )
    sky_catalog: str = Field("nvss", description="Catalogue for the sky model and for validation")
    workers: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Worker processes"
    )
    stage_timeout_s: float = Field(
        3600.0, gt=0, description="Seconds after which one step of one tile is killed"
    )
    convert_timeout_s: float = Field(
        300.0, gt=0, description="Seconds after which the conversion of one tile is killed"
    )
    lease_s: float = Field(120.0, gt=0, description="Seconds a claim lasts without a heartbeat")
    newest_first_behind_s: float | None = Field(
        None,
        ge=0,
        description="The newest work goes first while the oldest that waits is so many "
        "seconds older; empty: always the oldest first",
    )
    max_attempts: int = Field(3, ge=1, description="Failures before work is quarantined")
    retry_delay_s: float = Field(
        60.0, ge=0, description="Seconds before the first retry; doubles with each failure"
    )

    poll_interval_s: float = Field(5.0, gt=0, description="Seconds between looks at the input")
    settle_s: float = Field(
        3.0, ge=0, description="Seconds a file must not have changed before it counts as finished"
    )
    grace_s: float = Field(
        300.0, ge=0, description="Seconds to wait for absent sub-bands after the last one arrived"
    )
    min_subbands: int = Field(12, ge=1, description="Fewest sub-bands that make a tile")

    mosaic_interval_s: float = Field(60.0, gt=0, description="Seconds between looks for groups")
    group_size: int = Field(10, ge=1, description="Tiles in a mosaic group")
    group_overlap: int = Field(2, ge=0, description="Tiles that a group shares with the one before")
    min_group_tiles: int = Field(
        3, ge=1, description="Fewest tiles of the short group at the end of a run"
    )
    leftover_s: float = Field(
        1800.0, ge=0, description="Seconds without a new tile after which a run has ended"
    )
    max_gap_s: float = Field(
        900.0, gt=0, description="Seconds between the starts of two tiles that end a run of tiles"
    )
    keep_subbands_h: float | None = Field(
        None,
        ge=0,
        description="Hours to keep sub-band files after their mosaics are published; "
        "empty: for ever",
    )
    keep_ms_h: float | None = Field(
        None, ge=0, description="Hours to keep raw Measurement Sets after that; empty: for ever"
    )
    keep_images_h: float | None = Field(
        None, ge=0, description="Hours to keep tile images after that; empty: for ever"
    )
    keep_leftovers_h: float = Field(
        24.0,
        ge=0,
        description="Hours to keep what no row names: calibrated Measurement Sets, "
        "and what killed programs left",
    )
    keep_antennas_d: float = Field(
        90.0, gt=0, description="Days of observation that the history of the antennas covers"
    )
    housekeeping_interval_s: float = Field(
        3600.0, gt=0, description="Seconds between two rounds of housekeeping"
    )
    disk_stop_gb: float = Field(
        5.0,
        ge=0,
        description="No new work begins with less free space (GB) than this, and what "
        "the work itself needs",
    )
    disk_resume_gb: float = Field(
        10.0, ge=0, description="Work begins again with so much free space (GB)"
    )

    alert_interval_s: float = Field(
        60.0, gt=0, description="Seconds between two looks at the alert rules"
    )
    log_format: Literal["text", "json"] = Field("text", description="Of the daemons' log lines")

    api_max_body_mb: float = Field(1.0, gt=0, description="Largest body of a REST request (MB)")
    api_requests_per_s: float = Field(
        200.0, gt=0, description="REST requests a second of one address, in the long run"
    )
    api_max_queued_jobs: int = Field(
        2000, ge=1, description="Jobs that wait at once; more are refused"
    )
    hips: bool = Field(True, description="Draw every published mosaic as HiPS, and all together")
    parallel_groups: int = Field(2, ge=1, description="Mosaic groups worked on at once")

    convert: dict[str, Any] = Field(default_factory=dict, description="Options of conversion")
    calibrate: dict[str, Any] = Field(default_factory=dict, description="Options of solving")
    apply: dict[str, Any] = Field(default_factory=dict, description="Options of application")
    image: dict[str, Any] = Field(default_factory=dict, description="Options of imaging")
    mosaic: dict[str, Any] = Field(default_factory=dict, description="Options of mosaicking")
    validate_: dict[str, Any] = Field(
        default_factory=dict, alias="validate", description="Options of validation"
    )
    crossmatch: dict[str, Any] = Field(
        default_factory=dict, description="Options of cross-matching"
    )
    executor: ExecutorSettings = Field(
        default_factory=ExecutorSettings,
        description="A cluster that computes (docs/several_machines.md, docs/slurm.md)",
    )
    alerts: list[AlertRule] = Field(
        default_factory=list, description="Rules, each a table [[alerts]]"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence: command line, environment, file."""
        root = init_settings().get("root") or env_settings().get("root") or "."
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, Path(root) / FILE_NAME),
        )

    @property
    def database(self) -> str:
        """URL of the database."""
        return self.database_url or f"sqlite:///{layout.database(self.root)}"

    @property
    def tls_dir(self) -> Path:
        """Where the keys of the cluster are."""
        return self.executor.tls_directory or layout.cluster_keys(self.root)

    @property
    def slots_dir(self) -> Path:
        """Where this machine's compute slots are locked; several may share a root."""
        return layout.compute_slots(self.root) / platform.node()


def load(**given: Any) -> Settings:
    """Settings with some values given (None counts as not given).

    Raises
    ------
    UsageError
        Naming the setting that is unknown or out of range.
    """
    from pydantic import ValidationError

    values = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"setting {name}: {first['msg']}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        path = Path(values.get("root") or os.environ.get("CONTIMG_ROOT", ".")) / FILE_NAME
        raise UsageError(f"{path}: is not valid TOML ({error}); mend that line") from error
    return settings.model_copy(update={"root": settings.root.absolute()})


def origins(settings: Settings) -> dict[str, str]:
    """Where each setting comes from: command line, environment, the file, or default."""
    environment = EnvSettingsSource(Settings)()
    file = TomlConfigSettingsSource(Settings, settings.root / FILE_NAME)()
    without = load(root=settings.root)
    found = {}
    for name, field in Settings.model_fields.items():
        key = field.alias or name
        if name == "root":
            found[key] = "command line or environment"
        elif getattr(settings, name) != getattr(without, name):
            found[key] = "command line"
        elif key in environment or name in environment:
            found[key] = "environment"
        elif key in file:
            found[key] = FILE_NAME
        else:
            found[key] = "default"
    return found
