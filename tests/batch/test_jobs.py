"""A server that is killed again and again loses no job and does none twice."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import job_chaos
from conftest import Processed, SmallRun
from dsa110_contimg import settings as settings_module
from dsa110_contimg.artifacts.mosaics import PublishedMosaic
from dsa110_contimg.artifacts.tiles import image_files
from dsa110_contimg.batch import jobs, placing
from dsa110_contimg.batch.jobs import JobRunner, run_job, submit
from dsa110_contimg.batch.kinds import (
    ApplyJob,
    CalibrateJob,
    ConvertJob,
    CrossmatchJob,
    ImageJob,
    Request,
    ValidateJob,
)
from dsa110_contimg.errors import OutageError, UsageError
from dsa110_contimg.executors.inline import InlineExecutor
from dsa110_contimg.imaging.image_reader import read_fits
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Job
from dsa110_contimg.registry.states import JobState
from dsa110_contimg.visibilities import measurement_set


def test_of_six_jobs_only_those_that_ran_at_a_kill_are_failed_with_that_reason(
    streamed: Path,
) -> None:
    """On one database here; `make chaos` does it twenty times on both."""
    registry = Registry.of(settings_module.load(root=streamed))
    figures, faults = job_chaos.run(
        streamed, registry, jobs=6, kills=2, pace_s=0.5, parallel=2, seed=1
    )
    registry.close()
    assert faults == []
    assert figures["kills"] == 2
    assert sum(figures["states"].values()) == 6


def test_only_a_job_that_is_done_leaves_a_result(tmp_path: Path, database_url: str) -> None:
    settings = settings_module.load(root=tmp_path, database_url=database_url)
    registry = Registry.of(settings)
    ends = {
        JobState.RUNNING: JobState.FAILED,
        JobState.FAILED: JobState.FAILED,
        JobState.CANCELLED: JobState.CANCELLED,
        JobState.DONE: JobState.DONE,
    }
    for state in ends:
        # As a server leaves it that is killed between a job's last file and its row.
        job_id = submit(registry, settings, "mosaic", {"name": state}).id
        with registry.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(state=state))
        folder = tmp_path / "products" / "jobs" / str(job_id)
        folder.mkdir(parents=True)
        (folder / "mosaic.fits").write_bytes(b"all of it")
    # An older database was put back: it does not know the seventh job.
    by_hand, unknown = (tmp_path / "products" / "jobs" / name for name in ("notes", "7"))
    by_hand.mkdir()
    unknown.mkdir()
    runner = JobRunner(registry, settings)
    runner.look()
    with registry.read() as session:
        assert [session.get_one(Job, i + 1).state for i in range(4)] == list(ends.values())
    assert sorted(path.name for path in by_hand.parent.iterdir()) == ["4", "7", "notes"]
    registry.close()


def test_a_finished_job_waits_for_a_database_that_is_away(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_module.load(root=tmp_path, database_url=database_url)
    registry = Registry.of(settings)
    (tmp_path / "m.fits").touch()
    job_id = submit(registry, settings, "validate", {"mosaic": "m.fits"}).id
    with registry.write() as session:
        session.get_one(Job, job_id).state = JobState.RUNNING
    update, calls = jobs._update, []

    def away(*arguments: Any, **values: Any) -> None:
        calls.append(values)
        if len(calls) < 4:
            raise OutageError("the database does not answer")
        update(*arguments, **values)

    def work(self: Any, settings: Any, registry: Any, context: Any, output: Any) -> dict[str, str]:
        context.progress("validation", 0.5, "half of it")
        return {"path": "m.html"}

    monkeypatch.setattr(jobs, "_update", away)
    monkeypatch.setattr(jobs, "_AGAIN_S", 0.01)
    monkeypatch.setattr(ValidateJob, "run", work)
    assert run_job(settings, job_id)
    with registry.read() as session:
        job = session.get_one(Job, job_id)
    assert (job.state, job.result) == (JobState.DONE, {"path": "m.html"})
    registry.close()


class _Twice(InlineExecutor):
    """The answer of each call's first execution is lost."""

    def submit(self, function: Callable[..., Any], **arguments: Any) -> "Future[Any]":
        super().submit(function, **arguments).result()
        return super().submit(function, **arguments)


def test_what_ran_twice_is_where_it_was_asked_for_once(
    processed: Processed, small_run: SmallRun, tmp_path: Path
) -> None:
    settings = settings_module.load(root=processed.root)
    registry = Registry.of(settings)
    context = PipelineContext(processed.root, executor=_Twice())
    there = tmp_path / "mine"

    def run(request: Request, name: str) -> Any:
        made = request.run(settings, registry, context, there / name)
        with pytest.raises(UsageError, match="exists already"):
            request.run(settings, registry, context, there / name)
        return made

    files = [str(path) for path in small_run.files[0]]
    ms = run(ConvertJob(files=files), "tile.ms")["ms_path"]
    solved = run(CalibrateJob(ms=ms), "set.1")["path"]
    calibrated = run(ApplyJob(ms=ms, tables=solved), "calibrated.ms")["ms_path"]
    small = {"size": 256, "averaging_loss": 0.0}
    prefix = run(ImageJob(ms=calibrated, options=small), "an.image")["prefix"]
    mosaic = str(processed.result[PublishedMosaic].path)
    sources = run(CrossmatchJob(mosaic=mosaic), "a_sources.fits")["path"]
    assert [Path(path).name for path in (ms, solved, calibrated, prefix, sources)] == [
        "tile.ms",
        "set.1",
        "calibrated.ms",
        "an.image",
        "a_sources.fits",
    ]
    assert measurement_set.read(Path(calibrated)).data.any()
    assert read_fits(there / "an.image.image.fits").pixels.any()
    images = {path.name for path in image_files(there / "an.image")} - {"an.image.q.fits"}
    tables = [
        f"a_{name}.{kind}" for name in ("sources", "catalogue") for kind in ("vot", "parquet")
    ]
    assert {path.name for path in there.iterdir()} == {
        "tile.ms",
        "set.1",
        "calibrated.ms",
        *images,
        "a_sources.fits",
        *tables,
    }
    (there / "other.rms.fits").touch()
    with pytest.raises(UsageError, match=r"other\.rms\.fits: exists already"):
        ImageJob(ms=calibrated).run(settings, registry, context, there / "other")


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_an_output_move_together_or_not_at_all(tmp_path: Path, overwrite: bool) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "a").write_text("new")
    if overwrite:
        (tmp_path / "x").write_text("old")
    gone = {scratch / "a": tmp_path / "x", scratch / "b": tmp_path / "y"}
    with pytest.raises(OutageError, match="cannot be moved"):
        placing.move(gone, overwrite)
    assert (scratch / "a").read_text() == "new"
    assert (tmp_path / "x").exists() == overwrite
    assert not overwrite or (tmp_path / "x").read_text() == "old"
    (scratch / "b").touch()
    placing.move(gone, overwrite)
    assert (tmp_path / "x").read_text() == "new"
    (scratch / "c").touch()
    with pytest.raises(UsageError, match="exists already"):
        placing.move({scratch / "c": tmp_path / "y"})
