"""What a batch user may ask for, one type each; command line and REST ask for the same.

A request names its inputs and its output; `call` says which function does it with which arguments.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from dsa110_contimg import layout, records
from dsa110_contimg.batch.placing import aside, fresh, place
from dsa110_contimg.batch.selection import Selection, TileSelection
from dsa110_contimg.durable import check_new
from dsa110_contimg.errors import UsageError
from dsa110_contimg.executors.calls import Call, call
from dsa110_contimg.mosaicking.options import Method, MosaicOptions
from dsa110_contimg.options import Options
from dsa110_contimg.pipeline.context import PipelineContext
from dsa110_contimg.records import JsonObject
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.settings import Settings, pipeline_options, stage_options
from dsa110_contimg.sources.options import CrossmatchOptions
from dsa110_contimg.stage_options import (
    CalibrationApplyOptions,
    CalibrationSolveOptions,
    ImagingOptions,
    PipelineOptions,
    ValidationOptions,
)
from dsa110_contimg.visibilities.options import ConversionOptions

if TYPE_CHECKING:
    from dsa110_contimg.batch.reprocess import Reprocessed

_MAX_FILES = 10_000
_NAME = r"^[^\x00-\x1f\x7f/.][^\x00-\x1f\x7f/]*$"
_STAGE_OPTIONS: Any = Field(default_factory=dict, description="Options of the stage")
_SECTIONS: Any = Field(default_factory=dict, description="Options of each stage by its name")


class Request(Options):
    """Inputs, output and options of one piece of work."""

    kind: ClassVar[str]
    """Type of the job."""
    output_name: ClassVar[str] = ""
    """Of what is written where no output is given."""
    stages: ClassVar[tuple[str, ...]] = ()
    """Whose options may be given; by name where there are several."""

    def input_paths(self) -> Sequence[str]:
        """Paths that are read."""
        return ()

    def output_path(self) -> str | None:
        """Path that is written, if one was given."""
        return getattr(self, "output", None)

    def default_output(self) -> str:
        """Name of what is written if no output was given; empty if nothing is."""
        return self.output_name

    def check_paths(self, root: Path) -> None:
        """Keep a request from elsewhere inside a root, links resolved; paths are relative to it.

        Raises
        ------
        UsageError
            If a path leads out of it, or to what is published.
        """
        root = root.resolve()
        for given in self.input_paths():
            _check_inside(root / given, root)
        target = self.output_path()
        if target is None:
            return
        _check_inside(root / target, layout.products(root))
        for published in layout.published(root):
            if (root / target).resolve().is_relative_to(published):
                raise UsageError(f"params.output: {target}: what is published is never replaced")

    def check_options(self, settings: Settings) -> None:
        """Raise `UsageError` if an option of a stage does not exist or is out of range."""
        given = getattr(self, "options", {})
        pipeline_options(settings, given if len(self.stages) > 1 else {self.stages[0]: given})

    def outputs(self, output: Path) -> Sequence[Path]:
        """What is written for an output; none of it may be there."""
        return (output,)

    def call(self, settings: Settings, output: Path | None) -> Call:
        """What to do.

        Parameters
        ----------
        settings : Settings
            Options that the request does not give.
        output : Path, optional
            Where to write; a job's is fresh in each execution.
        """
        raise NotImplementedError

    def run(
        self, settings: Settings, registry: Registry, context: PipelineContext, output: Path
    ) -> JsonObject:
        """Do it on the context's executor; the result as plain values."""
        if not self.default_output():
            return records.to_json(context.compute(self.call(settings, None), self.kind))
        check_new(self.outputs(output))
        with aside(output) as scratch:
            made = context.compute(self.call(settings, fresh(output, scratch)), self.kind)
            return records.to_json(place(made, output, scratch))


def _needed(output: Path | None) -> Path:
    if output is None:
        raise UsageError("give an output")
    return output


def _check_inside(given: Path, allowed: Path) -> None:
    if not given.resolve().is_relative_to(allowed):
        raise UsageError(f"params: {given} lies outside {allowed}; give a path in it")


class ConvertJob(Request):
    """Convert the sub-band files of one observation, or files of another array."""

    kind = "convert"
    stages = ("convert",)
    output_name = "converted.ms"
    files: list[str] = Field(
        min_length=1, max_length=_MAX_FILES, description="Sub-band files, UVFITS or UVH5"
    )
    output: str | None = Field(None, description="Measurement Set to write")
    field: str | None = Field(None, description="Field, where a file holds several")
    dish_diameter: float | None = Field(None, gt=0, description="Metres, where a file tells none")
    options: dict[str, object] = _STAGE_OPTIONS

    def input_paths(self) -> Sequence[str]:
        """The files."""
        return self.files

    def call(self, settings: Settings, output: Path | None) -> Call:
        """Stage 1, or the reader of foreign files."""
        from dsa110_contimg.tasks import conversion
        from dsa110_contimg.telescope import DSA110
        from dsa110_contimg.visibilities.uvh5 import is_drift_scan

        files = [Path(name).absolute() for name in self.files]
        for path in files:
            if not path.exists():
                raise UsageError(f"{path}: is not there; give files that are")
        if not all(is_drift_scan(path) for path in files):
            return call(
                conversion.convert_foreign,
                files=files,
                output=_needed(output),
                field=self.field,
                dish_diameter_m=self.dish_diameter,
            )
        options = stage_options(settings, ConversionOptions, "convert", self.options)
        return call(
            conversion.convert,
            files=files,
            output=_needed(output),
            telescope=DSA110,
            options=options,
        )


