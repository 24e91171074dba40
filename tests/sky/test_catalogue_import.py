"""Catalogue files of other programs: units, frames, blanks, encodings, flags, duplicates.

Positions are compared with astropy's own transformations of what was written.
"""

from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import FK4, SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import strategies as st
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import BadInputError, UsageError
from dsa110_contimg.sky import catalogues
from dsa110_contimg.sky.catalogue_columns import jansky_per
from dsa110_contimg.sky.catalogue_import import ImportedCatalogue, read_file
from dsa110_contimg.sky.catalogue_positions import distinct
from dsa110_contimg.sky.options import ImportOptions
from fuzzing import thorough

_NAMED = ImportOptions(ra="RA", dec="DE", flux="F")


def _separation_arcsec(found: ImportedCatalogue, truth: SkyCoord) -> float:
    got = SkyCoord(found.catalogue.ra_deg, found.catalogue.dec_deg, unit="deg")
    order = np.argsort(truth.icrs.dec.deg)
    return float(got.separation(truth.icrs[order]).arcsec.max())


@pytest.fixture
def sky() -> SkyCoord:
    rng = np.random.default_rng(5)
    return SkyCoord(rng.uniform(0, 360, 30), rng.uniform(-60, 80, 30), unit="deg")


def _table(sky: SkyCoord, flux: units.Quantity | None = None) -> Table:
    flux = flux if flux is not None else np.full(len(sky), 1.0) * units.Jy
    return Table({"RA": sky.ra, "DE": sky.dec, "F": flux})


@pytest.mark.accepts(
    "Catalogues", "Positions in degrees, radians, arcminutes or hours; Parquet", "turned to degrees"
)
@pytest.mark.parametrize(
    ("form", "unit"),
    [
        (form, unit)
        for form in ("fits", "vot", "ecsv", "parquet")
        for unit in ("deg", "rad", "arcmin", "h", "hourangle")
        # Neither standard has a unit of that name.
        if unit != "hourangle" or form not in ("fits", "vot")
    ],
)
def test_positions_have_the_unit_that_the_file_states(
    sky: SkyCoord, form: str, unit: str, tmp_path: Path
) -> None:
    table = _table(sky)
    if unit == "h":
        # Hours of right ascension written as hours of time.
        table["RA"] = sky.ra.hour * units.h
    else:
        table["RA"] = sky.ra.to(unit)
        table["DE"] = sky.dec.to("rad" if unit == "rad" else "deg")
    path = tmp_path / f"c.{form}"
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [
            pa.field(c, pa.float64(), metadata={"unit": str(table[c].unit)}) for c in table.colnames
        ]
        columns = [pa.array(np.asarray(table[c], float)) for c in table.colnames]
        pq.write_table(pa.table(columns, schema=pa.schema(fields)), path)
    else:
        kind = {"vot": "votable", "ecsv": "ascii.ecsv"}.get(form, form)
        table.write(path, format=kind)
    assert _separation_arcsec(read_file(path, "c", _NAMED), sky) < 1e-6


