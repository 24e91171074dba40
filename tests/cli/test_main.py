"""The first page of the command line."""

import re

from typer.testing import CliRunner

from dsa110_contimg import __version__
from dsa110_contimg.cli.main import BATCH, KEEP, LOOK, START, app


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output == f"dsa110-contimg {__version__}\n"


def test_every_command_is_in_one_section_of_the_help() -> None:
    done = CliRunner().invoke(app, ["--help"], terminal_width=100)
    assert done.exit_code == 0
    sections = re.split(rf"^({START}|{BATCH}|{LOOK}|{KEEP}):$", done.output, flags=re.MULTILINE)
    assert sections[1::2] == [START, BATCH, LOOK, KEEP]
    listed = [name for part in sections[2::2] for name in re.findall(r"^  ([a-z-]+)  ", part, re.M)]
    assert len(set(listed)) == len(listed)
    names = {command.name for command in app.registered_commands}
    assert set(listed) == names | {group.name for group in app.registered_groups}
    assert "--install-completion" in done.output
