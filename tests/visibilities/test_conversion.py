"""A known sky comes out of the conversion where it is, at one phase centre."""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from casacore import tables

from conftest import Processed, SmallRun
from dsa110_contimg.artifacts.tiles import ConvertedTiles
from dsa110_contimg.calibration import predict
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.simulation import hour
from dsa110_contimg.simulation.sky import KnownSky
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.tasks.conversion import convert, describe
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion, measurement_set
from dsa110_contimg.visibilities.options import ConversionOptions


def _one_source(offset_deg: tuple[float, float]) -> tuple[hour.Run, KnownSky]:
    options = hour.RunOptions(
        groups=1, antennas=12, channels=1, integrations=6, noise=False, rfi=0.0
    )
    centre = conversion_centre(options)
    sky = KnownSky(
        np.array([centre[0] + offset_deg[0]]),
        np.array([centre[1] + offset_deg[1]]),
        np.array([3.0]),
        np.array([3.0]),
    )
    return hour.prepare(options, sky=sky), sky


def conversion_centre(options: hour.RunOptions) -> tuple[float, float]:
    run = hour.prepare(options)
    site = astrometry.Site(np.deg2rad(37.2334051), np.deg2rad(-118.2830001), 1188.05)
    drift = astrometry.meridian_direction(np.deg2rad(16.2), site.longitude_rad)
    frame = astrometry.EarthFrame(run.starts_jd[:1], site)
    ra, dec = astrometry.vector_to_radec(frame.icrs_direction(drift))
    return float(np.rad2deg(ra[0])), float(np.rad2deg(dec[0]))


def test_a_source_off_centre_keeps_its_phase_on_every_baseline(tmp_path: Path) -> None:
    run, sky = _one_source((0.7, -0.5))
    observation = conversion.read_observation(run.write(tmp_path, 0), DSA110)
    vis = observation.vis
    model = SkyModel(
        astrometry.radec_to_vector(np.deg2rad(sky.ra_deg), np.deg2rad(sky.dec_deg)),
        sky.flux_jy,
        np.array([-0.7]),
        1.4e9,
    )
    expected = predict.predict(vis, model)
    gains = np.stack(
        [
            run.observatory.gains.at((jd - 2440587.5) * 86400, vis.frequencies_hz)
            for jd in vis.times_jd
        ]
    )
    where = np.full(117, -1)
    where[run.observatory.antennas] = np.arange(run.observatory.antennas.size)
    first, second = where[vis.antenna1], where[vis.antenna2]
    corrupted = (
        gains[vis.time_index, first] * np.conj(gains[vis.time_index, second]) * expected[:, :, None]
    )
    assert np.abs(vis.data - corrupted).max() < 1e-4 * np.abs(corrupted).max()


def test_the_measurement_set_says_where_and_what_it_is(processed: Processed) -> None:
    tile = processed.result[ConvertedTiles].tiles[0]
    with tables.table(str(tile.ms_path / "OBSERVATION"), ack=False) as observation:
        assert observation.getcol("TELESCOPE_NAME")[0] == "OVRO_MMA"
    with tables.table(str(tile.ms_path / "FIELD"), ack=False) as field:
        centre = np.rad2deg(field.getcol("PHASE_DIR")[0, 0])
        assert field.getcolkeyword("PHASE_DIR", "MEASINFO")["Ref"] == "ICRS"
    assert np.allclose(centre % 360, (tile.ra_deg, tile.dec_deg))
    with tables.table(str(tile.ms_path / "POLARIZATION"), ack=False) as polarization:
        assert polarization.getcol("CORR_TYPE")[0].tolist() == [9, 12]
    with tables.table(str(tile.ms_path), ack=False) as main:
        assert (main.getcol("ANTENNA1") < main.getcol("ANTENNA2")).all()
    assert describe(tile.ms_path).tile_id == tile.tile_id


def test_what_is_written_is_what_is_read(small_run: SmallRun, tmp_path: Path) -> None:
    observation = conversion.read_observation(small_run.files[0], DSA110)
    measurement_set.write(tmp_path / "a.ms", observation.vis)
    vis = measurement_set.read(tmp_path / "a.ms")
    assert np.array_equal(vis.data, observation.vis.data)
    assert np.array_equal(vis.flags, observation.vis.flags)
    assert np.allclose(vis.uvw_m, observation.vis.uvw_m)
    assert np.allclose(vis.pointings, observation.vis.pointings, atol=1e-14)
    assert np.allclose(vis.times_jd, observation.vis.times_jd, atol=1e-9)
    assert (np.diff(vis.frequencies_hz) > 0).all()


def test_absent_sub_bands_are_flagged_channels(small_run: SmallRun, tmp_path: Path) -> None:
    files = [path for path in small_run.files[0] if "sb03" not in path.name]
    tile = convert(files, tmp_path / "a.ms", DSA110, ConversionOptions())
    assert tile.absent_subbands == (3,)
    vis = measurement_set.read(tmp_path / "a.ms")
    flagged = vis.flags.all(axis=(0, 2))
    assert flagged.tolist() == [n == 15 - 3 for n in range(16)]


def test_antennas_without_signal_are_found_and_flagged(tmp_path: Path) -> None:
    options = hour.RunOptions(groups=1, antennas=12, channels=1, integrations=2, rfi=0.0)
    run = hour.prepare(options)
    dead = replace(run, observatory=replace(run.observatory, dead=(2, 9)))
    observation = conversion.read_observation(dead.write(tmp_path, 0), DSA110)
    names = [str(run.observatory.antennas[i] + 1) for i in (2, 9)]
    assert list(observation.dead_antennas) == names
    vis = observation.vis
    index = [vis.array.names.index(name) for name in names]
    touched = np.isin(vis.antenna1, index) | np.isin(vis.antenna2, index)
    assert vis.flags[touched].all()
    assert not vis.flags[~touched].any()


