"""The table of docs/inputs.md: what is accepted from whom, from the marks of the tests.

`python tools/inputs_table.py` prints it; a test compares it with the page.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"


def accepted() -> Iterator[tuple[str, str, str]]:
    """Kind, input and outcome of every test that is marked `accepts`."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for mark in getattr(node, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.accepts":
                    kind, what, outcome = (ast.literal_eval(one) for one in mark.args)
                    yield kind, what, outcome


def table() -> str:
    """The table, kinds together."""
    rows = [*accepted()]
    kinds = list(dict.fromkeys(kind for kind, _, _ in rows))
    lines = ["| | given | what happens |", "|---|---|---|"]
    for kind in sorted(kinds):
        lines += [f"| {kind} | {what} | {out} |" for one, what, out in rows if one == kind]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
