"""A graph is checked before anything runs, runs once, and says what each stage did."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Processed, SmallRun, make_root, small_options
from dsa110_contimg.artifacts.calibration import SolvedSet
from dsa110_contimg.artifacts.mosaics import MosaicImage
from dsa110_contimg.artifacts.tiles import ConvertedTiles, ImagedTiles, ManualFlags, SubbandFiles
from dsa110_contimg.errors import (
    BadInputError,
    CalibrationError,
    CancelledRunError,
    GraphError,
    RetryableError,
    UsageError,
)
from dsa110_contimg.executors.calls import call
from dsa110_contimg.executors.local import LocalExecutor
from dsa110_contimg.pipeline.context import without_failures
from dsa110_contimg.pipeline.orchestrator import (
    PipelineContext,
    PipelineOrchestrator,
    Stage,
    StageContext,
    StageDefinition,
    StageStatus,
)
from dsa110_contimg.stages import CalibrationApplyStage, ImagingStage, MosaicStage
from dsa110_contimg.visibilities.manual_flags import ManualFlag


@dataclass(frozen=True)
class Number:
    value: int


@dataclass(frozen=True)
class Doubled:
    value: int


@dataclass(frozen=True)
class Rest:
    naps: tuple[str, ...]


class Make(Stage):
    def run(self, context: StageContext) -> Number:
        return Number(20)


class Double(Stage):
    def run(self, context: StageContext, number: Number) -> Doubled:
        return Doubled(2 * number.value)


class Increase(Stage):
    def run(self, context: StageContext, number: Number, more: Doubled | None = None) -> Number:
        return Number(number.value + (1 if more is None else more.value))


class Fail(Stage):
    def run(self, context: StageContext) -> None:
        raise UsageError("no")


class Promise(Stage):
    def run(self, context: StageContext) -> Number:
        return Doubled(1)  # type: ignore[return-value]


def test_artifacts_flow_along_dependencies(tmp_path: Path) -> None:
    stages = [StageDefinition("b", Double(), ["a"]), StageDefinition("a", Make(), [])]
    result = PipelineOrchestrator(stages).run(PipelineContext(tmp_path))
    assert result.success
    assert result[Doubled].value == 40
    assert [outcome.name for outcome in result.outcomes] == ["a", "b"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([("a", Make(), ["b"]), ("b", Double(), ["a"])], "a, b depend on each other in a cycle"),
        ([("a", Make(), ["zzz"])], "depends on 'zzz', which is not in the graph"),
        ([("a", Make(), []), ("a", Make(), [])], "used twice: a"),
    ],
)
def test_a_broken_graph_is_refused_before_anything_runs(
    stages: list[tuple[str, Stage, list[str]]], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        PipelineOrchestrator([StageDefinition(*stage) for stage in stages])


def test_a_missing_input_is_named_with_its_stage(tmp_path: Path) -> None:
    lonely = PipelineOrchestrator([StageDefinition("b", Double(), [])])
    with pytest.raises(GraphError, match="stage 'b' needs Number; give one"):
        lonely.run(PipelineContext(tmp_path))
    assert lonely.run(PipelineContext(tmp_path, [Number(1)])).success
    unlinked = [StageDefinition("a", Make(), []), StageDefinition("b", Double(), [])]
    with pytest.raises(GraphError, match="stage 'a' makes it: add that to depends_on"):
        PipelineOrchestrator(unlinked).run(PipelineContext(tmp_path))


def test_a_stage_takes_an_artifact_from_the_last_stage_that_makes_one(tmp_path: Path) -> None:
    stages = [
        StageDefinition("a", Make()),
        StageDefinition("b", Increase(), ["a"]),
        StageDefinition("c", Double(), ["b"]),
        StageDefinition("d", Increase(), ["c"]),
    ]
    result = PipelineOrchestrator(stages).run(PipelineContext(tmp_path, [Number(1)]))
    assert [outcome.outputs for outcome in result.outcomes] == [
        {Number: Number(20)},
        {Number: Number(21)},
        {Doubled: Doubled(42)},
        {Number: Number(63)},
    ]
    beside = [*stages[:2], StageDefinition("x", Increase(), ["a"])]
    with pytest.raises(GraphError, match="the stages b and x make beside each other"):
        PipelineOrchestrator([*beside, StageDefinition("c", Double(), ["b", "x"])])


def test_an_optional_artifact_of_a_stage_beside_is_not_taken(tmp_path: Path) -> None:
    stages = [StageDefinition("double", Double()), StageDefinition("increase", Increase())]
    result = PipelineOrchestrator(stages).run(PipelineContext(tmp_path, [Number(1)]))
    assert result[Number] == Number(2)


class OldForm(Stage):
    inputs = ("number",)
    outputs = ("doubled",)

    def run(self, context):  # type: ignore[no-untyped-def]
        return {"doubled": 2 * context["number"]}


class OldParameter(Stage):
    def run(self, context: StageContext, number: Any) -> Number:
        return Number(number)


class OldResult(Stage):
    def run(self, context: StageContext) -> Mapping[str, Any]:
        return {"number": 2}


class TupleParameter(Stage):
    def run(self, context: StageContext, numbers: tuple[Number]) -> Doubled:
        return Doubled(numbers[0].value)


class EitherResult(Stage):
    def run(self, context: StageContext) -> Number | Doubled:
        return Number(1)


class Everything(Stage):
    def run(self, context: StageContext, **artifacts: Any) -> Number:
        return Number(len(artifacts))


@pytest.mark.parametrize(
    "stage",
    [OldForm(), OldParameter(), OldResult(), TupleParameter(), EitherResult(), Everything()],
)
def test_a_stage_without_classes_of_artifacts_is_refused_with_the_form(stage: Stage) -> None:
    form = r"write 'def run\(self, context: StageContext, imaged: ImagedTiles\)"
    with pytest.raises(GraphError, match=f"{type(stage).__name__}.run: .*{form}"):
        PipelineOrchestrator([StageDefinition("old", stage)])


def test_artifacts_by_name_are_refused_with_the_form(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"PipelineContext\(root, \[SubbandFiles\(paths\)\]\)"):
        PipelineContext(tmp_path, {"number": 1})  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="two inputs are Number"):
        PipelineContext(tmp_path, [Number(1), Number(2)])
    result = PipelineOrchestrator([StageDefinition("a", Make())]).run(PipelineContext(tmp_path))
    with pytest.raises(GraphError, match="no artifact 'number'; give its class, one of: Number"):
        result["number"]  # type: ignore[index]
    with pytest.raises(GraphError, match=r"context.map\(\[call\("):
        StageContext(tmp_path).map(_sleep, [{"seconds": 0.0}])  # type: ignore[arg-type]


def test_a_failure_skips_what_follows_and_is_in_the_result(tmp_path: Path) -> None:
    stages = [
        StageDefinition("a", Fail(), []),
        StageDefinition("b", Make(), ["a"]),
        StageDefinition("c", Double(), ["b"]),
    ]
    result = PipelineOrchestrator(stages).run(PipelineContext(tmp_path))
    assert not result.success
    assert [o.status for o in result.outcomes] == [
        StageStatus.FAILED,
        StageStatus.SKIPPED,
        StageStatus.SKIPPED,
    ]
    with pytest.raises(UsageError, match="no"):
        result.raise_on_failure()


def _sleep(seconds: float, mark: Path) -> str:
    mark.touch()
    time.sleep(seconds)
    return "rested"


def _any(a: int, **more: int) -> int:
    return a + sum(more.values())


class Sleep(Stage):
    def run(self, context: StageContext) -> Rest:
        calls = [call(_sleep, seconds=600.0, mark=context.root / f"{n}") for n in range(3)]
        return Rest(tuple(context.map(calls, "nap")))


def test_a_call_takes_what_its_function_takes(tmp_path: Path) -> None:
    described = call(_sleep, 0.0, mark=tmp_path / "mark")
    assert described.arguments == {"seconds": 0.0, "mark": tmp_path / "mark"}
    assert PipelineContext(tmp_path).compute(described, "nap") == "rested"
    assert call(_any, 1, b=2).arguments == {"a": 1, "b": 2}
    with pytest.raises(TypeError, match="missing a required argument: 'seconds'"):
        call(_sleep, second=0.0, mark=tmp_path)  # type: ignore[call-arg]


def test_a_cancelled_run_ends_its_workers_and_begins_nothing_more(tmp_path: Path) -> None:
    stages = [StageDefinition("sleep", Sleep()), StageDefinition("make", Make(), ["sleep"])]
    with LocalExecutor(2, tmp_path / "slots") as executor:
        context = PipelineContext(tmp_path, executor=executor)

        def cancel() -> None:
            while not (tmp_path / "0").exists():
                time.sleep(0.05)
            context.cancellation.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        begin = time.monotonic()
        result = PipelineOrchestrator(stages).run(context)
        thread.join()
    assert time.monotonic() - begin < 60
    assert isinstance(result.error, CancelledRunError)
    assert [outcome.status for outcome in result.outcomes] == [
        StageStatus.FAILED,
        StageStatus.SKIPPED,
    ]
    assert not (tmp_path / "2").exists()


def test_ctrl_c_ends_a_run_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _NAP, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "0").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert "KeyboardInterrupt" in errors


_NAP = """
import sys
from pathlib import Path
from test_pipeline import *
if __name__ == "__main__":
    # A shell that runs the tests in the background has told its programs to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root = Path(sys.argv[1])
    with LocalExecutor(1, root / "slots") as executor:
        context = PipelineContext(root, executor=executor)
        PipelineOrchestrator([StageDefinition("sleep", Sleep())]).run(context)
