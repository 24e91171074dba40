"""Measurement Sets of other programs: frames, pointings, dead and absent numbers.

Frames are compared with casacore's own conversions.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from casacore import tables
from casacore.measures import measures

from dsa110_contimg.calibration.fields import calibrate_fields, point_source_model
from dsa110_contimg.calibration.gains import check_reference_antennas
from dsa110_contimg.calibration.options import FieldSolveOptions
from dsa110_contimg.constants import ARCSEC_RAD
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.simulation import hour
from dsa110_contimg.sky import astrometry, flux_scale
from dsa110_contimg.telescope import DSA110
from dsa110_contimg.visibilities import conversion, measurement_set
from dsa110_contimg.visibilities.data import Visibilities
from dsa110_contimg.visibilities.measurement_set.keywords import DRIFT_KEYWORD


@pytest.fixture(scope="module")
def vis(tmp_path_factory: pytest.TempPathFactory) -> Visibilities:
    options = hour.RunOptions(groups=1, antennas=12, channels=1, integrations=6, rfi=0.0)
    files = hour.prepare(options).write(tmp_path_factory.mktemp("raw"), 0)
    return conversion.read_observation(files, DSA110).vis


@pytest.fixture
def ms(vis: Visibilities, tmp_path: Path) -> Path:
    """As another program writes it: without what this project adds."""
    path = tmp_path / "a.ms"
    measurement_set.write(path, vis)
    with tables.table(str(path), readonly=False, ack=False) as table:
        table.removekeyword(DRIFT_KEYWORD)
    return path


def _unit(direction: dict[str, dict[str, float]]) -> np.ndarray:
    return astrometry.radec_to_vector(direction["m0"]["value"], direction["m1"]["value"])


@pytest.mark.accepts(
    "Measurement Sets",
    "Phase centres in B1950, B1950_VLA, GALACTIC; by column or by row (importuvfits)",
    "turned to ICRS with the baselines",
)
@pytest.mark.parametrize("frame", ["B1950", "B1950_VLA", "GALACTIC", "J2000"])
@pytest.mark.parametrize("by_row", [False, True])
def test_phase_centres_and_baselines_are_turned_to_icrs(
    frame: str, by_row: bool, vis: Visibilities, ms: Path
) -> None:
    converter = measures()

    def in_frame(vector: np.ndarray) -> np.ndarray:
        ra, dec = astrometry.vector_to_radec(vector)
        icrs = converter.direction("ICRS", f"{float(ra)!r}rad", f"{float(dec)!r}rad")
        return _unit(converter.measure(icrs, frame))

    ra, dec = vis.phase_centre_rad
    axes = astrometry.tangent_axes(ra, dec)
    longitude, latitude = astrometry.vector_to_radec(in_frame(axes[2]))
    turned = astrometry.tangent_axes(float(longitude), float(latitude))
    matrix = np.array([in_frame(axis) for axis in axes]) @ turned.T
    with tables.table(str(ms), readonly=False, ack=False) as table:
        table.putcol("UVW", vis.uvw_m @ matrix)
    with tables.table(str(ms / "FIELD"), readonly=False, ack=False) as field:
        field.putcol("PHASE_DIR", np.array([[[longitude, latitude]]], float))
        if by_row:
            field.addcols(tables.maketabdesc([tables.makescacoldesc("PhaseDir_Ref", 0)]))
            field.putcol("PhaseDir_Ref", np.array([7], np.int32))
            info = {
                "type": "direction",
                "VarRefCol": "PhaseDir_Ref",
                "TabRefTypes": np.array(["ICRS", frame]),
                "TabRefCodes": np.array([21, 7], np.int32),
            }
        else:
            info = {"type": "direction", "Ref": frame}
        field.putcolkeyword("PHASE_DIR", "MEASINFO", info)
    found = measurement_set.read(ms)
    apart = astrometry.separation_rad(astrometry.radec_to_vector(*found.phase_centre_rad), axes[2])
    # J2000 is taken for ICRS, and the two libraries define galactic coordinates differently.
    assert apart < 0.6 * ARCSEC_RAD
    assert np.abs(found.uvw_m - vis.uvw_m).max() < 1e-5 * np.abs(vis.uvw_m).max()
    assert measurement_set.phase_centre_deg(ms) == pytest.approx(
        np.rad2deg(vis.phase_centre_rad), abs=0.6 / 3600
    )


@pytest.mark.accepts("Measurement Sets", "Phase centres in AZELGEO and the like", "refused")
def test_a_frame_that_turns_with_the_earth_is_refused(ms: Path) -> None:
    with tables.table(str(ms / "FIELD"), readonly=False, ack=False) as field:
        field.putcolkeyword("PHASE_DIR", "MEASINFO", {"type": "direction", "Ref": "AZELGEO"})
    with pytest.raises(BadInputError, match=r"a\.ms: the phase centre of its field 0 is in .*AZEL"):
        measurement_set.read(ms)


def _add_pointing(ms: Path, direction: tuple[float, float], frame: str) -> None:
    with tables.table(str(ms / "POINTING"), readonly=False, ack=False) as pointing:
        pointing.addrows(2)
        pointing.putcol("ANTENNA_ID", np.arange(2, dtype=np.int32))
        pointing.putcol("DIRECTION", np.tile(direction, (2, 1, 1)))
        pointing.putcolkeyword("DIRECTION", "MEASINFO", {"type": "direction", "Ref": frame})


@pytest.mark.accepts(
    "Measurement Sets",
    "POINTING in azimuth and elevation, zero or NaN (MeerKAT, ALMA, converters)",
    "the phase centre is used",
)
@pytest.mark.parametrize(
    ("direction", "frame", "used"),
    [
        ((0.5, 1.0), "AZELGEO", False),
        ((0.5, 1.0), "J2000", True),
        ((0.0, 0.0), "J2000", False),
        ((np.nan, 0.0), "J2000", False),
    ],
)
def test_pointings_that_are_none_of_the_sky_are_not_used(
    direction: tuple[float, float], frame: str, used: bool, vis: Visibilities, ms: Path
) -> None:
    _add_pointing(ms, direction, frame)
    found = measurement_set.read(ms)
    where = direction if used else vis.phase_centre_rad
    assert np.allclose(found.pointings, astrometry.radec_to_vector(*where), atol=1e-12)


@pytest.mark.accepts("Measurement Sets", "NaN or infinite data and weights", "flagged")
def test_what_is_not_finite_is_flagged(vis: Visibilities, ms: Path) -> None:
    with tables.table(str(ms), readonly=False, ack=False) as table:
        cell = table.getcell("DATA", 7)
        cell[0, 0], cell[1, 1] = np.nan, complex(0, np.inf)
        table.putcell("DATA", 7, cell)
        weight = table.getcell("WEIGHT", 9)
        weight[1] = np.nan
        table.putcell("WEIGHT", 9, weight)
    found = measurement_set.read(ms)
    assert np.isfinite(found.data).all()
    assert np.isfinite(found.weights).all()
    expected = vis.flags.copy()
    expected[7, 0, 0] = expected[7, 1, 1] = True
    expected[9, :, 1] = True
    assert np.array_equal(found.flags, expected)
    good = ~expected
    assert np.array_equal(found.data[good], vis.data[good])


@pytest.mark.accepts(
    "Measurement Sets",
    "Several fields of one name",
    "one field at one place; else chosen by number",
)
def test_fields_of_one_name_are_one_field_only_at_one_place(vis: Visibilities, ms: Path) -> None:
    with tables.table(str(ms / "FIELD"), readonly=False, ack=False) as field:
        field.copyrows(field)
    with tables.table(str(ms), readonly=False, ack=False) as table:
        table.putcol("FIELD_ID", (vis.time_index >= 3).astype(np.int32))
    assert measurement_set.read(ms).times_jd.size == 6
    with tables.table(str(ms / "FIELD"), readonly=False, ack=False) as field:
        field.putcell("PHASE_DIR", 1, np.array([[1.0, 0.5]]))
    with pytest.raises(BadInputError, match=r"a\.ms: holds several fields \(0: .*, 1: .*by name"):
        measurement_set.read(ms)
    assert measurement_set.read(ms, field="1").phase_centre_rad == pytest.approx((1.0, 0.5))
    with pytest.raises(BadInputError, match="holds no field 'M31'"):
        measurement_set.read(ms, field="M31")


def _no_diameters(ms: Path) -> None:
    with tables.table(str(ms / "ANTENNA"), readonly=False, ack=False) as antenna:
        antenna.putcol("DISH_DIAMETER", np.zeros(antenna.nrows()))


def _no_positions(ms: Path) -> None:
    with tables.table(str(ms / "ANTENNA"), readonly=False, ack=False) as antenna:
        antenna.putcol("POSITION", np.zeros((antenna.nrows(), 3)))


def _stokes(ms: Path) -> None:
    with tables.table(str(ms / "POLARIZATION"), readonly=False, ack=False) as setup:
        setup.putcol("CORR_TYPE", np.array([[1, 4]], np.int32))


def _cut_off(ms: Path) -> None:
    for data in ms.glob("table.f*_TSM*"):
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


@pytest.mark.accepts(
    "Measurement Sets", "No diameters, no positions, Stokes parameters, cut off", "refused"
)
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_diameters, r"117 of its antennas have no DISH_DIAMETER.*write it to the ANTENNA"),
        (_no_positions, "positions of its antennas are not on the Earth"),
        (_stokes, r"polarizations \[1, 4\].*neither linear nor circular"),
        (_cut_off, "cannot be read as a Measurement Set"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_cause(
    damage: Callable[[Path], None], said: str, ms: Path
) -> None:
    damage(ms)
    with pytest.raises(BadInputError, match=said) as refused:
        measurement_set.read(ms)
    assert str(refused.value).startswith(str(ms))
    assert "\n" not in str(refused.value)


@pytest.mark.accepts(
    "Measurement Sets", "No diameters of the VLA, GMRT, MeerKAT, ATCA, WSRT, ASKAP", "known"
)
def test_diameters_are_known_of_some_telescopes(ms: Path) -> None:
    _no_diameters(ms)
    with tables.table(str(ms / "OBSERVATION"), readonly=False, ack=False) as observation:
        observation.putcol("TELESCOPE_NAME", ["VLA"])
    assert set(measurement_set.read(ms).array.dish_diameters_m) == {25.0}


@pytest.mark.accepts(
    "Measurement Sets", "Several scans of one calibrator in files of their own", "all are used"
)
def test_scans_of_one_calibrator_are_all_kept(vis: Visibilities, rng: np.random.Generator) -> None:
    primary = flux_scale.CALIBRATORS[0]
    ra, dec = (float(angle) for angle in astrometry.vector_to_radec(primary.direction()))
    first = replace(
        vis, phase_centre_rad=(ra, dec), field_name="cal", flags=np.zeros_like(vis.flags)
    )
    model, _ = point_source_model(first)
    noise = rng.normal(scale=0.01, size=(*vis.data.shape, 2)).astype(np.float32)
    data = model[:, :, None] + noise.view(np.complex64)[..., 0]
    first = replace(first, data=data, weights=np.full(data.shape, 1e4, np.float32))
    later = replace(first, times_jd=first.times_jd + 1 / 24, data=first.data * np.complex64(1.44))
    found = calibrate_fields(first, [first, later], FieldSolveOptions())
    assert found.gain_times_s == pytest.approx([first.times_s.mean(), later.times_s.mean()])
    good = ~found.gains.flags
    amplitude = [np.median(np.abs(found.gains.values[k][good[k]])) for k in range(2)]
    assert amplitude == pytest.approx([1.0, 1.2], rel=1e-3)
    elsewhere = replace(later, phase_centre_rad=(ra + 0.1, dec))
    with pytest.raises(BadInputError, match=r"two fields are called cal and lie .* degrees apart"):
        calibrate_fields(first, [first, elsewhere], FieldSolveOptions())


@pytest.mark.accepts("Names", "Reference antennas with spaces; absent ones", "read; refused")
def test_reference_antennas_that_a_user_states_must_be_there() -> None:
    names = DSA110.stations
    check_reference_antennas(names, ("103", "104"), ())
    check_reference_antennas(("ea01",), DSA110.reference_antennas, DSA110.reference_antennas)
    assert FieldSolveOptions(reference_antennas="103, 104").reference_antennas == ("103", "104")
    with pytest.raises(UsageError, match="reference antenna pad103: is not in the data, whose"):
        check_reference_antennas(names, ("pad103", "104"), DSA110.reference_antennas)