class CalibrateJob(Request):
    """Solve bandpass and gains of a Measurement Set against the sky."""

    kind = "calibrate"
    stages = ("calibrate",)
    output_name = "calibration"
    ms: str = Field(description="Measurement Set")
    output: str | None = Field(None, description="Directory to make")
    options: dict[str, object] = _STAGE_OPTIONS

    def input_paths(self) -> Sequence[str]:
        """The Measurement Set."""
        return (self.ms,)

    def call(self, settings: Settings, output: Path | None) -> Call:
        """Stage 2."""
        from dsa110_contimg.tasks import calibration_solve
        from dsa110_contimg.tasks.conversion import describe

        options = stage_options(settings, CalibrationSolveOptions, "calibrate", self.options)
        tile = describe(Path(self.ms).absolute())
        return call(
            calibration_solve.solve,
            tile=tile,
            output=_needed(output),
            root=settings.root,
            options=options,
        )


class ApplyJob(Request):
    """Apply a calibration set to a Measurement Set."""

    kind = "apply"
    stages = ("apply",)
    output_name = "calibrated.ms"
    ms: str = Field(description="Measurement Set")
    tables: str = Field(description="Calibration set, a directory that 'calibrate' made")
    output: str | None = Field(None, description="Calibrated Measurement Set to write")
    options: dict[str, object] = _STAGE_OPTIONS

    def input_paths(self) -> Sequence[str]:
        """Measurement Set and tables."""
        return (self.ms, self.tables)

    def call(self, settings: Settings, output: Path | None) -> Call:
        """Stage 3; without an output, CORRECTED_DATA is written in place."""
        from dsa110_contimg.tasks import calibration_apply
        from dsa110_contimg.tasks.calibration_sets import load_set
        from dsa110_contimg.tasks.conversion import describe

        options = stage_options(settings, CalibrationApplyOptions, "apply", self.options)
        return call(
            calibration_apply.apply,
            tile=describe(Path(self.ms).absolute()),
            calibration_set=load_set(Path(self.tables).absolute()),
            output=output,
            root=settings.root,
            options=options,
        )


class ImageJob(Request):
    """Image a calibrated Measurement Set, of this or another array."""

    kind = "image"
    stages = ("image",)
    output_name = "tile"
    ms: str = Field(description="Measurement Set")
    output: str | None = Field(None, description="Prefix of the files to write")
    column: str = Field("DATA", pattern="^(DATA|CORRECTED_DATA)$", description="What to image")
    field: str | None = Field(None, description="Field, where the Measurement Set holds several")
    options: dict[str, object] = _STAGE_OPTIONS

    def input_paths(self) -> Sequence[str]:
        """The Measurement Set."""
        return (self.ms,)

    def outputs(self, output: Path) -> Sequence[Path]:
        """The images; the output is a prefix."""
        from dsa110_contimg.artifacts.tiles import image_files

        return image_files(output)

    def call(self, settings: Settings, output: Path | None) -> Call:
        """Stage 4."""
        from dsa110_contimg.tasks import imaging

        return call(
            imaging.image,
            ms_path=Path(self.ms).absolute(),
            prefix=_needed(output),
            root=settings.root,
            options=stage_options(settings, ImagingOptions, "image", self.options),
            comparison=stage_options(settings, ValidationOptions, "validate"),
            column=self.column,
            field=self.field,
        )


class ValidateJob(Request):
    """Check a mosaic against a catalogue and its own noise."""

    kind = "validate"
    stages = ("validate",)
    mosaic: str = Field(description="Mosaic (FITS)")
    options: dict[str, object] = _STAGE_OPTIONS

    def input_paths(self) -> Sequence[str]:
        """The mosaic."""
        return (self.mosaic,)

    def call(self, settings: Settings, output: Path | None) -> Call:
        """Stage 6."""
        from dsa110_contimg.tasks import validation

        options = stage_options(settings, ValidationOptions, "validate", self.options)
        path = Path(self.mosaic).absolute()
        return call(validation.validate, path=path, root=settings.root, options=options)