def test_a_measurement_set_of_several_fields_and_windows_is_read_field_by_field(
    processed: Processed, tmp_path: Path
) -> None:
    vis = measurement_set.read(processed.result[ConvertedTiles].tiles[0].ms_path)
    half = vis.frequencies_hz.size // 2
    paths = []
    for name, channels in (("low", slice(None, half)), ("high", slice(half, None))):
        path = tmp_path / f"{name}.ms"
        part = replace(
            vis,
            data=vis.data[:, channels],
            flags=vis.flags[:, channels],
            weights=vis.weights[:, channels],
            frequencies_hz=vis.frequencies_hz[channels],
            channel_width_hz=vis.channel_width_hz[channels],
        )
        measurement_set.write(path, part, spectral_weights=True)
        paths.append(path)
    # Windows in the order of other programs: the higher one first.
    with tables.table(str(paths[1]), readonly=False, ack=False) as both:
        rows = both.nrows()
        with tables.table(str(paths[0]), ack=False) as other:
            both.addrows(rows)
            for column in (
                "DATA",
                "FLAG",
                "WEIGHT",
                "SIGMA",
                "WEIGHT_SPECTRUM",
                "TIME",
                "UVW",
                "ANTENNA1",
                "ANTENNA2",
                "INTERVAL",
                "EXPOSURE",
                "TIME_CENTROID",
                "FLAG_ROW",
                "SCAN_NUMBER",
            ):
                if column in both.colnames() and other.iscelldefined(column, 0):
                    both.putcol(column, other.getcol(column), rows, rows)
            both.putcol("DATA_DESC_ID", np.ones(rows, np.int32), rows, rows)
            both.putcol("FIELD_ID", np.zeros(rows, np.int32), rows, rows)
            for name in ("SPECTRAL_WINDOW", "DATA_DESCRIPTION"):
                with (
                    tables.table(other.getkeyword(name), ack=False) as source,
                    tables.table(both.getkeyword(name), readonly=False, ack=False) as target,
                ):
                    source.copyrows(target)
                    if name == "DATA_DESCRIPTION":
                        target.putcell("SPECTRAL_WINDOW_ID", 1, 1)
    joined = measurement_set.read(paths[1])
    np.testing.assert_array_equal(joined.frequencies_hz, vis.frequencies_hz)
    order = np.lexsort((vis.antenna2, vis.antenna1, vis.time_index))
    np.testing.assert_array_equal(joined.data, vis.data[order])
    with tables.table(str(paths[1]), readonly=False, ack=False) as ms:
        with tables.table(ms.getkeyword("FIELD"), readonly=False, ack=False) as fields:
            fields.copyrows(fields)
            fields.putcell("NAME", 1, "other")
        numbers = ms.getcol("FIELD_ID")
        numbers[ms.getcol("TIME") > np.median(ms.getcol("TIME"))] = 1
        ms.putcol("FIELD_ID", numbers)
    with pytest.raises(
        BadInputError,
        match=r"several fields \(.*other\); choose one by name or number with --field",
    ):
        measurement_set.read(paths[1])
    later = measurement_set.read(paths[1], field="other")
    assert later.field_name == "other"
    assert later.times_jd.size < vis.times_jd.size
    assert later.frequencies_hz.size == vis.frequencies_hz.size


def _damage_data(path: Path) -> None:
    """Spoil a block of visibilities, which its checksum tells; the header stays good."""
    with h5py.File(path, "r+", locking=False) as file:
        data = file["Data/visdata"][()]
        del file["Data/visdata"]
        made = file.create_dataset("Data/visdata", data=data, chunks=data.shape, fletcher32=True)
        place = made.id.get_chunk_info(0).byte_offset
    with path.open("rb+") as raw:
        raw.seek(place + 100)
        raw.write(b"\xff" * 8)


def test_a_sub_band_whose_data_cannot_be_read_is_left_out_while_enough_remain(
    small_run: SmallRun, tmp_path: Path
) -> None:
    files = [Path(shutil.copy(path, tmp_path)) for path in small_run.files[0]]
    (bad,) = (path for path in files if "sb03" in path.name)
    _damage_data(bad)
    tile = convert(files, tmp_path / "a.ms", DSA110, ConversionOptions())
    assert (tile.n_subbands, tile.absent_subbands) == (15, (3,))
    (warning,) = tile.warnings
    assert bad.name in warning
    assert "its data cannot be read" in warning
    without = [path for path in files if path != bad]
    convert(without, tmp_path / "b.ms", DSA110, ConversionOptions())
    left_out, absent = (measurement_set.read(tmp_path / name) for name in ("a.ms", "b.ms"))
    np.testing.assert_array_equal(left_out.data, absent.data)
    np.testing.assert_array_equal(left_out.flags, absent.flags)
    np.testing.assert_array_equal(left_out.weights, absent.weights)
    with pytest.raises(BadInputError, match=f"{bad.name}.*11 of 16"):
        convert([*without[:11], bad], tmp_path / "c.ms", DSA110, ConversionOptions())
    assert not (tmp_path / "c.ms").exists()


def test_files_of_two_observations_are_no_duplicates(small_run: SmallRun) -> None:
    with pytest.raises(BadInputError, match="is of another observation than") as caught:
        conversion.read_observation([*small_run.files[0], *small_run.files[1]], DSA110)
    assert "convert one observation at a time" in str(caught.value)
