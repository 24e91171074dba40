"""Files and pictures that are not drawn from the database."""

import io
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from cachetools import LRUCache
from fastapi import HTTPException, Response

from dsa110_contimg.web.site import STATIC

ALADIN = "/static/vendor/aladin.js"
ASK = {"cache-control": "private, no-cache"}
"""For what may be made anew under its name."""
KEEP = {"cache-control": "private, max-age=3600"}
"""For pictures of files that are never changed."""
_KEPT_BYTES = 100_000_000
_pictures: LRUCache[Hashable, bytes] = LRUCache(_KEPT_BYTES, getsizeof=len)
_turn = Lock()
_drawing = tuple(Lock() for _ in range(16))
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


def picture(path: Path, what: str, draw: Callable[[Path], bytes]) -> bytes:
    """A picture of a file or directory, drawn once while that stays; those asked for last are kept.

    Parameters
    ----------
    path : Path
    what : str
        Tells pictures of one file apart.
    draw : callable
        Makes the picture.

    Raises
    ------
    HTTPException
        404 if it is gone.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise HTTPException(404, f"{path.name} is gone") from error
    key = (path, what, found.st_mtime_ns, found.st_size)
    # Whoever else asks for the same takes it ready made.
    with _drawing[hash(key) % len(_drawing)]:
        with _turn:
            content = _pictures.get(key)
        if content is None:
            content = draw(path)
            with _turn, suppress(ValueError):
                _pictures[key] = content
    return content


def thumbnail(path: Path, width: int) -> bytes:
    """A picture made narrower."""

    def draw(path: Path) -> bytes:
        from PIL import Image as Picture

        with Picture.open(path) as whole:
            height = max(1, round(whole.height * width / whole.width))
            small = whole.convert("RGB").resize((width, height), Picture.Resampling.BOX)
        buffer = io.BytesIO()
        small.save(buffer, format="png")
        return buffer.getvalue()

    return picture(path, f"{width} wide", draw)
