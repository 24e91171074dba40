"""Workers die, freeze and are cancelled; the calls of others go on. Slots go by turn."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dsa110_contimg.errors import (
    CrashError,
    OutageError,
    RetryableError,
    UsageError,
    WorkerDiedError,
)
from dsa110_contimg.executors import local, niceness, priority
from dsa110_contimg.executors.fresh import FreshPath
from dsa110_contimg.executors.local import LocalExecutor
from dsa110_contimg.executors.priority import Priority
from dsa110_contimg.executors.slots import machine_slot
from dsa110_contimg.pipeline.context import concerns_one


def _double(number: int) -> int:
    return 2 * number


def _crash() -> None:
    os._exit(7)


def _hang() -> None:
    time.sleep(60)


def test_a_crash_and_a_time_out_cost_only_their_own_call(tmp_path: Path) -> None:
    with LocalExecutor(1, tmp_path / "slots", timeout_s=6.0) as executor:
        first = executor.submit(_double, number=4)
        crash = executor.submit(_crash)
        hang = executor.submit(_hang)
        last = executor.submit(_double, number=5)
        assert first.result(60) == 8
        with pytest.raises(WorkerDiedError, match="died 5 times"):
            crash.result(60)
        with pytest.raises(RetryableError, match="time-out"):
            hang.result(60)
        assert last.result(60) == 10


def _crash_in_native_code() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_call_that_crashes_compiled_code_is_not_made_for_ever(tmp_path: Path) -> None:
    """Its error concerns the one tile, so that the group of a streamed tile goes on."""
    with LocalExecutor(1, tmp_path / "slots") as executor:
        error = executor.submit(_crash_in_native_code).exception(60)
        assert isinstance(error, CrashError)
        assert "crashed 5 workers (last exit code -11)" in str(error)
        assert concerns_one(error)
        assert executor.submit(_double, number=4).result(60) == 8


def _process_id() -> int:
    return os.getpid()


def _die_once(marker: Path) -> int:
    """Kill the worker the first time, as an operator or the kernel would."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 42


def _freeze(marker: Path) -> None:
    marker.write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


def _hold_the_interpreter() -> None:
    """Sleep in native code without giving the interpreter's lock back."""
    import ctypes

    ctypes.PyDLL(None).sleep(120)


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_call_whose_worker_was_killed_is_run_again(tmp_path: Path) -> None:
    with LocalExecutor(1, tmp_path / "slots") as executor:
        assert executor.submit(_die_once, marker=tmp_path / "marker").result(60) == 42
        os.kill(executor.submit(_process_id).result(60), signal.SIGKILL)
        assert executor.submit(_double, number=3).result(60) == 6, "killed while it was idle"


def test_a_worker_outlives_the_thread_that_gave_it_work(tmp_path: Path) -> None:
    with LocalExecutor(1, tmp_path / "slots") as executor:
        found: list[int] = []
        thread = threading.Thread(
            target=lambda: found.append(executor.submit(_process_id).result(60))
        )
        thread.start()
        thread.join()
        time.sleep(0.2)
        assert executor.submit(_process_id).result(60) == found[0]


@pytest.mark.parametrize("stuck", [_freeze, _hold_the_interpreter])
def test_what_cannot_be_interrupted_ends_at_its_time_out_and_the_slot_works_again(
    tmp_path: Path, stuck: Callable[..., None]
) -> None:
    with LocalExecutor(1, tmp_path / "slots", slots=1, timeout_s=6.0) as executor:
        assert executor.submit(_double, number=1).result(60) == 2
        arguments = {"marker": tmp_path / "marker"} if stuck is _freeze else {}
        begin = time.monotonic()
        with pytest.raises(RetryableError, match="time-out"):
            executor.submit(stuck, **arguments).result(60)
        assert time.monotonic() - begin < 16.0
        assert executor.submit(_double, number=2).result(60) == 4