@pytest.mark.accepts("Catalogues", "COOSYS of a VOTable: FK4 B1950, FK5", "turned to ICRS")
@pytest.mark.parametrize(("equinox", "system"), [("B1950", "eq_FK4"), ("J2000", "eq_FK5")])
def test_a_votable_states_its_frame(
    sky: SkyCoord, equinox: str, system: str, tmp_path: Path
) -> None:
    rotated = sky.transform_to(FK4(equinox="B1950") if system == "eq_FK4" else "fk5")
    rows = "".join(
        f"<TR><TD>{a:.12f}</TD><TD>{d:.12f}</TD><TD>1</TD></TR>"
        for a, d in zip(rotated.ra.deg, rotated.dec.deg, strict=True)
    )
    (tmp_path / "c.xml").write_text(
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>'
        f'<COOSYS ID="one" system="{system}" equinox="{equinox}"/>'
        '<COOSYS ID="other" system="galactic"/>'
        '<TABLE><FIELD name="RA" datatype="double" unit="deg" ref="one"/>'
        '<FIELD name="DE" datatype="double" unit="deg" ref="one"/>'
        '<FIELD name="F" datatype="double" unit="Jy"/>'
        f"<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    )
    assert _separation_arcsec(read_file(tmp_path / "c.xml", "c", _NAMED), sky) < 1e-3


@pytest.mark.accepts(
    "Catalogues",
    "RADESYS and EQUINOX of a FITS table",
    "turned to ICRS, unless --frame states another",
)
def test_fits_cards_state_the_frame(sky: SkyCoord, tmp_path: Path) -> None:
    old = sky.transform_to(FK4(equinox="B1950"))
    table = _table(SkyCoord(old.ra, old.dec))
    table.meta["RADESYS"], table.meta["EQUINOX"] = "FK4", 1950.0
    table.write(tmp_path / "c.fits")
    assert _separation_arcsec(read_file(tmp_path / "c.fits", "c", _NAMED), sky) < 1e-3
    # What a user states holds.
    stated = _NAMED.model_copy(update={"frame": "icrs"})
    found = read_file(tmp_path / "c.fits", "c", stated)
    assert _separation_arcsec(found, SkyCoord(old.ra, old.dec)) < 1e-6
    table.meta["RADESYS"] = "HORIZON"
    table.write(tmp_path / "d.fits")
    with pytest.raises(BadInputError, match=r"d\.fits: its frame HORIZON is none of.*--frame"):
        read_file(tmp_path / "d.fits", "c", _NAMED)


def test_galactic_positions_and_angles(sky: SkyCoord, tmp_path: Path) -> None:
    plane = sky.galactic
    table = Table(
        {
            "RA": plane.l,
            "DE": plane.b,
            "F": np.ones(len(sky)) * units.Jy,
            "maj": np.full(len(sky), 60.0) * units.arcsec,
            "min": np.full(len(sky), 30.0) * units.arcsec,
            "pa": np.full(len(sky), 20.0) * units.deg,
        }
    )
    table.write(tmp_path / "c.ecsv", format="ascii.ecsv")
    options = ImportOptions(
        ra="RA", dec="DE", flux="F", major="maj", minor="min", angle="pa", frame="galactic"
    )
    found = read_file(tmp_path / "c.ecsv", "c", options)
    assert _separation_arcsec(found, sky) < 1e-4
    # The end of each major axis lies where galactic coordinates have it.
    end = plane.directional_offset_by(20 * units.deg, 30 * units.arcsec).icrs
    order = np.argsort(sky.dec.deg)
    expected = sky[order].position_angle(end[order]).deg % 180
    assert np.rad2deg(found.catalogue.shapes.angle_rad) % 180 == pytest.approx(expected, abs=1e-3)


@pytest.mark.accepts("Catalogues", "Jy, mJy, MJy, uJy", "told apart")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("unit", "jansky"), [("mJy", 1e-3), ("MJy", 1e6), ("uJy", 1e-6), ("Jy", 1.0), ("JY", 1.0)]
)
def test_flux_densities_have_the_unit_that_the_file_states(
    unit: str, jansky: float, tmp_path: Path
) -> None:
    table = Table({"RA": [10.0], "DE": [5.0], "F": [1000.0]})
    table["F"].unit = units.Unit(unit, parse_strict="silent")
    table.write(tmp_path / "c.vot", format="votable")
    assert read_file(tmp_path / "c.vot", "c", _NAMED).catalogue.flux_jy == pytest.approx(
        [1000 * jansky]
    )
    # The columns of this project's own catalogues too.
    table.rename_columns(["RA", "DE", "F"], ["ra_deg", "dec_deg", "flux_jy"])
    table.write(tmp_path / "own.vot", format="votable")
    own = read_file(tmp_path / "own.vot", "c").catalogue
    assert own.flux_jy == pytest.approx([1000 * jansky])
    assert jansky_per(unit) == pytest.approx(jansky)


