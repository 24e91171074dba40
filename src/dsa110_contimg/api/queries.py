"""Unknown names in a query are refused: a filter that is misspelt would filter nothing."""

import difflib

from fastapi import HTTPException, Request


def refuse_unknown_names(request: Request) -> None:
    """Raise `HTTPException` (422) for a name that the description of the route does not have."""
    if not request.query_params:
        return
    path = request.scope["route"].path_format
    described = request.app.openapi()["paths"].get(path, {}).get(request.method.lower(), {})
    known = [one["name"] for one in described.get("parameters", ()) if one["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            raise HTTPException(422, f"query parameter {name!r} is unknown; {_hint(name, known)}")


def _hint(name: str, known: list[str]) -> str:
    if not known:
        return "there are none here"
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
