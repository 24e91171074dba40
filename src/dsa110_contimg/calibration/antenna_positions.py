"""Find antennas that do not stand where the files say.

An antenna that stands ``d`` from its listed place receives a source ``d . (s - c) / c_light``
earlier than assumed, s being the source's direction and c the phase centre. Its gain takes what all
sources have in common; what is left is a phase that grows with the distance from the phase centre,
east and north by themselves (Thompson, Moran and Swenson 2017, section 4.4). A displacement along
the line of sight does no harm and cannot be seen.
"""

import numpy as np

from dsa110_contimg.calibration import predict
from dsa110_contimg.calibration.antenna_state import Misplaced
from dsa110_contimg.calibration.baseline_sums import sum_baselines
from dsa110_contimg.constants import SPEED_OF_LIGHT_M_S
from dsa110_contimg.sky import astrometry
from dsa110_contimg.sky.model import SkyModel
from dsa110_contimg.visibilities.data import Visibilities

_PRIOR = np.array([10.0, 10.0, 0.2, 0.2, 0.2, 0.1, 0.2])
"""Prior standard errors of the displacement east and north (m), of slope and bend of the phase in
time and of its slope in frequency (in which a gain follows the sources' mean), of gain and phase.
"""
_SIGNIFICANT = 6.0
_MIN_M = 0.1
"""Turns the phase of a source at half power by 4 degrees."""
_STRONGEST = 64
_ROUNDS = 12
_DECIMALS = 3


def find_misplaced(vis: Visibilities, sky: np.ndarray, model: SkyModel) -> tuple[Misplaced, ...]:
    """Find antennas whose phases differ from source to source as those of another place do.

    Parameters
    ----------
    vis : Visibilities
        Calibrated.
    sky : ndarray of complex64, shape (nrow, nchan)
        Model of all sources.
    model : SkyModel
        Its strongest sources tell the places.
    """
    here = vis.antennas_present()
    order = np.argsort(-predict.mean_apparent_jy(vis, model), kind="stable")
    strongest = model.select(order[:_STRONGEST])
    place, error = np.zeros((here.size, 2)), np.zeros(here.size)
    wrong = np.zeros(here.size, bool)
    gains, others, moved = None, None, sky
    for _ in range(_ROUNDS):
        found = _solve(vis, moved, _terms(vis, strongest, gains), here)
        if found is None:
            return ()
        step, error = found
        place = np.where(wrong[:, None], place, 0.0) + step
        place -= np.median(place, axis=0)
        distance = np.hypot(*place.T)
        wrong = (distance > _SIGNIFICANT * error) & (distance > _MIN_M)
        if not wrong.any() or np.abs(step[wrong]).max() < 0.3 * error.min():
            break
        # The phase of a large displacement is not linear in it.
        if others is None:
            others = sky - predict.predict(vis, strongest)
        gains = _gains_of(vis, strongest, here, np.where(wrong[:, None], place, 0.0))
        moved = others + _predict(vis, strongest, gains)
    # The last bits of matrix products depend on the number of threads.
    return tuple(
        Misplaced(vis.array.names[here[k]], *np.round([*place[k], error[k]], _DECIMALS).tolist())
        for k in np.flatnonzero(wrong)
    )


def _solve(
    vis: Visibilities, sky: np.ndarray, terms: list[np.ndarray], here: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Displacements (m) relative to the array's, shape (nantenna, 2), and their standard errors.

    None if there are no data to solve.
    """
    middle, half = 0.5 * (vis.times_jd.size - 1), max(1.0, 0.5 * (vis.times_jd.size - 1))
    since = ((vis.time_index - middle) / half).astype(np.float32)[:, None]
    offset_hz = vis.frequencies_hz - vis.frequencies_hz.mean()
    along = (offset_hz / max(float(np.abs(offset_hz).max()), 1.0)).astype(np.float32)
    slopes = [1j * sky * since, 1j * sky * since**2, 1j * sky * along]
    sums = sum_baselines(vis, sky, [*terms, *slopes], [-1.0] * 5, here)
    if sums.noise <= 0:
        return None
    n, nterm = here.size, _PRIOR.size
    normal, right = sums.equations(n)
    prior, noise = np.tile(_PRIOR**-2, n), sums.noise
    for _ in range(2):
        covariance = np.linalg.inv(normal / noise + np.diag(prior))
        found = (covariance @ right).reshape(n, nterm) / noise
        noise = sums.noise * sums.excess(found, sums.noise)
    # All antennas displaced alike are a sky displaced, which is not looked for.
    relative = np.eye(n) - 1 / n
    parts = covariance.reshape(n, nterm, n, nterm)
    variances = [np.diag(relative @ parts[:, k, :, k] @ relative) for k in range(2)]
    return found[:, :2], np.sqrt(np.max(variances, axis=0))


def _gains_of(
    vis: Visibilities, model: SkyModel, here: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """Gains of displaced antennas towards each source, shape (ntime, nsource, nantenna)."""
    lm = astrometry.direction_cosines(model.directions, *vis.phase_centre_rad)[:, :2]
    displaced = np.zeros((len(vis.array.names), 2))
    displaced[here] = place
    per_m = 2 * np.pi * float(vis.frequencies_hz.mean()) / SPEED_OF_LIGHT_M_S
    gains = np.exp(1j * per_m * lm @ displaced.T)
    return np.broadcast_to(gains, (vis.times_jd.size, *gains.shape))


def _predict(
    vis: Visibilities, model: SkyModel, gains: np.ndarray | None, per_hz: np.ndarray | None = None
) -> np.ndarray:
    """Visibilities of a model, each source times a gain and, if given, a factor times frequency."""
    apparent = model.apparent_jy(vis.beam_axis, vis.frequencies_hz, vis.dish_m)
    if per_hz is not None:
        apparent = apparent * (per_hz[:, None] * vis.frequencies_hz)
    own = predict.antenna_gains(vis, model)
    if own is not None:
        gains = own if gains is None else gains * own
    return predict.predict_apparent(vis, model.directions, apparent, gains, shapes=model.shapes)


def _terms(vis: Visibilities, model: SkyModel, gains: np.ndarray | None) -> list[np.ndarray]:
    """Visibilities of a metre east, and of one north, of the first antenna of each baseline."""
    lm = astrometry.direction_cosines(model.directions, *vis.phase_centre_rad)[:, :2]
    return [
        1j * _predict(vis, model, gains, 2 * np.pi * lm[:, k] / SPEED_OF_LIGHT_M_S)
        for k in range(2)
    ]