@pytest.mark.accepts(
    "Catalogues", "No unit, Kelvin, peaks", "refused until --flux-unit or --peak states it"
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (None, "--flux-unit"),
        ("K", "none of flux density"),
        ("furlong/fortnight", "not known"),
        ("MJY/BEAM", "may be mJy or MJy"),
        ("mJy/beam", "a peak"),
    ],
)
def test_flux_densities_are_not_guessed(unit: str | None, said: str, tmp_path: Path) -> None:
    table = Table({"RA": [10.0, 20.0], "DE": [5.0, -5.0], "F": [100.0, 200.0]})
    if unit:
        table["F"].unit = units.Unit(unit, parse_strict="silent")
    table.write(tmp_path / "c.vot", format="votable")
    with pytest.raises((UsageError, BadInputError), match=said) as refused:
        read_file(tmp_path / "c.vot", "c", _NAMED)
    assert "c.vot" in str(refused.value)
    if unit == "mJy/beam":
        # A stated scale does not make totals of peaks.
        for stated in ("mJy", "mJy/beam"):
            with pytest.raises(UsageError, match="per beam, a peak"):
                read_file(tmp_path / "c.vot", "c", _NAMED.model_copy(update={"flux_unit": stated}))
    stated = _NAMED.model_copy(update={"flux_unit": "mJy", "peak": True})
    assert read_file(tmp_path / "c.vot", "c", stated).catalogue.flux_jy.max() == 0.2


@pytest.mark.accepts(
    "Catalogues",
    "--frequency and --flux-unit with columns that are recognized",
    "hold; what is assumed is said",
)
def test_options_hold_for_columns_that_are_recognized(tmp_path: Path) -> None:
    (tmp_path / "racs.csv").write_text("ra_deg,dec_deg,flux_jy\n10,16,1000\n20,16,500\n")
    done = CliRunner().invoke(
        app,
        f"catalog import {tmp_path / 'racs.csv'} --name racs --frequency 887.5 --flux-unit mJy "
        f"--root {tmp_path}".split(),
    )
    assert done.exit_code == 0, done.output
    assert "2 sources at 887.5 MHz" in done.output
    stored = catalogues.load(tmp_path, "racs")
    assert stored.frequency_hz == 887.5e6
    assert sorted(stored.flux_jy) == [0.5, 1.0]
    done = CliRunner().invoke(
        app, f"catalog import {tmp_path / 'racs.csv'} --name b --root {tmp_path}".split()
    )
    assert "taken to be at 1400 MHz; --frequency states another" in done.output


_ROWS = "10.5,16,1\n20.5,17,2\n"


