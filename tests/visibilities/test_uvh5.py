"""Bad files are refused with name, cause and remedy; good ones read in either layout."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import SmallRun
from dsa110_contimg.errors import BadInputError, OutageError, RetryableError, UsageError
from dsa110_contimg.tasks.conversion import convert
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion, uvh5
from dsa110_contimg.visibilities.options import ConversionOptions


@pytest.fixture
def files(small_run: SmallRun, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(path, tmp_path)) for path in small_run.files[0]]


def _edit(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+", locking=False) as file:
            change(file)

    return apply


def _replace(name: str, make: Callable[[np.ndarray], object]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        value = file[name][()]
        del file[name]
        file[name] = make(value)

    return change


def _truncate(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb+") as file:
        file.truncate(size // 2)


BAD = {
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "truncated": (_truncate, "truncated"),
    "not HDF5": (lambda p: p.write_text("hello"), "not an HDF5 file"),
    "missing item": (_edit(lambda f: f.__delitem__("Header/freq_array")), "freq_array is missing"),
    "no data": (_edit(lambda f: f.__delitem__("Data/visdata")), "no Header or Data/visdata"),
    "wrong frequency": (
        _edit(_replace("Header/freq_array", lambda v: v + 3e6)),
        "not one of the 16 sub-bands",
    ),
    "outside the band": (
        _edit(_replace("Header/freq_array", lambda v: v + 600e6)),
        "not one of the 16 sub-bands",
    ),
    "wrong shape": (_edit(_replace("Data/visdata", lambda v: v[:-1])), "has shape"),
    "unordered times": (
        _edit(_replace("Header/time_array", lambda v: v[::-1])),
        "time_array is not finite",
    ),
    "no number": (
        _edit(_replace("Header/phase_center_app_dec", lambda v: np.nan)),
        "not finite or out of",
    ),
    "unknown antenna": (
        _edit(_replace("Header/ant_2_array", lambda v: v + 500)),
        "antenna_numbers does not list",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_with_its_name_and_the_cause(
    kind: str, files: list[Path], tmp_path: Path
) -> None:
    spoil, cause = BAD[kind]
    spoil(files[5])
    output = tmp_path / "out.ms"
    with pytest.raises(BadInputError) as caught:
        convert(files, output, DSA110, ConversionOptions())
    assert str(files[5]) in str(caught.value)
    assert cause in str(caught.value)
    assert not output.exists()


def test_a_duplicate_sub_band_is_refused_and_both_files_are_named(
    files: list[Path], tmp_path: Path
) -> None:
    twin = Path(shutil.copy(files[3], tmp_path / "2026-01-25T22:05:25_sb03.hdf5"))
    with pytest.raises(BadInputError, match="duplicate of sub-band 3") as caught:
        conversion.read_observation([*files, twin], DSA110)
    assert files[3].name in str(caught.value)


def test_files_of_two_observations_are_not_mixed(small_run: SmallRun) -> None:
    mixed = [*small_run.files[0][:8], *small_run.files[1][8:]]
    with pytest.raises(BadInputError, match="not of one observation"):
        conversion.read_observation(mixed, DSA110)


def test_too_few_sub_bands_are_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="11 of 16 sub-bands arrived"):
        convert(files[:11], tmp_path / "out.ms", DSA110, ConversionOptions())


def test_an_output_that_exists_or_has_no_directory_is_refused(
    files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "there.ms").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        convert(files, tmp_path / "there.ms", DSA110, ConversionOptions())
    with pytest.raises(OutageError, match="make it, or mount its disk"):
        convert(files, tmp_path / "nowhere" / "x.ms", DSA110, ConversionOptions())


def test_the_newer_layout_without_the_window_axis_reads_the_same(files: list[Path]) -> None:
    header = uvh5.read_header(files[0])
    before = uvh5.read_visibilities(header)
    for name in ("visdata", "flags", "nsamples"):
        _edit(_replace(f"Data/{name}", lambda v: v[:, 0]))(files[0])
    _edit(_replace("Header/freq_array", lambda v: v[0]))(files[0])
    after = uvh5.read_visibilities(uvh5.read_header(files[0]))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_sub_bands_are_numbered_by_frequency_not_by_name(files: list[Path], tmp_path: Path) -> None:
    renamed = files[0].rename(tmp_path / "2026-01-25T22:05:21_sb99.hdf5")
    assert uvh5.read_header(renamed).subband(DSA110) == 0


def test_values_that_are_no_numbers_are_flagged_and_counted(files: list[Path]) -> None:
    def spoil(visdata: np.ndarray) -> np.ndarray:
        visdata[1, 0, 0, 0] = np.nan
        visdata[4, 0, 0, 1] = 1e30
        return visdata

    _edit(_replace("Data/visdata", spoil))(files[0])
    observation = conversion.read_observation(files, DSA110)
    assert observation.n_bad_samples == 2
    assert np.isfinite(observation.vis.data).all()


@pytest.mark.accepts("Sub-band files", "nsamples nowhere above zero", "refused with the cause")
@pytest.mark.parametrize("count", [0.0, -1.0, np.nan])
def test_counts_that_let_no_visibility_count_are_named(files: list[Path], count: float) -> None:
    for path in files:
        _edit(_replace("Data/nsamples", lambda counts: np.full_like(counts, count)))(path)
    with pytest.raises(BadInputError, match=r"\.hdf5: Data/nsamples of this .* nowhere above zero"):
        conversion.read_observation(files, DSA110)


@pytest.mark.accepts("Sub-band files", "nsamples that are NaN", "flagged")
def test_a_count_that_is_no_number_costs_its_sample_alone(files: list[Path]) -> None:
    before = conversion.read_observation(files, DSA110).vis

    def spoil(counts: np.ndarray) -> np.ndarray:
        counts[1, 0, 0, 0] = np.nan
        return counts

    _edit(_replace("Data/nsamples", spoil))(files[0])
    vis = conversion.read_observation(files, DSA110).vis
    assert np.isfinite(vis.weights).all()
    assert np.count_nonzero(vis.flags != before.flags) == 1


def test_a_file_whose_disk_is_not_mounted_is_not_taken_for_damaged(tmp_path: Path) -> None:
    """An unmounted disk leaves an empty directory, or none."""
    from dsa110_contimg.imaging.image_reader import read_fits
    from dsa110_contimg.visibilities import measurement_set

    (tmp_path / "empty").mkdir()
    for folder in ("empty", "gone"):
        for read, name in (
            (uvh5.read_header, "2026-01-25T22:05:21_sb00.hdf5"),
            (measurement_set.read, "a.ms"),
            (read_fits, "a.fits"),
        ):
            with pytest.raises(OutageError, match="is its disk mounted"):
                read(tmp_path / folder / name)
    (tmp_path / "other").touch()
    with pytest.raises(BadInputError, match="cannot be opened"):
        uvh5.read_header(tmp_path / "2026-01-25T22:05:21_sb00.hdf5")


def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("Unable to open file (file read failed: errno = 5, error message = '...')")

    monkeypatch.setattr(uvh5.h5py, "File", fail)
    with pytest.raises(RetryableError, match="its disk failed") as told:
        uvh5.read_header(files[0])
    assert files[0].name in str(told.value)
