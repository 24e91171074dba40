"""Files and pictures that are not drawn from the database."""

import io
from functools import lru_cache
from pathlib import Path

from fastapi import HTTPException, Response

from dsa110_contimg.web.site import STATIC

ALADIN = "/static/vendor/aladin.js"
ASK = {"cache-control": "private, no-cache"}
"""For what may be made anew under its name."""
KEEP = {"cache-control": "private, max-age=3600"}
"""For pictures of files that are never changed."""
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
)


def has_aladin() -> bool:
    """True if the build had npm to fetch Aladin Lite with."""
    return (STATIC / "vendor" / "aladin.js").is_file()


def self_contained(content: str) -> Response:
    """A report: nothing in it runs, nothing is fetched."""
    headers = {"content-security-policy": _REPORT_POLICY}
    return Response(content, media_type="text/html", headers=headers)


def thumbnail(path: Path, width: int) -> bytes:
    """A picture made narrower; the last ones are kept.

    Raises
    ------
    HTTPException
        404 if it is gone.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise HTTPException(404, "the picture is gone") from error
    return _thumbnail(path, width, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)
def _thumbnail(path: Path, width: int, _mtime_ns: int, _size: int) -> bytes:
    from PIL import Image as Picture

    with Picture.open(path) as picture:
        height = max(1, round(picture.height * width / picture.width))
        small = picture.convert("RGB").resize((width, height), Picture.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, format="png")
    return buffer.getvalue()
