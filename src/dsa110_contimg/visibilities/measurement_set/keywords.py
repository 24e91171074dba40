"""Keywords that this project adds to the main table of a Measurement Set."""

import dataclasses
import json
from typing import TYPE_CHECKING

from dsa110_contimg.sky.beam_shape import NOMINAL_BEAM, AntennaBeams, BeamShape

if TYPE_CHECKING:
    from casacore.tables import table

DRIFT_KEYWORD = "DRIFT_POINTING"
"""Keyword of the main table: rows of time (MJD s), right ascension, declination (ICRS, rad) of the
dish axis. It is no POINTING table because xradio's schema refuses its own reading of one."""
BEAM_KEYWORD = "PRIMARY_BEAM"
"""Keyword of the main table where the beam was measured: width over that of the dish, and where its
centre is from the dish axis, east and north (rad)."""
UNMODELLED_KEYWORD = "UNMODELLED_JY"
"""Keyword of the main table where the sky without a model was measured: `unmodelled_jy` of
`Visibilities`."""


def beam(ms: "table") -> BeamShape:
    """The primary beam that the data were calibrated with."""
    if BEAM_KEYWORD not in ms.keywordnames():
        return NOMINAL_BEAM
    shape = json.loads(ms.getkeyword(BEAM_KEYWORD))
    if shape["antennas"] is not None:
        columns = {name: tuple(values) for name, values in shape["antennas"].items()}
        shape["antennas"] = AntennaBeams(**columns)
    return BeamShape(**shape)


def unmodelled_jy(ms: "table") -> float:
    """`Visibilities.unmodelled_jy`."""
    if UNMODELLED_KEYWORD not in ms.keywordnames():
        return 0.0
    return float(ms.getkeyword(UNMODELLED_KEYWORD))


def put_findings(ms: "table", beam: BeamShape, unmodelled_jy: float) -> None:
    """Write what was found out about beam and sky, in place of what was known before."""
    known = ms.keywordnames()
    if beam != NOMINAL_BEAM:
        ms.putkeyword(BEAM_KEYWORD, json.dumps(dataclasses.asdict(beam)))
    elif BEAM_KEYWORD in known:
        ms.removekeyword(BEAM_KEYWORD)
    if unmodelled_jy:
        ms.putkeyword(UNMODELLED_KEYWORD, unmodelled_jy)
    elif UNMODELLED_KEYWORD in known:
        ms.removekeyword(UNMODELLED_KEYWORD)