"""


def test_an_output_that_was_promised_must_be_made(tmp_path: Path) -> None:
    result = PipelineOrchestrator([StageDefinition("p", Promise(), [])]).run(
        PipelineContext(tmp_path)
    )
    assert "declares Number but made Doubled" in str(result.error)


def test_the_seeds_snippet_runs(small_run: SmallRun, tmp_path: Path) -> None:
    from dsa110_contimg.stages import CalibrationStage, ConversionStage, ImagingStage, MosaicStage

    root = make_root(tmp_path / "root", small_run)
    options = small_options(root)
    context = PipelineContext(root, [SubbandFiles(list(small_run.files[0]))])
    stages = [
        StageDefinition("convert", ConversionStage(), []),
        StageDefinition("calibrate", CalibrationStage(options.apply), ["convert"]),
        StageDefinition("image", ImagingStage(options.image), ["calibrate"]),
        StageDefinition("mosaic", MosaicStage(), ["image"]),
    ]
    result = PipelineOrchestrator(stages).run(context)
    assert result.success, result.error
    assert result[MosaicImage].path.exists()


def test_the_stage_of_the_user_guide_runs(processed: Processed) -> None:
    guide = Path(__file__).parents[2] / "docs" / "user_guide.md"
    section = guide.read_text().partition("## A stage of your own")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"__name__": "guide"}
    exec(code, names)
    stages = [StageDefinition("brightest", names["BrightestPixel"]())]
    imaged = processed.result[ImagedTiles]
    result = PipelineOrchestrator(stages).run(PipelineContext(processed.root, [imaged]))
    assert result[names["Brightest"]].jy == max(tile.peak_jy for tile in imaged.tiles)


def test_a_tile_that_cannot_be_calibrated_stays_out_and_the_others_go_on(
    processed: Processed, tmp_path: Path
) -> None:
    (tmp_path / "catalogues").symlink_to(processed.root / "catalogues")
    first, *others = processed.result[ConvertedTiles].tiles
    end = first.start + first.duration_s - 10
    broken = ManualFlag(start=first.start - 10, end=end, reason="thunderstorm")
    given = PipelineContext(
        tmp_path, [processed.result[ConvertedTiles], processed.result[SolvedSet]]
    )
    options = small_options(processed.root)
    stages = [
        StageDefinition("apply", CalibrationApplyStage(options.apply)),
        StageDefinition("image", ImagingStage(options.image), ["apply"]),
        StageDefinition("mosaic", MosaicStage(options.mosaic), ["image"]),
    ]
    result = PipelineOrchestrator(stages).run(given.with_inputs(ManualFlags((broken,))))
    mosaic = result.raise_on_failure()[MosaicImage]
    assert mosaic.tile_ids == tuple(tile.tile_id for tile in others)
    assert list(mosaic.left_out) == [first.tile_id]
    assert "no antenna has enough unflagged baselines" in mosaic.left_out[first.tile_id]
    assert mosaic.name.startswith(f"mosaic_{first.tile_id}_"), "the group's own name"
    stowed = ManualFlags((ManualFlag(reason="the array was stowed"),))
    result = PipelineOrchestrator(stages).run(given.with_inputs(stowed))
    assert isinstance(result.error, CalibrationError)


_KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        KeyError,
        ZeroDivisionError,
        CalibrationError,
        BadInputError,
        OSError,
        RetryableError,
        UsageError,
    )
}


def _fails(name: str) -> str:
    if name in _KINDS:
        raise _KINDS[name]("three\nlines\nlong")
    return name


@pytest.mark.accepts(
    "Events",
    "An error in one tile that nobody foresaw",
    "the tile is left out with its reason, the others go on",
)
@pytest.mark.parametrize("kind", ["KeyError", "ZeroDivisionError", "CalibrationError"])
def test_an_error_of_one_call_costs_that_call(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    context = StageContext(tmp_path)
    names = ["a", kind, "b"]
    good, left_out = without_failures(
        names, context.map_sparing([call(_fails, name=name) for name in names], "tile")
    )
    assert good == ("a", "b")
    assert list(left_out) == [kind]
    if kind != "CalibrationError":
        assert left_out[kind].startswith(f"unforeseen {kind}: ")
        assert "\n" not in left_out[kind]
        # What programmers need to mend it is logged.
        logged = "".join(capfd.readouterr())
        assert "unforeseen error" in logged
        assert "_fails" in logged
    with pytest.raises(_KINDS[kind]):
        without_failures([kind], context.map_sparing([call(_fails, name=kind)], "tile"))


@pytest.mark.parametrize("kind", ["OSError", "RetryableError", "UsageError", "BadInputError"])
def test_an_error_of_the_machine_or_the_request_ends_the_run(kind: str, tmp_path: Path) -> None:
    calls = [call(_fails, name=name) for name in ("a", kind, "b")]
    with pytest.raises(_KINDS[kind]):
        StageContext(tmp_path).map_sparing(calls, "tile")


def test_progress_says_what_runs_before_it_is_done(tmp_path: Path) -> None:
    said: list[tuple[str, float, str]] = []
    context = PipelineContext(
        tmp_path, progress=lambda *facts: said.append(facts), stage_name="image"
    )
    context.map([call(_returns, value=number) for number in range(2)], "tile")
    assert said == [
        ("image", 0.0, "tile 0/2"),
        ("image", 0.5, "tile 1/2"),
        ("image", 1.0, "tile 2/2"),
    ]


def _returns(value: int) -> int:
    return value
