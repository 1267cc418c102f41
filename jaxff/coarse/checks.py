"""Whether forces can be those of the positions: their unit and sign, from equipartition."""

import warnings
from typing import Any

import numpy as np

from jaxff import units
from jaxff.system import System
from jaxff.types import Float, Int

__all__ = ["check_units", "equipartition_ratio"]

_MISTAKES = {
    -1.0: "these are gradients, not forces: change their sign",
    1.0 / units.KCAL_PER_MOL: "they look like kcal/mol/Å",
    1.0 / units.KJ_PER_MOL: "they look like kJ/mol/Å, or positions in nm with kJ/mol/nm",
    10.0 / units.KJ_PER_MOL: "they look like kJ/mol/nm",
    units.BOHR / units.HARTREE: "they look like hartree/bohr",
    1e3: "they look like meV/Å",
    0.1: "positions look like nm",
}
"""What a ratio that is not 1 says."""

_WITHIN = 2.0
"""Factor within which a ratio counts as one of these: constraints and a bias change it less."""

_ERRORS = 3.0
"""Standard errors that noise of the forces may add."""

_RIGID = 1e-3
"""Relative standard deviation up to which a distance counts as constrained."""


def equipartition_ratio(
    systems: System, forces: Any, temperature: float, weights: Any = None
) -> tuple[float, float]:
    r"""How forces answer stretches of stiff distances, over what equipartition asks, and its error.

    For bead j, the distance l to the bead i that keeps it best, and the unit vector u from i to j,

    .. math:: -\langle (l - \bar l)\, u\cdot F_j \rangle =
       k_BT\, \langle 1 + 2 (l - \bar l)/l \rangle

    at equilibrium, whatever the potential and however noisy the forces (integration by parts over
    the place of j). The ratio of the two sides, each summed over beads, is 1. As the distance is
    stiff, other forces add little noise: that of one frame is about 1.5, of the virial 8.

    Args:
        systems: Stack of frames, Å.
        forces: ``(frames, beads, 3)``, eV/Å.
        temperature: K.
        weights: Of frames of a biased trajectory whose forces are without the bias.

    Raises:
        ValueError: If shapes differ, there is a single bead or frame, weights are no weights, or no
            distance changes.
    """
    positions, forces = np.asarray(systems.positions), np.asarray(forces)
    if positions.shape != forces.shape or positions.ndim != 3 or min(positions.shape[:2]) < 2:
        raise ValueError(
            "forces must have the shape of the positions, (frames, beads, 3) with 2 or more frames "
            f"and beads: got {forces.shape} and {positions.shape}"
        )
    weights = np.ones(len(forces)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != (len(forces),) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(f"weights must be {len(forces)} numbers, none negative and not all zero")
    pairs = _stiff_pairs(positions)
    apart = positions[:, pairs[:, 1]] - positions[:, pairs[:, 0]]
    lengths = np.linalg.norm(apart, axis=-1)
    stretch = lengths - np.average(lengths, axis=0, weights=weights)
    answer = -np.sum(stretch / lengths * np.sum(apart * forces[:, pairs[:, 1]], axis=-1), axis=1)
    asked = units.BOLTZMANN * temperature * np.sum(1.0 + 2.0 * stretch / lengths, axis=1)
    total = weights @ asked
    ratio = weights @ answer / total
    error = np.sqrt(np.sum((weights * (answer - ratio * asked)) ** 2)) / total
    return float(ratio), float(error)


def _stiff_pairs(positions: Float[np.ndarray, "frames beads 3"]) -> Int[np.ndarray, "pairs 2"]:
    """For each bead the one whose distance to it changes least, unless it does not change."""
    some = positions[np.linspace(0, len(positions) - 1, min(len(positions), 500)).astype(int)]
    pairs = []
    for bead in range(positions.shape[1]):
        lengths = np.linalg.norm(some - some[:, bead : bead + 1], axis=-1)
        lengths[:, bead] = np.nan
        spread = lengths.std(axis=0) / lengths.mean(axis=0)
        spread[~(spread > _RIGID)] = np.inf
        if np.isfinite(spread).any():
            pairs.append((int(np.argmin(spread)), bead))
    if not pairs:
        raise ValueError("no distance between beads changes along the trajectory")
    return np.array(pairs)


def check_units(
    systems: System, forces: Any, temperature: float, weights: Any = None
) -> tuple[float, float]:
    """Refuse forces whose unit or sign is not that of eV/Å; see :func:`equipartition_ratio`.

    Warns where frames are too few to tell.

    Returns:
        The ratio and its standard error.

    Raises:
        ValueError: If the ratio is off by more than a factor of two and three standard errors, with
            what it looks like.
    """
    ratio, error = equipartition_ratio(systems, forces, temperature, weights)
    if ratio + _ERRORS * error > 1.0 / _WITHIN and ratio - _ERRORS * error < _WITHIN:
        if error > 0.5:
            warnings.warn(
                f"{len(systems.positions)} frames are too few to tell the unit and sign of the "
                f"forces: the ratio of equipartition is {ratio:.2g} ± {error:.1g}, expected 1",
                stacklevel=2,
            )
        return ratio, error
    close = {m: abs(np.log(ratio / m)) for m in _MISTAKES if ratio * m > 0}
    best = min(close, key=lambda m: close[m]) if close else 0.0
    guess = "their unit or the temperature is wrong, or the trajectory is not at equilibrium"
    if close and close[best] < np.log(_WITHIN):
        guess = _MISTAKES[best]
    raise ValueError(
        f"forces do not fit the positions at {temperature:g} K in eV/Å and Å: to stretches of "
        f"stiff distances they answer {ratio:.3g} ± {error:.1g} times as equipartition asks, "
        f"expected 1; {guess}"
    )
