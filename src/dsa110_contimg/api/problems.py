"""Answers to requests that are not done, for every route's documentation."""

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from dsa110_contimg.options import problem_text


class Problem(BaseModel):
    """Why a request was not done."""

    detail: str


def request_problems(error: RequestValidationError) -> str:
    """Everything that is wrong with a request, in one line."""
    said = []
    for one in error.errors():
        _, *inside = one["loc"]
        name = ".".join(str(part) for part in inside)
        text = problem_text(one["type"], one["msg"])
        said.append(f"{name}: {text}" if name else text)
    return "; ".join(said)


def problem(what: str) -> dict[str, object]:
    """Documentation of one such answer; JSON, whatever the route's good answer is."""
    # Given as a model it would take the media type of the good answer.
    return {
        "description": what,
        "content": {"application/json": {"schema": Problem.model_json_schema()}},
    }


PROBLEMS: dict[int | str, dict[str, object]] = {
    400: problem("The request is malformed"),
    401: problem("A token is needed, or the one given is wrong"),
    403: problem("The token, or a request from elsewhere without one, may not do this"),
    413: problem("The body is too large"),
    422: problem("A value is wrong; the text says which"),
    429: problem("Too many requests"),
    503: problem("The database or the disk is busy, or too many jobs wait; try again"),
}
MISSING: dict[int | str, dict[str, object]] = {404: problem("There is no such thing")}
