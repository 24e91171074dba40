"""Options: frozen objects whose field descriptions are the documentation.

The same text is the command line's `--help`, the REST schema and the docs. Each package of science
has the classes that configure it in its `options.py`; `stage_options` puts them together.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from dsa110_contimg.errors import UsageError
from dsa110_contimg.records import STORED
from dsa110_contimg.times import unix_s

_ANGLE = re.compile(r"^\s*([0-9.eE+-]+)\s*(deg|arcmin|arcsec|mas)?\s*$")
_PROBLEMS = {"extra_forbidden": "is unknown", "missing": "is missing"}
"""Kinds of problems that pydantic says in words of its own."""
_PER_ARCSEC = {"deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0, "mas": 1e-3}


def _arcsec(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _ANGLE.match(value)
    if not match:
        raise ValueError("give a number with deg, arcmin, arcsec or mas, such as 6arcsec")
    return float(match[1]) * _PER_ARCSEC[match[2] or "arcsec"]


def _unix_s(value: object, info: ValidationInfo) -> object:
    # What an earlier version accepted and stored stays readable.
    stored = isinstance(info.context, Mapping) and info.context.get(STORED, False)
    if stored or not isinstance(value, str | int | float | datetime):
        return value
    return unix_s(value)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _numbers(count: int) -> BeforeValidator:
    """Text with so many numbers becomes a list of them."""

    def listed(value: object) -> object:
        parts = _parts(value) if isinstance(value, str) else value
        if isinstance(parts, list | tuple) and len(parts) != count:
            raise ValueError(f"give {count} numbers with commas between them")
        return parts

    return BeforeValidator(listed)


def _named(value: object) -> object:
    return [name for name in _parts(value) if name] if isinstance(value, str) else value


ArcSec = Annotated[float, BeforeValidator(_arcsec)]
"""An angle in arcseconds; text may carry its unit."""

UnixTime = Annotated[
    float,
    BeforeValidator(_unix_s),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}], "title": "Time"}),
]
"""Unix seconds; see `times.unix_s` for what is accepted."""

Range = Annotated[tuple[float, float], _numbers(2)]
"""Lowest and highest value; text has a comma between them."""

Box = Annotated[tuple[float, float, float, float], _numbers(4)]
"""First and last of one coordinate, then of the other; text has commas between them."""

Names = Annotated[tuple[str, ...], BeforeValidator(_named)]
"""Names; text has commas between them."""


class Options(BaseModel):
    """Base of all options.

    Attributes
    ----------
    FORMER_NAMES : mapping of str to str
        Names that options had in earlier versions, and their names now.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    FORMER_NAMES: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_former_names(cls, given: object) -> object:
        for name in given if isinstance(given, Mapping) else ():
            now = cls.former_names().get(name)
            if now is not None:
                raise ValueError(f"{name} is called {now} now")
        return given

    @classmethod
    def former_names(cls) -> dict[str, str]:
        """Former names of all options of this class, with their names now."""
        names: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            names |= vars(base).get("FORMER_NAMES", {})
        return names

    def key(self) -> str:
        """Short hash that is equal for equal options."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


Kind = TypeVar("Kind", bound=Options)


def parse_options(
    kind: type[Kind], values: Mapping[str, object], section: str, *, stored: bool = False
) -> Kind:
    """Options from plain values.

    Parameters
    ----------
    kind : type of Options
    values : mapping of str to object
    section : str
        Of the settings, for what is said of them.
    stored : bool
        They were accepted before, perhaps by an earlier version.

    Raises
    ------
    UsageError
        Naming the option that is unknown or out of range.
    """
    try:
        return kind.model_validate(dict(values), context={STORED: stored})
    except ValidationError as error:
        raise UsageError(f"option {first_problem(error, kind, section)}") from error


def first_problem(error: ValidationError, kind: type[BaseModel], *sections: str) -> str:
    """The first thing that is wrong with options of a kind: the name and why."""
    first = error.errors()[0]
    *parents, name = first["loc"] or ("",)
    said = problem_text(first["type"], first["msg"])
    if first["type"] == "extra_forbidden":
        said += _similar(str(name), _names_in(kind, parents))
    full = ".".join(str(part) for part in (*sections, *first["loc"]))
    return f"{full}: {said}" if full else said


def problem_text(kind: str, message: str) -> str:
    """What pydantic says of a value, by the kind of the problem, in words for users."""
    return _PROBLEMS.get(kind, message.removeprefix("Value error, "))


def _names_in(kind: object, parents: Sequence[int | str]) -> list[str]:
    """Names of the fields of a model, or of one in it."""
    for parent in parents:
        fields = getattr(kind, "model_fields", {})
        kind = fields[parent].annotation if parent in fields else None
    return list(getattr(kind, "model_fields", {}))


def _similar(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(known)}" if known else ""