@pytest.mark.accepts(
    "Catalogues",
    "Marks of byte order, comments, semicolons, tabs, blanks, Latin-1 (Excel, TOPCAT, NumPy)",
    "read",
)
@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfra_deg,dec_deg,flux_jy\n" + _ROWS.encode(),
        ("ra_deg,dec_deg,flux_jy\n" + _ROWS).encode("utf-16"),
        b"# made by hand\n#\nra_deg,dec_deg,flux_jy\n" + _ROWS.encode(),
        b"# made by hand\n# ra_deg,dec_deg,flux_jy\n" + _ROWS.encode(),
        b"ra_deg;dec_deg;flux_jy\r\n10.5;16;1\r\n20.5;17;2\r\n",
        b"ra_deg\tdec_deg\tflux_jy\n10.5\t16\t1\n20.5\t17\t2\n",
        b"ra_deg dec_deg   flux_jy\n10.5  16  1\n20.5  17  2\n",
        "name,ra_deg,dec_deg,flux_jy\nM\xf6bius,10.5,16,1\nB,20.5,17,2\n".encode("latin-1"),
        b"ra_deg,dec_deg,flux_jy\n10.5,16,1\n20.5,17,2\n,,\n--,null,N/A\n30,18,\n",
        b'"ra_deg","dec_deg","flux_jy"\n"10.5","16","1"\n"20.5","17","2"\n',
        b'name,ra_deg,dec_deg,flux_jy\n"a, b",10.5,16,1\nc,20.5,17,2\n',
    ],
)
def test_text_in_the_forms_that_people_have(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(content)
    found = read_file(tmp_path / "c.csv", "c").catalogue
    assert found.ra_deg.tolist() == [10.5, 20.5]
    assert found.dec_deg.tolist() == [16, 17]
    assert found.flux_jy.tolist() == [1, 2]


@pytest.mark.accepts(
    "Catalogues", "Sexagesimal positions, lines of units and dashes (VizieR)", "read"
)
def test_sexagesimal_positions_of_vizier(tmp_path: Path) -> None:
    (tmp_path / "nvss.tsv").write_text(
        "#RESOURCE=yCat\n#COOSYS\tJ2000:\teq_FK5 J2000\n\n"
        "RAJ2000\tDEJ2000\tS1.4\n"
        '"h:m:s"\t"d:m:s"\tmJy\n'
        "-----------\t-----------\t--------\n"
        "14 45 16.48\t+09 58 36.0\t  2400.5\n"
        "00 00 01.00\t-00 30 00.0\t    20.0\n"
    )
    options = ImportOptions(ra="RAJ2000", dec="DEJ2000", flux="S1.4")
    found = read_file(tmp_path / "nvss.tsv", "n", options)
    truth = SkyCoord(
        ["00 00 01.00 -00 30 00.0", "14 45 16.48 +09 58 36.0"], unit=("hourangle", "deg")
    )
    # FK5 and ICRS differ by some hundredths of an arcsecond.
    assert _separation_arcsec(found, SkyCoord(truth.ra, truth.dec, frame="fk5")) < 1e-3
    assert found.catalogue.flux_jy == pytest.approx([0.02, 2.4005])
    (tmp_path / "hms.csv").write_text("RA,DE,F\n10h20m30s,-5d30m,1\n12:00:00,5:00:00,1\n")
    stated = _NAMED.model_copy(update={"flux_unit": "Jy"})
    again = read_file(tmp_path / "hms.csv", "h", stated).catalogue
    assert again.ra_deg == pytest.approx([155.125, 180.0])
    assert again.dec_deg == pytest.approx([-5.5, 5.0])
    (tmp_path / "bad.csv").write_text("RA,DE,F\n10h20m30s,-5d30m,1\nNGC 5921,5:00:00,1\n")
    with pytest.raises(BadInputError, match=r"bad\.csv: row 2 of column RA is no angle: 'NGC 59"):
        read_file(tmp_path / "bad.csv", "h", stated)


@pytest.mark.accepts(
    "Catalogues",
    "Right ascensions without a unit that look like hours",
    "refused until --position-unit states it",
)
def test_hours_without_a_unit_are_asked_about(tmp_path: Path) -> None:
    hours = np.linspace(0.2, 23.8, 40)
    rows = "".join(f"{h:.4f},{d},1\n" for d, h in enumerate(hours))
    (tmp_path / "own.csv").write_text("ra_deg,dec_deg,flux_jy\n" + rows)
    assert read_file(tmp_path / "own.csv", "h").catalogue.ra_deg.max() < 24, "by their name"
    (tmp_path / "hyg.csv").write_text("RA,DE,F\n" + rows)
    named = _NAMED.model_copy(update={"flux_unit": "Jy"})
    with pytest.raises(UsageError, match=r"hyg\.csv: column RA .* --position-unit hours"):
        read_file(tmp_path / "hyg.csv", "h", named)
    hourly = named.model_copy(update={"position_unit": "hours"})
    found = read_file(tmp_path / "hyg.csv", "h", hourly).catalogue
    assert found.ra_deg == pytest.approx(np.round(hours, 4) * 15)
    in_degrees = named.model_copy(update={"position_unit": "deg"})
    found = read_file(tmp_path / "hyg.csv", "h", in_degrees).catalogue
    assert found.ra_deg == pytest.approx(np.round(hours, 4))


@pytest.mark.accepts("Catalogues", "One source in several rows", "counts once")
def test_a_source_listed_twice_counts_once(sky: SkyCoord, tmp_path: Path) -> None:
    table = _table(sky)
    table.write(tmp_path / "once.vot", format="votable")
    near = table.copy()
    near["DE"] = sky.dec + 0.6 * units.arcsec
    near["F"] = np.full(len(sky), 1.1) * units.Jy
    from astropy.table import vstack

    vstack([table, near]).write(tmp_path / "twice.vot", format="votable")
    once, twice = (read_file(tmp_path / f"{n}.vot", "c", _NAMED) for n in ("once", "twice"))
    assert twice.notes[-1] == f"{len(sky)} rows left out that repeat a source within 1 arcsec"
    assert np.array_equal(once.catalogue.ra_deg, twice.catalogue.ra_deg)
    assert np.array_equal(once.catalogue.flux_jy, twice.catalogue.flux_jy)


@pytest.mark.accepts(
    "Catalogues", "Flags of VLASS, -999, masked and negative values", "left out and counted"
)
def test_flags_and_blanks_leave_rows_out_with_a_count(tmp_path: Path) -> None:
    table = Table(
        {
            "RA": [10.0, 20.0, 30.0, -999.0, 50.0, 60.0, 70.0],
            "DE": [5.0] * 7,
            "F": MaskedColumn([1.0] * 7, mask=[0, 0, 0, 0, 1, 0, 0], unit="Jy"),
            "Duplicate_flag": [0, 1, 2, 0, 0, 0, 0],
            "Quality_flag": [0, 0, 0, 0, 0, 4, 0],
        }
    )
    table["F"][6] = -3.0
    table.write(tmp_path / "vlass.ecsv", format="ascii.ecsv")
    found = read_file(tmp_path / "vlass.ecsv", "v", _NAMED)
    assert sorted(found.catalogue.ra_deg) == [10.0, 20.0]
    assert set(found.notes) == {
        "1 row left out that is flagged by Duplicate_flag",
        "1 row left out that is flagged by Quality_flag",
        "1 row left out that has no position",
        "2 rows left out that have no positive flux density",
        "taken to be at 1400 MHz; --frequency states another",
    }


@pytest.mark.accepts(
    "Catalogues", "Several tables in a FITS file", "the one with the columns is taken"
)
def test_the_table_with_the_columns_is_taken(sky: SkyCoord, tmp_path: Path) -> None:
    other = fits.table_to_hdu(Table({"x": [1.0]}))
    wanted = fits.table_to_hdu(_table(sky))
    fits.HDUList([fits.PrimaryHDU(), other, wanted]).writeto(tmp_path / "c.fits")
    assert len(read_file(tmp_path / "c.fits", "c", _NAMED).catalogue) == len(sky)
    fits.HDUList([fits.PrimaryHDU(), wanted, wanted.copy()]).writeto(tmp_path / "two.fits")
    with pytest.raises(BadInputError, match=r"two\.fits: holds 2 tables"):
        read_file(tmp_path / "two.fits", "c", _NAMED)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _garbage(path: Path) -> None:
    path.write_bytes(b"\x00\x01\x02" * 1000)


@pytest.mark.accepts("Catalogues", "Damaged files", "refused")
@pytest.mark.parametrize(
    ("form", "damage"),
    [
        *((form, _garbage) for form in ("fits", "vot", "ecsv", "parquet", "csv")),
        # What is left of a text is a text.
        *((form, _cut) for form in ("fits", "vot", "parquet")),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    sky: SkyCoord, form: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / f"c.{form}"
    many = _table(SkyCoord(np.tile(sky.ra, 20), np.tile(sky.dec, 20)))
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({c: np.asarray(many[c], float) for c in many.colnames}), path)
    else:
        kind = {"vot": "votable", "ecsv": "ascii.ecsv", "csv": "ascii.csv"}.get(form, form)
        many.write(path, format=kind)
    damage(path)
    stated = _NAMED.model_copy(update={"flux_unit": "Jy"})
    with pytest.raises(BadInputError) as refused:
        read_file(path, "c", stated)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_requests_that_are_wrong_say_what_is_right(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("a,b,c\n1,2,3\n")
    with pytest.raises(BadInputError, match="are of no known catalogue; say which to use with"):
        read_file(tmp_path / "c.csv", "c")
    with pytest.raises(BadInputError, match=r"has no column RA, DE, F; it has a, b, c"):
        read_file(tmp_path / "c.csv", "c", _NAMED)
    with pytest.raises(UsageError, match="give all of --ra, --dec and --flux"):
        read_file(tmp_path / "c.csv", "c", ImportOptions(ra="a"))
    with pytest.raises(UsageError, match="--major, --minor and --angle together"):
        read_file(tmp_path / "c.csv", "c", ImportOptions(major="a"))
    with pytest.raises(UsageError, match="use letters"):
        read_file(tmp_path / "c.csv", "c d")
    with pytest.raises(UsageError, match="is no table by its name"):
        read_file(tmp_path / "c.png", "c")
    with pytest.raises(BadInputError, match="there is no such file"):
        read_file(tmp_path / "d.csv", "c")
    (tmp_path / "e.csv").write_text("RA,DE,F,F\n1,2,3,4\n")
    with pytest.raises(BadInputError, match="has several columns F"):
        read_file(tmp_path / "e.csv", "c", _NAMED)


def test_nearest_rows_are_kept_in_order() -> None:
    ra = np.array([10.0, 10.0, 10.0, 200.0])
    dec = np.array([0.0, 0.9, 1.8, 50.0]) / 3600
    # The second repeats the first; the third is apart from what is kept.
    assert distinct(ra, dec).tolist() == [0, 2, 3]


_FLUX_UNITS = {"Jy": 1.0, "mJy": 1e-3, "uJy": 1e-6, "MJy": 1e6, "W / (m2 Hz)": 1e26}


@pytest.mark.accepts(
    "Catalogues",
    "FITS, VOTable, ECSV, CSV, TSV with any unit, frame, type and order of columns",
    "read",
)
@thorough
@hypothesis.given(
    n=st.integers(1, 30),
    number=st.integers(0, 2**32 - 1),
    frame=st.sampled_from(["icrs", "fk5", "fk4", "galactic"]),
    unit=st.sampled_from(["deg", "rad", "arcmin", "hourangle", "text", "none"]),
    flux_unit=st.sampled_from(sorted(_FLUX_UNITS)),
    kind=st.sampled_from(["float64", "float32", "int32"]),
    form=st.sampled_from(["fits", "ecsv", "csv", "tsv", "votable"]),
    blank=st.booleans(),
    order=st.permutations(["RA", "DE", "F", "Name", "Other"]),
)
def test_fuzzed_catalogues_are_what_astropy_says(
    tmp_path: Path,
    n: int,
    number: int,
    frame: str,
    unit: str,
    flux_unit: str,
    kind: str,
    form: str,
    blank: bool,
    order: list[str],
) -> None:
    rng = np.random.default_rng(number)
    longitude, latitude = rng.uniform(0, 360, n), rng.uniform(-89, 89, n)
    jansky = rng.integers(1, 1000, n).astype(kind)
    if unit == "hourangle" and form in ("fits", "votable"):
        unit = "deg"
    table = Table()
    if unit == "text":
        written = SkyCoord(longitude, latitude, unit="deg")
        table["RA"] = written.ra.to_string("hourangle", sep=":", precision=6)
        table["DE"] = written.dec.to_string("deg", sep=":", precision=6)
    else:
        per = "deg" if unit == "none" else unit
        table["RA"] = (longitude * units.deg).to_value(per)
        table["DE"] = (latitude * units.deg).to_value("deg" if per == "hourangle" else per)
        if unit != "none":
            table["RA"].unit, table["DE"].unit = per, "deg" if per == "hourangle" else per
    table["F"] = MaskedColumn(jansky, mask=np.arange(n) == (0 if blank else -1))
    table["F"].unit = flux_unit
    table["Name"] = [f"J{i}" for i in range(n)]
    table["Other"] = rng.normal(size=n)
    table = table[order]
    path = tmp_path / f"c.{form if form != 'votable' else 'xml'}"
    path.unlink(missing_ok=True)
    options = {"frame": frame}
    if form in ("csv", "tsv"):
        # Text has no units: the user states them.
        if unit in ("arcmin", "hourangle"):
            return
        options |= {"flux_unit": flux_unit, "position_unit": "rad" if unit == "rad" else "deg"}
        if unit == "text":
            del options["position_unit"]
        table.write(path, format="ascii.csv", delimiter="\t" if form == "tsv" else ",")
    else:
        table.write(path, format={"ecsv": "ascii.ecsv"}.get(form, form))
        if unit == "none":
            options["position_unit"] = "deg"
    truth = SkyCoord(longitude, latitude, unit="deg", frame=frame)
    good = np.ones(n, bool)
    good[0] = not blank
    if not good.any():
        with pytest.raises(BadInputError, match="no row has a position and a positive flux"):
            read_file(path, "c", _NAMED.model_copy(update=options))
        return
    found = read_file(path, "c", ImportOptions(ra="RA", dec="DE", flux="F", **options))
    assert len(found.catalogue) == good.sum()
    assert _separation_arcsec(found, truth[good]) < 1e-2
    order_of = np.argsort(truth[good].icrs.dec.deg)
    expected = jansky[good].astype(float)[order_of] * _FLUX_UNITS[flux_unit]
    assert np.allclose(found.catalogue.flux_jy, expected, rtol=1e-6)
