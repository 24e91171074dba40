"""Times as people write them, compared with astropy's own reading."""

from datetime import UTC, datetime, timedelta, timezone

import hypothesis
import pytest
from astropy.time import Time
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from dsa110_contimg.options import UnixTime
from dsa110_contimg.times import unix_s
from fuzzing import thorough


@pytest.mark.parametrize(
    ("written", "truth"),
    [
        ("2026-01-25T22:00:00", Time("2026-01-25T22:00:00")),
        ("2026-01-25 22:00:00.25", Time("2026-01-25T22:00:00.25")),
        ("2026-01-25T22:00:00Z", Time("2026-01-25T22:00:00")),
        ("2026-01-25T22:00:00+02:00", Time("2026-01-25T20:00:00")),
        ("2026-01-25", Time("2026-01-25")),
        ("20260125", Time("2026-01-25")),
        ("20260125T220000", Time("2026-01-25T22:00:00")),
        ("MJD 61065.9", Time(61065.9, format="mjd")),
        ("mjd61065", Time(61065, format="mjd")),
        ("1769378400", Time(1769378400, format="unix")),
        (1769378400, Time(1769378400, format="unix")),
        (1769378400.5, Time(1769378400.5, format="unix")),
        # Unix seconds whose digits are a date and an hour too.
        ("2026012512", Time(2026012512, format="unix")),
        (datetime(2026, 1, 25, 22, tzinfo=UTC), Time("2026-01-25T22:00:00")),
        (datetime(2026, 1, 25, 22), Time("2026-01-25T22:00:00")),
    ],
)
def test_times_are_what_astropy_says(written: str | float | datetime, truth: Time) -> None:
    assert unix_s(written) == pytest.approx(truth.unix, abs=1e-3)
    assert TypeAdapter(UnixTime).validate_python(written) == pytest.approx(truth.unix, abs=1e-3)


_NONE = (
    "61065.9",
    61065.9,
    "2461066.4",
    "2026",
    2026,
    "nan",
    float("nan"),
    "inf",
    "-1",
    0,
    "yesterday",
    "20261301",
    "2026-02-30",
    "1970-01-01",
    "MJD 20260125",
    "",
    "25.1.2026",
)


@pytest.mark.accepts("Times", "MJD or Julian dates without their name, years, NaN", "refused")
@pytest.mark.parametrize("written", _NONE)
def test_what_is_no_time_is_refused_with_the_forms_that_are(written: str | float) -> None:
    with pytest.raises(ValueError, match=r"give an ISO time such as .*, MJD 61065.9, or Unix"):
        unix_s(written)
    with pytest.raises(ValidationError):
        TypeAdapter(UnixTime).validate_python(written)


@pytest.mark.accepts(
    "Times", "ISO in any form and zone, MJD with its name, Unix seconds, YYYYMMDD", "read"
)
@pytest.mark.filterwarnings("ignore:.*dubious year")
@thorough
@hypothesis.given(
    # Later than the last leap second: astropy's Unix time is stretched on their days.
    moment=st.datetimes(datetime(2017, 1, 3), datetime(2099, 1, 1)),
    hours=st.integers(-12, 14),
    form=st.sampled_from(["iso", "basic", "space", "zone", "mjd", "unix", "date"]),
)
def test_fuzzed_times_are_what_astropy_says(moment: datetime, hours: int, form: str) -> None:
    truth = Time(moment, scale="utc")
    zone = timezone(timedelta(hours=hours))
    written, truth = {
        "iso": (moment.isoformat(), truth),
        "basic": (moment.strftime("%Y%m%dT%H%M%S"), Time(moment.replace(microsecond=0))),
        "space": (f" {moment.isoformat(' ')} ", truth),
        # Hours of the clock, which know no leap second.
        "zone": (moment.replace(tzinfo=zone).isoformat(), Time(moment - timedelta(hours=hours))),
        "mjd": (f"MJD {truth.mjd:.10f}", truth),
        "unix": (repr(float(truth.unix)), truth),
        "date": (moment.strftime("%Y%m%d"), Time(moment.strftime("%Y-%m-%d"))),
    }[form]
    assert unix_s(written) == pytest.approx(truth.unix, abs=1e-3)


@thorough
@hypothesis.given(st.one_of(st.text(), st.floats(), st.integers(), st.from_regex(r"[-+\d:T. ]+")))
def test_whatever_is_given_is_a_time_of_this_telescope_or_refused(given: str | float) -> None:
    try:
        found = unix_s(given)
    except ValueError:
        return
    assert 1e9 <= found <= 4.1e9
