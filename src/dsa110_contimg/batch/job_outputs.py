"""Where jobs write, and what they made."""

from pathlib import Path

from dsa110_contimg import layout
from dsa110_contimg.batch.kinds import KINDS, Request
from dsa110_contimg.options import parse_options
from dsa110_contimg.registry.models import Job
from dsa110_contimg.registry.states import JobState
from dsa110_contimg.settings import Settings


def request_of(job: Job) -> Request:
    """What a job that was accepted asks for."""
    return parse_options(KINDS[job.type], job.params, "params", stored=True)


def own_directory(settings: Settings, job_id: int) -> Path:
    """Of a job without a given output; it holds the whole result of one that is done, or is gone.

    A job that is killed between its last file and its row is failed, and so leaves none.
    """
    return layout.job_products(settings.root) / str(job_id)


def make_output(request: Request, settings: Settings, job_id: int) -> Path:
    """Where a job writes: the place it was given, else a directory of its own, which is made."""
    given = request.output_path()
    if given is not None:
        return settings.root / given
    path = own_directory(settings, job_id) / request.default_output()
    if request.default_output():
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def may_make(job: Job, settings: Settings, wanted: Path) -> bool:
    """True if a path is, or lies in, what a job is to write."""
    given = request_of(job).output_path()
    if given is None:
        return wanted.is_relative_to(own_directory(settings, job.id))
    # An output may be the beginning of the names of several files.
    return str(wanted).startswith(str((settings.root / given).with_suffix("")))


def files_of_job(settings: Settings, job: Job) -> dict[str, Path]:
    """Files that a job made, by their names below the directory of its output.

    Of a directory, such as a Measurement Set, all files in it. None of a job that is not done, or
    that has nothing but its result.
    """
    if job.state != JobState.DONE:
        return {}
    request = request_of(job)
    given = request.output_path()
    if given is None:
        folder = own_directory(settings, job.id)
        made = list(folder.iterdir()) if folder.is_dir() else []
    else:
        folder = (settings.root / given).parent
        made = list(request.outputs(settings.root / given))
    files = [file for one in made for file in ((one, *one.rglob("*")) if one.is_dir() else (one,))]
    return {str(file.relative_to(folder)): file for file in sorted(files) if file.is_file()}