def test_a_worker_may_wait_long_for_a_slot_but_not_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalExecutor(1, tmp_path / "slots", slots=1, timeout_s=3.0) as executor:
        worker = executor.submit(_process_id).result(60)
        monkeypatch.setattr(local, "_LONGEST_SILENCE_S", 4.0)
        with machine_slot(tmp_path / "slots", 1):
            waits = executor.submit(_process_id)
            with pytest.raises(TimeoutError):
                waits.result(6.0)
        assert waits.result(60) == worker, "it was left alone"
        with machine_slot(tmp_path / "slots", 1):
            waits = executor.submit(_process_id)
            os.kill(worker, signal.SIGSTOP)
            with pytest.raises(RetryableError, match="no sign of life"):
                waits.result(60)


class _Untravelled(Exception):
    """Pickles, but cannot be made again."""

    def __init__(self, name: str, number: int):
        super().__init__(name)


def _fail_strangely() -> None:
    raise _Untravelled("x", 1)


def test_an_answer_that_cannot_be_read_fails_its_call_and_no_other(tmp_path: Path) -> None:
    with LocalExecutor(1, tmp_path / "slots") as executor:
        strange = executor.submit(_fail_strangely)
        after = executor.submit(_double, number=2)
        with pytest.raises(RetryableError, match="could not be used"):
            strange.result(60)
        assert after.result(60) == 4


def test_a_cancelled_call_ends_its_worker(tmp_path: Path) -> None:
    with LocalExecutor(1, tmp_path / "slots") as executor:
        running = executor.submit(_freeze, marker=tmp_path / "marker")
        queued = executor.submit(_double, number=1)
        deadline = time.monotonic() + 60
        while not (tmp_path / "marker").exists() or not (tmp_path / "marker").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not running.cancel()
        with pytest.raises(RetryableError, match="cancelled"):
            running.result(10)
        assert queued.result(60) == 2
        assert not _alive(int((tmp_path / "marker").read_text()))


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import sys, time; sys.path[:0] = [sys.argv[2]]\n"
        "from pathlib import Path\n"
        "from dsa110_contimg.executors.local import LocalExecutor\n"
        "import test_executors\n"
        "if __name__ == '__main__':\n"
        "    executor = LocalExecutor(1, Path(sys.argv[1]))\n"
        "    print(executor.submit(test_executors._process_id).result(60), flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program)
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "slots", Path(__file__).parent],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert _alive(worker)
        parent.kill()
    deadline = time.monotonic() + 10
    while _alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _write_then(path: Path, how: str) -> None:
    path.mkdir(parents=True)
    (path / "table.dat").write_text("half")
    path.with_name(path.name + "-model.fits").write_text("half")
    if how == "raise":
        raise UsageError("no")
    if how == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("how", "kind"), [("raise", UsageError), ("full", OutageError), ("die", WorkerDiedError)]
)
def test_a_failed_call_leaves_nothing_under_its_paths(
    tmp_path: Path, how: str, kind: type[Exception]
) -> None:
    (tmp_path / "t0_other.ms").mkdir()
    with LocalExecutor(1, tmp_path / "slots") as executor:
        with pytest.raises(kind):
            executor.submit(_write_then, path=FreshPath(tmp_path, "t0", ".ms"), how=how).result(60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slots", "t0_other.ms"]


def test_an_error_that_cannot_travel_is_told_all_the_same(tmp_path: Path) -> None:
    with LocalExecutor(1, tmp_path / "slots") as executor:
        with pytest.raises(RetryableError, match="_Local: no way out"):
            executor.submit(_raise_local).result(60)


def _raise_local() -> None:
    class _Local(Exception):
        pass

    raise _Local("no way out")


def test_the_slot_goes_by_priority_and_then_by_age(tmp_path: Path) -> None:
    order: list[str] = []

    def take(name: str, priority: Priority) -> None:
        with machine_slot(tmp_path, 1, priority):
            order.append(name)

    threads = []
    with machine_slot(tmp_path, 1, Priority.CONVERSION):
        for name, priority in (
            ("batch", Priority.BATCH),
            ("streaming", Priority.STREAMING),
            ("conversion", Priority.CONVERSION),
            ("conversion later", Priority.CONVERSION),
        ):
            threads.append(threading.Thread(target=take, args=(name, priority)))
            threads[-1].start()
            deadline = time.monotonic() + 10
            while len(list((tmp_path / "waiting").iterdir())) < len(threads):
                assert time.monotonic() < deadline
                time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert order == ["conversion", "conversion later", "streaming", "batch"]


def test_who_has_waited_long_goes_before_a_higher_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priority, "_PATIENCE_S", 0.1)
    order: list[str] = []

    def take(name: str, priority: Priority) -> None:
        with machine_slot(tmp_path, 1, priority):
            order.append(name)

    with machine_slot(tmp_path, 1, Priority.CONVERSION):
        old = threading.Thread(target=take, args=("batch", Priority.BATCH))
        old.start()
        time.sleep(0.5)
        new = threading.Thread(target=take, args=("conversion", Priority.CONVERSION))
        new.start()
        time.sleep(0.05)
    old.join()
    new.join()
    assert order == ["batch", "conversion"]


