"""Headers are read apart: a damaged file can keep HDF5 busy for ever, or kill its reader."""

from collections.abc import Sequence
from pathlib import Path

from dsa110_contimg.errors import BadInputError, OutageError, RetryableError
from dsa110_contimg.executors.base import Executor
from dsa110_contimg.telescope import Telescope
from dsa110_contimg.visibilities import observations, uvh5

TIMEOUT_S = 5.0
FoundHeader = tuple[uvh5.SubbandHeader, int] | BadInputError
"""A header with its sub-band's number, or what is wrong."""


def read_headers(paths: Sequence[Path], telescope: Telescope) -> list[FoundHeader]:
    """Headers of some files, in their order."""
    return [_read(path, telescope) for path in paths]


def _read(path: Path, telescope: Telescope) -> FoundHeader:
    try:
        header = uvh5.read_header(path)
        # Times that are no dates, frequencies that are none: found here, not in a transaction.
        observations.tile_id(header.time_key)
        return header, header.subband(telescope)
    except BadInputError as error:
        return error
    except (ValueError, OverflowError) as error:
        return BadInputError(
            f"{path}: its header holds values that cannot be ({error}); it is damaged, send it "
            "again"
        )


class HeaderReader:
    """Reads headers on an executor whose time-out or death condemns one file only.

    Parameters
    ----------
    executor : Executor
    telescope : Telescope
    """

    def __init__(self, executor: Executor, telescope: Telescope):
        self._executor = executor
        self._telescope = telescope

    def __call__(self, paths: Sequence[Path]) -> list[FoundHeader]:
        """Headers of some files, in their order."""
        call = self._executor.submit(read_headers, paths=list(paths), telescope=self._telescope)
        try:
            found: list[FoundHeader] = call.result()
        except OutageError:
            raise
        except RetryableError as error:
            if len(paths) > 1:
                return [one for path in paths for one in self([path])]
            return [
                BadInputError(
                    f"{paths[0]}: is damaged, its header cannot be read ({error}); "
                    "send it again or remove it"
                )
            ]
        return found
