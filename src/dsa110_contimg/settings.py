"""One settings object: command line > environment > TOML file > default.

Environment variables are `CONTIMG_` and a field's name in capitals, nested fields after a
double underscore (`CONTIMG_IMAGE__ROBUST=0`). The file is `contimg.toml` in the root.
"""

import difflib
import os
import platform
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from dsa110_contimg import layout
from dsa110_contimg.errors import UsageError
from dsa110_contimg.executors.settings import ExecutorSettings
from dsa110_contimg.mosaicking.options import MosaicOptions
from dsa110_contimg.options import Options, first_problem, parse_options
from dsa110_contimg.records import JsonObject
from dsa110_contimg.sky.options import CatalogueOptions
from dsa110_contimg.sources.options import CrossmatchOptions
from dsa110_contimg.stage_options import (
    CalibrationApplyOptions,
    CalibrationSolveOptions,
    ImagingOptions,
    PipelineOptions,
    ValidationOptions,
)
from dsa110_contimg.visibilities.options import ConversionOptions

FILE_NAME = "contimg.toml"
_PREFIX = "CONTIMG_"
_OTHER_VARIABLES = ("ALERT_", "WORKER_", "REAL_DATA", "SCREENSHOTS", "FUZZ_EXAMPLES")
"""Without the prefix: facts for commands of alerts, options of `worker`, what tests are given."""
_MOVED = {"min_subbands": "convert.min_subbands"}
"""Settings of earlier versions, and where they are now."""


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
    repeat_h: float = Field(24.0, gt=0, description="Hours after which people are notified again")
    command: list[str] = Field(
        default_factory=list, description="Program and arguments; facts come as CONTIMG_ALERT_..."
    )
    webhook: str = Field("", pattern="^(https?://.*)?$", description="URL that gets them as JSON")


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
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

    convert: ConversionOptions = Field(
        default_factory=ConversionOptions, description="Options of conversion"
    )
    calibrate: CalibrationSolveOptions = Field(
        default_factory=CalibrationSolveOptions, description="Options of solving"
    )
    apply: CalibrationApplyOptions = Field(
        default_factory=CalibrationApplyOptions,
        description="Options of application; those of solving hold where nothing is given here",
    )
    image: ImagingOptions = Field(default_factory=ImagingOptions, description="Options of imaging")
    mosaic: MosaicOptions = Field(
        default_factory=MosaicOptions, description="Options of mosaicking"
    )
    validate_: ValidationOptions = Field(
        default_factory=ValidationOptions, alias="validate", description="Options of validation"
    )
    crossmatch: CrossmatchOptions = Field(
        default_factory=CrossmatchOptions, description="Options of cross-matching"
    )
    executor: ExecutorSettings = Field(
        default_factory=ExecutorSettings,
        description="A cluster that computes (docs/several_machines.md, docs/slurm.md)",
    )
    alerts: list[AlertRule] = Field(
        default_factory=list, description="Rules, each a table [[alerts]]"
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_former_places(cls, given: object) -> object:
        for name, now in _MOVED.items():
            if isinstance(given, Mapping) and name in given:
                raise ValueError(f"{name} is called {now} now")
        return given

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


def _check_environment() -> None:
    """Refuse variables that look like settings and are none."""
    known = {field.alias or name for name, field in Settings.model_fields.items()}
    for variable in sorted(os.environ):
        rest = variable.removeprefix(_PREFIX)
        if rest == variable or rest.startswith(_OTHER_VARIABLES):
            continue
        name = rest.lower().partition("__")[0]
        if name in _MOVED:
            now = _PREFIX + _MOVED[name].upper().replace(".", "__")
            raise UsageError(f"{variable} is called {now} now")
        if name not in known:
            meant = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {_PREFIX}{meant[0].upper()}?" if meant else "unset it"
            raise UsageError(f"environment variable {variable}: there is no such setting; {hint}")


def load(**given: Any) -> Settings:
    """Settings with some values given (None counts as not given).

    Raises
    ------
    UsageError
        Naming the setting that is unknown or out of range.
    """
    values = {name: value for name, value in given.items() if value is not None}
    _check_environment()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise UsageError(f"setting {first_problem(error, Settings)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        path = Path(values.get("root") or os.environ.get("CONTIMG_ROOT", ".")) / FILE_NAME
        raise UsageError(f"{path}: is not valid TOML ({error}); mend that line") from error
    return settings.model_copy(update={"root": settings.root.absolute()})


Kind = TypeVar("Kind", bound=Options)


def stage_options(
    settings: Settings, kind: type[Kind], section: str, given: Mapping[str, object] | None = None
) -> Kind:
    """Options of a stage, in the order: given, settings of the stage, sky catalogue, defaults.

    Parameters
    ----------
    settings : Settings
    kind : type of Options
    section : str
        Name of the stage.
    given : mapping of str, optional
        By the user of this run.

    Raises
    ------
    UsageError
        Naming the option that is unknown or out of range.
    """
    layers = [_given(settings, section)]
    if section == "apply":
        # A tile is calibrated as its reference is, unless the settings say otherwise.
        layers.insert(0, _given(settings, "calibrate"))
    layered: dict[str, object] = {}
    if issubclass(kind, CatalogueOptions):
        layered["sky_catalog"] = settings.sky_catalog
    for layer in (*layers, given or {}):
        layered |= layer
    return parse_options(kind, layered, section)


def _given(settings: Settings, section: str) -> dict[str, object]:
    """What environment and file say of a stage."""
    name = "validate_" if section == "validate" else section
    options: Options = getattr(settings, name)
    return options.model_dump(exclude_unset=True)


def pipeline_options(
    settings: Settings, given: Mapping[str, Mapping[str, object]] | None = None
) -> PipelineOptions:
    """Options of all stages; see `stage_options`.

    Parameters
    ----------
    settings : Settings
    given : mapping of str to mapping, optional
        By the user of this run, a section for each stage.

    Raises
    ------
    UsageError
        Naming the stage or option that does not exist, or the value that is out of range.
    """
    kinds = get_type_hints(PipelineOptions)
    unknown = sorted((given or {}).keys() - kinds.keys())
    if unknown:
        have = ", ".join(kinds)
        raise UsageError(f"options {unknown[0]}: there is no such stage (there are {have})")
    return PipelineOptions(
        **{
            section: stage_options(settings, kind, section, (given or {}).get(section))
            for section, kind in kinds.items()
        }
    )


def values(settings: Settings) -> JsonObject:
    """Settings as plain values by name; options of stages as they hold, such as `image.robust`."""
    found = settings.model_dump(mode="json", by_alias=True)
    for section, options in pipeline_options(settings).dump().items():
        del found[section]
        found |= {f"{section}.{name}": value for name, value in options.items()}
    return found


def origins(settings: Settings) -> dict[str, str]:
    """Where each of `values` comes from: command line, environment, the file, or default."""
    environment = EnvSettingsSource(Settings)()
    file = TomlConfigSettingsSource(Settings, settings.root / FILE_NAME)()
    holds, without = values(settings), values(load(root=settings.root))
    found: dict[str, str] = {}
    for name in holds:
        section, _, option = name.partition(".")
        places = ("apply", "calibrate") if section == "apply" else (section,)
        if name == "root":
            found[name] = "command line or environment"
        elif holds[name] != without[name]:
            found[name] = "command line"
        elif not option:
            found[name] = _origin(name, environment, file) or "default"
        else:
            given = (
                _origin(option, environment.get(place, {}), file.get(place, {})) for place in places
            )
            follows = found["sky_catalog"] if option == "sky_catalog" else "default"
            found[name] = next(filter(None, given), follows)
    return found


def _origin(name: str, environment: Mapping[str, object], file: Mapping[str, object]) -> str:
    """Which of two sources a value comes from; empty if none has it."""
    return "environment" if name in environment else FILE_NAME if name in file else ""
