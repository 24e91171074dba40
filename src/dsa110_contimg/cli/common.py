"""What every command shares: options from models, settings, errors to exit status."""

import getpass
import inspect
import json
import logging
import os
import sys
import typing
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, overload

import typer
from pydantic import BeforeValidator

from dsa110_contimg import __version__
from dsa110_contimg import settings as settings_module
from dsa110_contimg.durable import check_writable_file
from dsa110_contimg.errors import ContimgError, UsageError
from dsa110_contimg.options import Options
from dsa110_contimg.settings import Settings
from dsa110_contimg.times import unix_s

PICTURES = (".png", ".svg", ".pdf")
"""Endings of the names of pictures."""
RootOption = Annotated[
    Path | None,
    typer.Option("--root", help="Directory that holds everything (default: $CONTIMG_ROOT or here)"),
]
CatalogOption = Annotated[
    str | None, typer.Option("--sky-catalog", help="Catalogue of the sky model and of validation")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes (default: one a core)")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler", help="Compute on this Dask cluster, tls://HOST:PORT (default: here)"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dsa110-contimg {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version"),
]


def load_settings(announce: bool = True, scheduler: str | None = None, **given: object) -> Settings:
    """Settings of this command; says on standard error which root holds."""
    if scheduler is not None:
        given["executor"] = {"scheduler": scheduler}
    settings = settings_module.load(**given)
    if announce:
        typer.echo(f"root: {settings.root}", err=True)
    return settings


def run_app(app: typer.Typer) -> None:
    """Run a command line: an error is one line and exit status 1, wrong usage is 2."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        app()
    except ContimgError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.secho(f"error: {place}", fg="red", err=True)
        sys.exit(1)


def with_options(
    model: type[Options], name: str = "options"
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Give a command one option for each field of a model.

    The command receives the values that were given, as a dict, in parameter `name`.
    """

    def decorate(function: Callable[..., object]) -> Callable[..., object]:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(annotation=hints.get(key, parameter.annotation))
            for key, parameter in signature.parameters.items()
            if key != name
        ]
        taken = {parameter.name for parameter in own}
        added = [
            _parameter(key, field) for key, field in model.model_fields.items() if key not in taken
        ]

        @wraps(function)
        def wrapper(**values: object) -> object:
            given = {p.name: values.pop(p.name) for p in added}
            values[name] = {key: value for key, value in given.items() if value is not None}
            return function(**values)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *added)]
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


def _parameter(name: str, field: Any) -> inspect.Parameter:
    kind = field.annotation
    if get_origin(kind) in (Union, UnionType):
        kind = next(member for member in get_args(kind) if member is not type(None))
    if get_origin(kind) is Annotated or any(isinstance(m, BeforeValidator) for m in field.metadata):
        kind = str
    holds = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    default = "" if holds in (None, "") else f" (default: {holds})"
    extra: dict[str, Any] = {"help": f"{field.description}{default}", "show_default": False}
    flag = "--" + name.replace("_", "-")
    declarations = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, typer.Option(*declarations, **extra)],
    )


@overload
def parse_time(text: str) -> float: ...
@overload
def parse_time(text: str | None) -> float | None: ...
def parse_time(text: str | None) -> float | None:
    """Unix seconds from a number or an ISO time (UTC unless it says otherwise).

    Raises
    ------
    UsageError
    """
    try:
        return None if text is None else unix_s(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def print_json(value: object) -> None:
    """JSON on standard output; records too, and null for what is no number."""
    from pydantic_core import to_jsonable_python

    plain = to_jsonable_python(value, inf_nan_mode="null", fallback=str)
    typer.echo(json.dumps(plain, indent=1))


def person() -> str:
    """Who gives the command, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def check_picture(path: Path | None) -> None:
    """Refuse a picture that cannot be written, before there is anything to draw."""
    if path is None:
        return
    if path.suffix not in PICTURES:
        raise UsageError(f"{path}: a picture is {', '.join(PICTURES)}; give such a name")
    check_writable_file(path)


def _console() -> object:
    """Lines for people; a traceback without the values of variables, which may be secret."""
    import structlog

    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def setup_logging(form: str = "text") -> None:
    """One line an event on standard error: text with keys and values after it, or JSON."""
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(
                (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
                if form == "json"
                else (_console(),)
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
