"""Measures of variability of sources, and whose behaviour is new."""

import numpy as np

from dsa110_contimg.registry import light_curves as rows
from dsa110_contimg.registry.database import Registry
from dsa110_contimg.registry.models import Source
from dsa110_contimg.registry.sources import sources_by_number
from dsa110_contimg.sources.behaviour import Behaviour
from dsa110_contimg.sources.variability import Variability, variability

_REMARKABLE = (Behaviour.VARIABLE, Behaviour.TRANSIENT, Behaviour.VANISHED)


def judge(registry: Registry, ids: np.ndarray) -> list[str]:
    """Measure the variability of sources; returns a line for each whose behaviour is new."""
    with registry.read() as session:
        curves = rows.light_curves(session, ids.tolist())
    none = np.zeros(0)
    measured = {
        i: variability(curves[i].flux_jy, curves[i].error_jy)
        if i in curves
        else variability(none, none)
        for i in ids.tolist()
    }
    with registry.write() as session:
        return [
            line
            for row in sources_by_number(session, measured)
            for line in _update(row, measured[row.id])
        ]


def _update(row: Source, found: Variability) -> list[str]:
    """Put measures into a source's row."""
    lines = []
    behaviour = found.behaviour(catalogued=row.catalogue_jy is not None)
    if behaviour != row.behaviour and behaviour in _REMARKABLE:
        lines.append(
            f"{row.name} is {behaviour}: modulation {found.modulation:.2f}, eta "
            f"{found.eta:.1f} over {found.n} epochs"
        )
    if found.dip and not row.dip:
        lines.append(f"{row.name} dips as in an extreme scattering event")
    row.behaviour, row.n_epochs, row.dip = behaviour, found.n, found.dip
    row.mean_jy, row.max_snr = _known(found.mean_jy), _known(found.max_snr)
    row.modulation, row.eta = _known(found.modulation), _known(found.eta)
    return lines


def _known(value: float) -> float | None:
    """A number, or nothing where there is none."""
    return value if np.isfinite(value) else None
