"""docs/inputs.md says what the tests say."""

import runpy
from pathlib import Path

PROJECT = Path(__file__).parent.parent


def test_the_table_is_that_of_the_tests() -> None:
    table = runpy.run_path(str(PROJECT / "tools" / "inputs_table.py"))["table"]()
    assert table.count("\n") > 30
    assert table in (PROJECT / "docs" / "inputs.md").read_text()
