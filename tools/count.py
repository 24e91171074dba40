"""Count what the code should have little of, and fail where there is more than is allowed.

Run by `make lint`. Each limit is the number of today or less: it is lowered with the code, and
never raised.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "dsa110_contimg"
MAX_PARAMETERS = 10
MAX_FUNCTION_LINES = 80

Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_name(node: ast.AST, name: str) -> bool:
    """Return True for a plain name."""
    return isinstance(node, ast.Name) and node.id == name


def is_dict_of_any(node: ast.AST) -> bool:
    """Return True for `dict[str, Any]`."""
    return (
        isinstance(node, ast.Subscript)
        and is_name(node.value, "dict")
        and isinstance(node.slice, ast.Tuple)
        and is_name(node.slice.elts[1], "Any")
    )


def is_compiled(function: Function) -> bool:
    """Return True for a kernel that numba compiles."""
    return any("njit" in ast.unparse(decorator) for decorator in function.decorator_list)


def has_many_parameters(node: ast.AST) -> bool:
    """Return True for a function with more parameters than allowed."""
    if not isinstance(node, Function) or is_compiled(node):
        return False
    given = node.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")]) > MAX_PARAMETERS


def is_long(node: ast.AST) -> bool:
    """Return True for a function with more lines of code than allowed, its docstring apart."""
    if not isinstance(node, Function) or node.end_lineno is None:
        return False
    lines = node.end_lineno - node.body[0].lineno + 1
    if ast.get_docstring(node) is not None:
        documentation = node.body[0]
        lines -= (documentation.end_lineno or documentation.lineno) - documentation.lineno + 1
    return lines > MAX_FUNCTION_LINES


def catches_everything(node: ast.AST) -> bool:
    """Return True for `except Exception` and its like."""
    broad = ("Exception", "BaseException")
    if isinstance(node, ast.ExceptHandler):
        return node.type is None or any(is_name(node.type, name) for name in broad)
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "contextlib.suppress"
        and any(is_name(argument, name) for argument in node.args for name in broad)
    )


def imports_sqlalchemy(node: ast.AST) -> bool:
    """Return True for an import of SQLAlchemy."""
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] == "sqlalchemy" for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy"


COUNTS: dict[str, tuple[int, Callable[[ast.AST], bool], tuple[str, ...]]] = {
    "dict[str, Any]": (5, is_dict_of_any, ()),
    "Any": (108, lambda node: is_name(node, "Any"), ()),
    f"functions with more than {MAX_PARAMETERS} parameters": (0, has_many_parameters, ()),
    f"functions of more than {MAX_FUNCTION_LINES} lines": (0, is_long, ("registry/migrations",)),
    "broad excepts": (16, catches_everything, ()),
    "imports of SQLAlchemy outside registry/": (0, imports_sqlalchemy, ("registry",)),
}
"""What is counted: its limit, which nodes of the syntax tree it is, and packages it may be in."""


def places(
    trees: dict[Path, ast.Module], counted: Callable[[ast.AST], bool], allowed: tuple[str, ...]
) -> Iterator[str]:
    """Find the places of what is counted."""
    for path, tree in trees.items():
        if any(path.is_relative_to(SOURCE / one) for one in allowed):
            continue
        for node in ast.walk(tree):
            if counted(node):
                yield f"{path.relative_to(SOURCE)}:{getattr(node, 'lineno', 0)}"


def main() -> int:
    """Print each count with its limit; 1 if one is exceeded."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
    exceeded = False
    for what, (limit, counted, allowed) in COUNTS.items():
        found = list(places(trees, counted, allowed))
        print(f"{what:45} {len(found):4} (at most {limit})")
        if len(found) > limit:
            exceeded = True
            print("  " + "\n  ".join(found))
    comments = sum(path.read_text().count("# fmt: skip") for path in trees)
    print(f"{'# fmt: skip':45} {comments:4} (at most 0)")
    return int(exceeded or comments > 0)


if __name__ == "__main__":
    sys.exit(main())