def test_the_ticket_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    waiting = tmp_path / "waiting"
    waiting.mkdir(parents=True)
    (waiting / f"0-{time.monotonic_ns()}-dead").touch()
    with machine_slot(tmp_path, 1):
        assert list(waiting.iterdir()) == []


def test_a_stopped_executor_answers_every_call(tmp_path: Path) -> None:
    executor = LocalExecutor(1, tmp_path / "slots")
    assert executor.submit(_double, number=1).result(60) == 2
    running, queued = executor.submit(_hang), executor.submit(_double, number=3)
    executor.close(wait=False)
    for future in (running, queued):
        with pytest.raises(RetryableError):
            future.result(10)


def test_an_executor_that_is_closed_takes_no_more_calls(tmp_path: Path) -> None:
    executor = LocalExecutor(1, tmp_path / "slots")
    given = executor.submit(_double, number=1)
    executor.close()
    assert given.result(0) == 2
    with pytest.raises(RetryableError, match="stopped"):
        executor.submit(_double, number=2).result(10)


def test_a_machine_has_only_so_many_slots(tmp_path: Path) -> None:
    from filelock import FileLock, Timeout

    streaming = Priority.STREAMING
    with machine_slot(tmp_path, 2, streaming) as first, machine_slot(tmp_path, 2, streaming) as two:
        assert {first, two} == {0, 1}
        for number in (0, 1):
            with pytest.raises(Timeout):
                FileLock(tmp_path / f"slot{number:02d}.lock", is_singleton=False).acquire(timeout=0)
    with machine_slot(tmp_path, 2, streaming) as again:
        assert again == 0


def _taken_within(seconds: float, directory: Path, priority: Priority, memory_gb: float) -> bool:
    """Whether somebody who waits so long gets one of two slots."""

    class EnoughError(Exception):
        pass

    deadline = time.monotonic() + seconds

    def still_waiting() -> None:
        if time.monotonic() > deadline:
            raise EnoughError

    try:
        with machine_slot(directory, 2, priority, still_waiting, memory_gb):
            return True
    except EnoughError:
        return False


def test_streaming_does_not_wait_for_batch_but_for_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dsa110_contimg.executors.slots as slots

    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 24000000 kB\nMemAvailable: 6000000 kB\n")
    monkeypatch.setattr(slots, "_MEMORY", meminfo)
    with machine_slot(tmp_path, 2), machine_slot(tmp_path, 2):
        assert not _taken_within(0.5, tmp_path, Priority.BATCH, 0.0), "there are two slots"
        assert _taken_within(5.0, tmp_path, Priority.STREAMING, 4.0)
        assert not _taken_within(0.5, tmp_path, Priority.STREAMING, 5.5), "it would not fit"
        with machine_slot(tmp_path, 2, Priority.STREAMING, memory_gb=3.0):
            # The first has not taken its memory yet.
            assert not _taken_within(0.5, tmp_path, Priority.STREAMING, 3.0)


