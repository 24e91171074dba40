"""What a group's steps gave is found again, as long as the files are there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.fresh import fresh_path
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.streaming import journal
from dsa110_contimg.streaming.journal import GroupJournal


@dataclass(frozen=True)
class Made:
    path: Path
    number: int


CALLS: list[int] = []


def make(number: int, output: Path) -> Made:
    CALLS.append(number)
    output.write_text(str(number))
    return Made(output, number)


def name_of(path: Path) -> str:
    CALLS.append(-1)
    return path.name


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    CALLS.clear()
    registry = Registry(database_url, None)
    yield registry
    registry.close()


def _run(registry: Registry, root: Path, group: str, *numbers: int) -> list[Made]:
    context = PipelineContext(
        root, executor=InlineExecutor(), journal=GroupJournal(registry, group)
    )
    calls = [call(make, number=n, output=fresh_path(root, "made", ".txt")) for n in numbers]
    return context.map(calls, "thing")


def test_a_step_is_done_once_and_its_result_is_the_same(registry: Registry, tmp_path: Path) -> None:
    first = _run(registry, tmp_path, "g", 1, 2)
    again = _run(registry, tmp_path, "g", 1, 2, 3)
    assert CALLS == [1, 2, 3]
    assert again[:2] == first
    assert again[2].path.read_text() == "3"


def test_a_step_whose_file_is_gone_is_done_again(registry: Registry, tmp_path: Path) -> None:
    (first,) = _run(registry, tmp_path, "g", 1)
    first.path.unlink()
    (again,) = _run(registry, tmp_path, "g", 1)
    assert CALLS == [1, 1]
    assert again.path != first.path


def test_other_groups_and_finished_ones_know_nothing(registry: Registry, tmp_path: Path) -> None:
    _run(registry, tmp_path, "g", 1)
    _run(registry, tmp_path, "h", 1)
    GroupJournal(registry, "g").clear()
    _run(registry, tmp_path, "g", 1)
    _run(registry, tmp_path, "h", 1)
    assert CALLS == [1, 1, 1]


def test_what_has_no_plain_form_is_simply_done_again(registry: Registry, tmp_path: Path) -> None:
    context = PipelineContext(tmp_path, journal=GroupJournal(registry, "g"))
    for _ in range(2):
        assert context.compute(call(name_of, path=tmp_path / "a"), "name") == "a"
    assert CALLS == [-1, -1]


def test_after_a_restart_of_the_machine_steps_are_done_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(journal, "_BOOT_ID", boot)
    for name, calls in (("first", [1]), ("first", [1]), ("second", [1, 1])):
        boot.write_text(name)
        journal._boot.cache_clear()
        _run(registry, tmp_path, "g", 1)
        assert calls == CALLS
    journal._boot.cache_clear()
