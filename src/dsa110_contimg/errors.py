"""Every error the pipeline raises on purpose, as one tree.

The two supervisors (the reconcile loop and the job runner) choose what to do
by class alone: retry with back-off, give up with the reason, or do nothing.
"""

import errno
import os
import re
from pathlib import Path

_AWAY = (errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EHOSTDOWN)
_FAILING = (*_AWAY, errno.EIO, errno.ETIMEDOUT, errno.EREMOTEIO)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_HDF5_ERRNO = re.compile(r"errno = (\d+)")


class ContimgError(Exception):
    """Base of all errors of this package."""


class RetryableError(ContimgError):
    """The same work may succeed later: a busy disk, a lost worker, a locked database."""


class OutageError(RetryableError):
    """The machine's fault, not the work's: a disk full or read only, a database that is away."""


class WorkerDiedError(RetryableError):
    """Worker after worker died while it ran one call: killed from outside, or by the call."""


class CrashError(ContimgError):
    """Compiled code crashed in every worker that ran one call: the call's data are to blame."""


class ElsewhereError(RetryableError):
    """Files lie on the own disk of a machine to which this program has no way."""


class LostHostError(ElsewhereError):
    """Files lie on the own disk of a machine that is gone, or that has them no more.

    Attributes
    ----------
    host : str
    path : Path or None
        What the machine has no more; None if it is gone itself.
    """

    def __init__(self, message: str, host: str = "", path: Path | None = None):
        super().__init__(message, host, path)
        self.host = host
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0])


class PermanentError(ContimgError):
    """The work can never succeed as given; the message names the input, cause and remedy."""


class NothingToDo(ContimgError):
    """There is no work in the request; not a failure for a daemon, a failure for a batch job."""


class BadInputError(PermanentError):
    """A file or table does not hold what it must hold."""


class UsageError(PermanentError):
    """The request itself is wrong: unknown name, missing input, output that exists."""


class ConflictError(UsageError):
    """The request clashes with one that was made before."""


class GraphError(UsageError):
    """A graph of stages has a cycle, an unknown name or a missing input."""


class CalibrationError(PermanentError):
    """No acceptable calibration could be solved or found: the work is held for an operator."""


class ImagingError(PermanentError):
    """An image could not be made: no unflagged data, or CLEAN diverged."""


class NotYetError(RetryableError):
    """What the work depends on is not decided yet: to be asked again, and nobody's failure."""


class CancelledRunError(ContimgError):
    """Whoever asked for the run wants it no more."""


class StaleClaimError(ContimgError):
    """The lease on this work passed to somebody else; the result must be thrown away."""


def unreadable(path: Path, what: str, error: OSError | None = None) -> ContimgError:
    """The error for a file that cannot be opened: its own fault, or that of its disk.

    A directory that is gone or empty, where a file was, is a disk that is not mounted.
    """
    try:
        away = not any(path.parent.iterdir())
    except OSError:
        away = True
    if away or (error is not None and error.errno in _AWAY):
        return OutageError(
            f"{path}: is not there, nor anything else in {path.parent}; is its disk mounted?"
        )
    return BadInputError(f"{path}: {what}")


def disk_failed(error: BaseException) -> bool:
    """True if a file could not be read for its disk's sake: it says nothing of the file.

    HDF5 tells the system's error number only within its message.
    """
    number = error.errno if isinstance(error, OSError) else None
    found = _HDF5_ERRNO.search(str(error))
    if number in _FAILING or (found is not None and int(found[1]) in _FAILING):
        return True
    # casacore has the system's words.
    return any(os.strerror(number) in str(error) for number in (*_FAILING, *_FULL))
