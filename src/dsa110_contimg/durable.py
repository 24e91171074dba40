"""Files as a whole: written or not, on disk when the database says so, and how large."""

import contextlib
import ctypes
import errno
import glob
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

from dsa110_contimg.errors import UsageError

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
"""What file systems without hard links say: exFAT, many of FUSE, some of the network."""
_HERE, _NO_REPLACE = -100, 1
"""AT_FDCWD and RENAME_NOREPLACE of renameat2(2)."""
_UNFINISHED = re.compile(r"\..+\.part-[0-9a-f]{8}")


def check_new(paths: Iterable[Path]) -> None:
    """Raise `UsageError` if one of these, which are to be written, is there."""
    for path in paths:
        if path.exists():
            raise UsageError(f"{path}: exists already; choose another --output")


def check_writable(path: Path) -> None:
    """Raise `UsageError` if nothing of this name can be made: its directory must be there."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{path}: there is no directory {folder}; make it, or choose another name")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{path}: {folder} may not be written by this user; choose another name")


def check_writable_file(path: Path) -> None:
    """Raise `UsageError` if no file of this name can be made."""
    check_writable(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a directory; give the name of a file")


def unfinished_name(path: Path) -> Path:
    """A hidden name beside a path, that nobody else uses, for what is not finished."""
    return path.with_name(f".{path.name}.part-{uuid4().hex[:8]}")


def is_unfinished(name: str) -> bool:
    """True if `unfinished_name` made a name; its program may have been killed since."""
    return _UNFINISHED.fullmatch(name) is not None


def named_after(path: Path) -> Iterator[Path]:
    """Find files and directories whose names begin with that of a path, finished or not."""
    name = glob.escape(path.name)
    yield from path.parent.glob(f"{name}*")
    yield from path.parent.glob(f".{name}*.part-*")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file or directory that appears under its name when everything in it is written.

    Parameters
    ----------
    path : Path
        Its name; must not exist.

    Yields
    ------
    Path
        Where to write meanwhile; nothing is made. Removed if an error is raised.
    """
    part = unfinished_name(path)
    try:
        yield part
        part.rename(path)
    finally:
        discard(part)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file that takes the place of one of the same name, if there is one, when it is on disk.

    Parameters
    ----------
    path : Path

    Yields
    ------
    Path
        Where to write meanwhile; removed if an error is raised.
    """
    part = unfinished_name(path)
    try:
        yield part
        sync(part)
        part.replace(path)
    finally:
        discard(part)


def place_new(part: Path, path: Path) -> str:
    """Give a finished file its name, unless something has that name.

    A hard link does it where the file system has them; else a rename that refuses to replace
    (Linux); else the name is taken by an empty file that the finished one replaces at once, which
    a crash in between leaves empty.

    Parameters
    ----------
    part : Path
        The file under its unfinished name, which it may lose.
    path : Path
        In the same directory.

    Returns
    -------
    str
        How it was done.

    Raises
    ------
    FileExistsError
        If something has the name.
    """
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return "hard link"
    if _rename_new(part, path):
        return "rename without replacing"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        part.replace(path)
    except OSError:
        discard(path)
        raise
    return "exclusive creation"


def way_to_place(folder: Path) -> str:
    """How `place_new` does it in a directory, tried there.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = folder / f"trial-{uuid4().hex[:8]}"
    part = unfinished_name(path)
    try:
        part.write_bytes(b"")
        return place_new(part, path)
    finally:
        discard(part)
        discard(path)


def _rename_new(part: Path, path: Path) -> bool:
    """Rename unless the new name is taken; False if the system cannot.

    Raises
    ------
    FileExistsError
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if rename(_HERE, os.fsencode(part), _HERE, os.fsencode(path), _NO_REPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (*_NO_LINKS, errno.ENOTTY):
        return False
    # Of the class that fits the number: FileExistsError where the name is taken.
    raise OSError(number, os.strerror(number), str(path))


def remove_whole(path: Path) -> bool:
    """Remove a file or directory: under its name it is there whole or not at all.

    Returns
    -------
    bool
        False if it was gone already.
    """
    part = unfinished_name(path)
    try:
        path.rename(part)
    except FileNotFoundError:
        return False
    discard(part)
    return True


def discard(path: Path) -> None:
    """Remove a file, or a directory with everything in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # An error of the disk must not hide the error that led here.
        with contextlib.suppress(OSError):
            path.unlink()


def sync_tree(path: Path) -> None:
    """Force a file, or everything in a directory, to disk, and its own name with it.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        If the disk fails.
    """
    for found in _below(path):
        sync(found)
    sync(path.parent)


def sync(path: Path) -> None:
    """Force one file's content, or a directory's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_trees(paths: Iterable[Path]) -> None:
    """The same of several, each once."""
    for path in dict.fromkeys(paths):
        sync_tree(path)


def _below(path: Path) -> Iterator[Path]:
    """Files first, then the directory that names them."""
    if path.is_dir():
        for entry in path.iterdir():
            yield from _below(entry)
    yield path


def size_bytes(path: Path) -> int:
    """Size of a file, or of everything in a directory."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total
