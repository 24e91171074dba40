"""Flags that people add are refused where they would never apply."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import UsageError


def _add(root: Path, *given: str) -> str:
    done = CliRunner().invoke(app, ["flags", "add", "--reason", "x", *given, "--root", str(root)])
    if isinstance(done.exception, UsageError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.accepts(
    "Names", "Flags for absent antennas or channels, or an end before the begin", "refused"
)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--antenna", "pad999"], "antenna pad999: is in no data of this telescope"),
        (["--antenna", "103,1030"], "antenna 1030: .* did you mean 103"),
        (["--from", "2026-02-02", "--to", "2026-01-01"], "2026-02-02T00:00:00, is after the last"),
        (["--from", "61065.9"], "time '61065.9' is none of this telescope: give an ISO time"),
        (["--from", "nan"], "give an ISO time"),
        (["--channels", "0-3,90000"], "channel 90000: the data have 768 at most"),
        ([], "this would flag everything"),
    ],
)
def test_a_flag_that_never_applies_is_refused(given: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        _add(tmp_path, *given)


def test_spaces_between_names_are_none_of_them(tmp_path: Path) -> None:
    said = _add(tmp_path, "--antenna", "103, 104", "--from", "MJD 61065.5")
    assert "antennas 103,104 from 2026-01-25T12:00:00: x" in said
