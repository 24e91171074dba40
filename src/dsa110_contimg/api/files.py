"""Answers that are files."""

import mimetypes
from pathlib import Path

from fastapi.responses import FileResponse

_MEDIA_TYPES = {
    ".fits": "application/fits",
    ".vot": "application/x-votable+xml",
    ".parquet": "application/vnd.apache.parquet",
}
"""What Python's own table does not have."""


def file_response(path: Path) -> FileResponse:
    """A file under its own name, with its media type."""
    media_type = _MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    return FileResponse(
        path, filename=path.name, media_type=media_type or "application/octet-stream"
    )
