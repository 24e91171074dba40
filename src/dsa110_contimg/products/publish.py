"""Put finished files under their public names, exactly once.

A file is copied to a hidden name in the target directory (which may be another file system),
forced to disk, then given its public name by a way that fails if the name exists, so two publishers
cannot both win, and a crash leaves either no public file or a whole one. On file systems with
neither links nor such a rename it may leave an empty one; see `durable.place_new`.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dsa110_contimg.durable import place_new, sync, unfinished_name
from dsa110_contimg.errors import OutageError, PermanentError


@dataclass(frozen=True)
class Published:
    """A published mosaic.

    Attributes
    ----------
    path : Path
        FITS file, whose noise map lies beside it.
    sha256 : str
        Of that file: a mosaic may be held, made again and published under the same name.
    """

    path: Path
    sha256: str


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish_file(source: Path, target: Path, *, orphaned: bool = False) -> str:
    """Publish one file; doing it again with the same bytes changes nothing.

    Parameters
    ----------
    source, target : Path
    orphaned : bool
        A file that has the public name was left by a crash before the database knew of it: it is
        replaced, at once.

    Returns
    -------
    str
        The file's SHA-256.

    Raises
    ------
    PermanentError
        If a different file has the public name, or the directory cannot be written.
    OutageError
        If the disk is full.
    """
    checksum = sha256(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = unfinished_name(target)
        try:
            shutil.copyfile(source, hidden)
            sync(hidden)
            try:
                place_new(hidden, target)
            except FileExistsError as error:
                if sha256(target) != checksum:
                    if not orphaned:
                        raise PermanentError(
                            f"{target}: a different product has this name; it is never overwritten"
                        ) from error
                    os.replace(hidden, target)
            sync(target.parent)
        finally:
            hidden.unlink(missing_ok=True)
    except PermissionError as error:
        raise PermanentError(
            f"{target.parent}: may not be written; give this user the right to"
        ) from error
    except OSError as error:
        raise OutageError(f"{target}: cannot be published ({error.strerror})") from error
    return checksum
