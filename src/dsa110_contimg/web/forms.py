"""Forms made from options: the same fields, help texts and defaults as the command line's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from dsa110_contimg.batch.kinds import KINDS
from dsa110_contimg.errors import UsageError
from dsa110_contimg.options import Options
from dsa110_contimg.settings import Settings, pipeline_options

_OPTIONS = "options"
_UNITS = {
    "mjy": "mJy",
    "jy": "Jy",
    "arcsec": "arcsec",
    "arcmin": "arcmin",
    "deg": "deg",
    "s": "s",
    "m": "m",
    "h": "h",
    "hz": "Hz",
    "mhz": "MHz",
    "lambda": "wavelengths",
    "sigma": "sigma",
}
"""Ends of the names of options."""


@dataclass(frozen=True)
class Field:
    """One field of a form.

    Attributes
    ----------
    name : str
        `options.size`, or `options.image.size` where there are several stages.
    label, help : str
    kind : str
        text, number, flag, choice or lines.
    default : str
        What holds if it is left empty.
    choices : tuple of str
    required : bool
    """

    name: str
    label: str
    help: str
    kind: str
    default: str
    choices: tuple[str, ...]
    required: bool


@dataclass(frozen=True)
class Fieldset:
    """Fields under a title."""

    title: str
    fields: tuple[Field, ...]


def fieldsets(kind: str, settings: Settings) -> list[Fieldset]:
    """The form of a type of job: its parameters, then the options of each stage it runs."""
    request = KINDS[kind]
    sets = [Fieldset("Request", tuple(_fields(request, "")))]
    holds = pipeline_options(settings)
    for section in request.stages:
        options = getattr(holds, section)
        title = f"Options: {section}"
        fields = _fields(type(options), _prefix(kind, section), options)
        # What the request itself asks for is asked once.
        asked = request.model_fields
        sets.append(Fieldset(title, tuple(one for one in fields if _own_name(one) not in asked)))
    return sets


def _own_name(field: Field) -> str:
    return field.name.rpartition(".")[2]


def _prefix(kind: str, section: str) -> str:
    return f"{_OPTIONS}.{section}." if _has_sections(kind) else f"{_OPTIONS}."


def _has_sections(kind: str) -> bool:
    """True if options are given by stage."""
    return len(KINDS[kind].stages) > 1


def _fields(model: type[Options], prefix: str, holds: Options | None = None) -> Iterator[Field]:
    for name, info in model.model_fields.items():
        if name == _OPTIONS:
            continue
        default = getattr(holds, name) if holds is not None else info.get_default()
        kind, choices = _kind(info)
        yield Field(
            f"{prefix}{name}",
            _label(name),
            info.description or "",
            kind,
            "" if info.is_required() else _said(default),
            choices,
            required=info.is_required(),
        )


def _label(name: str) -> str:
    """Name of an option in words, its unit in brackets."""
    words, _, last = name.rpartition("_")
    unit = _UNITS.get(last) if words else None
    return f"{words.replace('_', ' ')} ({unit})" if unit else name.replace("_", " ")


def _kind(info: FieldInfo) -> tuple[str, tuple[str, ...]]:
    """How a value is entered."""
    annotation: object = info.annotation
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    has_text_form = any(isinstance(one, BeforeValidator) for one in info.metadata)
    if has_text_form or get_origin(annotation) is Annotated:
        return "text", ()
    if annotation is bool:
        return "flag", ("yes", "no")
    if get_origin(annotation) is Literal:
        return "choice", tuple(str(value) for value in get_args(annotation))
    if annotation == list[str]:
        return "lines", ()
    if annotation in (int, float):
        return "number", ()
    return "text", ()


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def params(kind: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of a job from what its form was filled with."""
    lines = _lines(kind)
    found: dict[str, Any] = {}
    for name, text in given.items():
        *sections, last = name.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UsageError(f"{name}: {section} is no group of options")
        place[last] = [line.strip() for line in text.splitlines()] if name in lines else text
    return found


def filled(kind: str, params: Mapping[str, Any]) -> dict[str, str]:
    """What a form is filled with to give the same parameters again."""
    found: dict[str, str] = {}
    for name, value in params.items():
        if name == _OPTIONS:
            sections = value if _has_sections(kind) else {"": value}
            for section, options in sections.items():
                prefix = f"{_OPTIONS}.{section}." if section else f"{_OPTIONS}."
                found |= {f"{prefix}{key}": _said(one) for key, one in options.items()}
        elif value is not None:
            found[name] = "\n".join(value) if name in _lines(kind) else _said(value)
    return found


def _lines(kind: str) -> set[str]:
    """Parameters that have a line for each of their values."""
    return {field.name for field in _fields(KINDS[kind], "") if field.kind == "lines"}