class CrossmatchJob(Request):
    """Find the sources of a mosaic and match them with a catalogue."""

    kind = "crossmatch"
    stages = ("crossmatch",)
    output_name = "sources.fits"
    mosaic: str = Field(description="Mosaic (FITS)")
    output: str | None = Field(None, description="Table to write (FITS)")
    options: dict[str, object] = _STAGE_OPTIONS

    def input_paths(self) -> Sequence[str]:
        """The mosaic."""
        return (self.mosaic,)

    def outputs(self, output: Path) -> Sequence[Path]:
        """The table in each format."""
        from dsa110_contimg.sources import catalogue_file

        return catalogue_file.files(output)

    def call(self, settings: Settings, output: Path | None) -> Call:
        """Stage 9."""
        from dsa110_contimg.tasks import crossmatch

        return call(
            crossmatch.crossmatch,
            mosaic_path=Path(self.mosaic).absolute(),
            output=_needed(output),
            root=settings.root,
            options=stage_options(settings, CrossmatchOptions, "crossmatch", self.options),
        )


class MosaicJob(Selection, Request):
    """Plan a mosaic of imaged tiles and build it."""

    kind = "mosaic"
    stages = ("mosaic",)
    name: str = Field(pattern=_NAME, max_length=100, description="Name of plan and mosaic")
    method: Method = Field("mean", description="mean, weighted or pbweighted")
    output: str | None = Field(
        None, description="Path ending in .fits or .image; default: products/jobs/ in the root"
    )
    overwrite: bool = Field(False, description="Replace an output that exists")
    options: dict[str, object] = _STAGE_OPTIONS

    def mosaic_options(self, settings: Settings) -> MosaicOptions:
        """Options of the stage, with the method."""
        given = {**self.options, "method": self.method}
        return stage_options(settings, MosaicOptions, "mosaic", given)

    def outputs(self, output: Path) -> Sequence[Path]:
        """The mosaic and what lies beside it."""
        from dsa110_contimg.batch import plans

        return plans.outputs(output)

    def default_output(self) -> str:
        """Named as the plan."""
        return f"{self.name}.fits"

    def run(
        self, settings: Settings, registry: Registry, context: PipelineContext, output: Path
    ) -> JsonObject:
        """Plan, then build."""
        from dsa110_contimg.batch import plans

        selection, options = Selection.of(self), self.mosaic_options(settings)
        made = plans.plan(registry, self.name, selection, options)
        return records.to_json(plans.build(made, output, self.overwrite, context))


class ReprocessJob(TileSelection, Request):
    """Calibrate, image and combine kept Measurement Sets with other options, published nowhere."""

    kind = "reprocess"
    stages = ("calibrate", "apply", "image", "mosaic", "validate")
    output_name = "reprocessed"
    name: str = Field(pattern=_NAME, max_length=100, description="Name of the mosaic")
    output: str | None = Field(None, description="Directory to make")
    options: dict[str, dict[str, object]] = _SECTIONS
    keep_work: bool = Field(
        False, description="Keep calibration, calibrated Measurement Sets and tile images too"
    )

    def run(
        self, settings: Settings, registry: Registry, context: PipelineContext, output: Path
    ) -> JsonObject:
        """Stages 2 to 6."""
        return records.to_json(self.reprocess(settings, registry, context, output))

    def reprocess(
        self, settings: Settings, registry: Registry, context: PipelineContext, output: Path
    ) -> "Reprocessed":
        """Stages 2 to 6, with their result as it is."""
        from dsa110_contimg.batch.reprocess import reprocess

        selection = TileSelection.of(self)
        options = pipeline_options(settings, self.options)
        return reprocess(
            registry, self.name, selection, options, output.absolute(), context, self.keep_work
        )


class PipelineJob(Request):
    """All nine stages on sub-band files."""

    kind = "pipeline"
    stages = tuple(PipelineOptions.__annotations__)
    files: list[str] = Field(
        min_length=1, max_length=_MAX_FILES, description="Sub-band files, or directories of them"
    )
    name: str | None = Field(None, pattern=_NAME, max_length=100, description="Name of the mosaic")
    options: dict[str, dict[str, object]] = _SECTIONS

    def input_paths(self) -> Sequence[str]:
        """The files."""
        return self.files

    def default_output(self) -> str:
        """None: what is made is published."""
        return ""

    def run(
        self, settings: Settings, registry: Registry, context: PipelineContext, output: Path
    ) -> JsonObject:
        """Run all stages, and draw the sky anew."""
        from dsa110_contimg.batch import pipelines

        files = pipelines.subband_files([Path(name) for name in self.files])
        options = pipeline_options(settings, self.options)
        published = pipelines.run_pipeline(registry, files, options, context, self.name or "")
        context.progress("hips", 0.0, "drawing the sky")
        pipelines.update_survey(registry, settings, context)
        context.progress("hips", 1.0, "done")
        return records.to_json(published)


KINDS: dict[str, type[Request]] = {
    kind.kind: kind
    for kind in (
        ConvertJob,
        CalibrateJob,
        ApplyJob,
        ImageJob,
        ValidateJob,
        CrossmatchJob,
        MosaicJob,
        PipelineJob,
        ReprocessJob,
    )
}