def test_batch_that_has_waited_long_does_not_hold_up_streaming_in_a_crowd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priority, "_PATIENCE_S", 0.05)
    begun = threading.Event()

    def wait_for_a_slot() -> None:
        with machine_slot(tmp_path, 2, Priority.BATCH):
            begun.set()

    old = threading.Thread(target=wait_for_a_slot)
    with machine_slot(tmp_path, 2, Priority.BATCH):
        with machine_slot(tmp_path, 2, Priority.STREAMING):
            old.start()
            time.sleep(0.5)
            assert _taken_within(5.0, tmp_path, Priority.STREAMING, 0.0), "it could begin"
            assert not begun.is_set(), "there are as many as slots"
        assert begun.wait(5.0), "its turn has come"
    old.join()


def test_a_process_that_has_ended_computes_no_more(tmp_path: Path) -> None:
    import dsa110_contimg.executors.slots as slots

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    holder = tmp_path / "slot00.holder"
    holder.write_text(f"{child.pid} {slots._began(child.pid)} 1.0")
    assert slots._computes(tmp_path / "slot00.lock")
    child.kill()
    while Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.01)
    assert not slots._computes(tmp_path / "slot00.lock"), "nobody has asked about it yet"
    child.wait()
    assert not slots._computes(tmp_path / "slot00.lock")


def test_batch_leaves_the_slots_to_others(tmp_path: Path) -> None:
    with machine_slot(tmp_path, 2, Priority.STREAMING):
        with machine_slot(tmp_path, 2, Priority.BATCH):
            assert not _taken_within(0.5, tmp_path, Priority.BATCH, 0.0)
            assert _taken_within(5.0, tmp_path, Priority.CONVERSION, 0.0)
        assert _taken_within(5.0, tmp_path, Priority.BATCH, 0.0)


def _niceness() -> tuple[int, int]:
    """Of this worker and of its session."""
    told = Path("/proc/self/autogroup")
    own = os.nice(0)
    return own, int(told.read_text().split()[-1]) if told.exists() else own


def test_workers_of_a_nice_program_are_nice_to_other_sessions(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.nice(10); sys.path.insert(0, sys.argv[1]);"
        "from pathlib import Path;"
        "from dsa110_contimg.executors.local import LocalExecutor;"
        "import test_executors;"
        "executor = LocalExecutor(1, Path(sys.argv[2]));"
        "print(*executor.submit(test_executors._niceness).result(60)); executor.close()"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "slots")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    own, session = map(int, told.split())
    assert own >= 10
    assert session == own


@pytest.mark.parametrize(
    ("told", "sessions"), [("/autogroup-7 nice 0\n", 1), ("", 1), ("/autogroup-7 nice 10\n", 0)]
)
def test_a_nice_program_takes_a_session_unless_its_own_is_as_nice(
    told: str, sessions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the session that the machine began with the system tells nothing."""
    autogroup = tmp_path / "self"
    autogroup.write_text(told)
    taken: list[None] = []
    monkeypatch.setattr(niceness, "_AUTOGROUP", str(tmp_path / "{pid}"))
    monkeypatch.setattr(os, "nice", lambda _: 10)
    monkeypatch.setattr(os, "setsid", lambda: taken.append(None))
    niceness.extend_to_session()
    assert len(taken) == sessions
    assert autogroup.read_text() == ("10" if sessions else told)


def test_a_suspended_program_that_waits_for_a_slot_holds_up_nobody(tmp_path: Path) -> None:
    """Its ticket is first in the queue and locked, but nobody touches it."""
    from filelock import FileLock

    waiting = tmp_path / "slots" / "waiting"
    waiting.mkdir(parents=True)
    ticket = waiting / f"0-{time.monotonic_ns()}-suspended"
    taken = threading.Event()

    def take() -> None:
        with machine_slot(tmp_path / "slots", 1, Priority.BATCH):
            taken.set()

    with FileLock(ticket):
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        assert not taken.wait(2.0), "while it is alive it goes first"
        os.utime(ticket, (time.time() - 60, time.time() - 60))
        assert taken.wait(10.0)
        thread.join(10.0)
