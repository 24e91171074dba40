"""Jobs of a queue as workers, on PBS as far as Dask can tell: `qsub` and `qdel` of a few lines."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pytest

from cluster_calls import double, write_slowly
from daemons import until
from dsa110_contimg import settings as settings_module
from dsa110_contimg.errors import RetryableError
from dsa110_contimg.executors.fresh import FreshPath
from dsa110_contimg.executors.opening import open_executor
from dsa110_contimg.settings import Settings

SUPPORT = Path(__file__).parents[1] / "support"
pytestmark = pytest.mark.xdist_group("cluster")

# A job is a process group, known by its number; there is a file for each that has not ended.
_PROGRAMS = {
    "qsub": """
if [ -e {queue}/closed ]; then touch {queue}/refused; echo "qsub: queue is closed" >&2; exit 1; fi
if [ -e {queue}/hangs ]; then touch {queue}/waits; sleep 600; fi
if [ -e {queue}/loses ]; then touch {queue}/lost; echo 99999999.server; exit 0; fi
cp "$1" {queue}/script.$$
setsid sh {queue}/script.$$ >> {queue}/log 2>&1 &
touch {queue}/job.$!
echo $!.server
""",
    "qdel": """
rm {queue}/job.${{1%%.*}} && kill -9 -${{1%%.*}}
""",
    "qstat": """
status=0
for job in "$@"; do
    if [ -e {queue}/job.${{job%%.*}} ]; then echo "$job R"
    else echo "qstat: Unknown Job Id $job" >&2; status=153; fi
done
exit $status
""",
}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a file for each job that was not deleted."""
    folder = tmp_path / "queue"
    folder.mkdir()
    for name, program in _PROGRAMS.items():
        (folder / name).write_text("#!/bin/sh" + program.format(queue=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    monkeypatch.setattr("dsa110_contimg.executors.cluster.executor._SCALE_S", 0.5)
    monkeypatch.setattr("dsa110_contimg.executors.cluster.queue._ASK_S", 0.5)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}):
        yield folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "root"
    root.mkdir()
    (root / "contimg.toml").write_text(
        '[executor]\nmaximum_jobs = 1\n[executor.pbs]\ncores = 2\nmemory = "2GB"\n'
        'walltime = "00:10:00"\ninterface = "lo"\n'
    )
    return settings_module.load(root=root)


def _jobs(queue: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in queue.glob("job.*")]


def _gone(pid: int) -> Callable[[], bool]:
    return lambda: not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(("does", "did"), [("closed", "refused"), ("loses", "lost")])
def test_a_queue_that_refuses_or_loses_a_job_is_asked_again(
    queue: Path, settings: Settings, does: str, did: str
) -> None:
    (queue / does).touch()
    with open_executor(settings) as executor:
        call = executor.submit(double, number=21)
        until((queue / did).exists, 60.0, 0.05)
        assert not _jobs(queue)
        (queue / does).unlink()
        assert call.result(60) == 42
        assert executor.capacity == 2
        (job,) = _jobs(queue)
    until(_gone(job), 30.0, 0.05)
    assert not _jobs(queue), "the program gave its job back"


def test_what_a_deleted_job_had_is_given_to_the_next(
    queue: Path, settings: Settings, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with open_executor(settings) as executor:
        output = FreshPath(marks, "made")
        call = executor.submit(write_slowly, marks=marks, output=output, seconds=2.0)
        until(lambda: any(path.name.isdigit() for path in marks.iterdir()), 60.0, 0.05)
        (job,) = _jobs(queue)
        # As the queue's own time limit does it.
        (queue / f"job.{job}").unlink()
        os.killpg(job, signal.SIGKILL)
        assert call.result(60).startswith("made_")
        (other,) = _jobs(queue)
        assert other != job


@pytest.mark.parametrize(("does", "did"), [("closed", "refused"), ("hangs", "waits")])
def test_it_can_be_closed_while_the_queue_refuses_or_does_not_answer(
    queue: Path, settings: Settings, does: str, did: str
) -> None:
    (queue / does).touch()
    before = threading.active_count()
    executor = open_executor(settings)
    call = executor.submit(double, number=21)
    until((queue / did).exists, 60.0, 0.05)
    executor.close(wait=False)
    with pytest.raises(RetryableError, match="stopped"):
        call.result(10)
    until(lambda: threading.active_count() <= before, 20.0, 0.1)
