"""Whether forces can be those of the positions: their unit and sign, from the virial."""

from typing import Any

import numpy as np

from jaxff import units
from jaxff.system import System

__all__ = ["check_units", "virial_ratio"]

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


def virial_ratio(systems: System, forces: Any, temperature: float) -> tuple[float, float]:
    r"""Mean of :math:`-\sum_I (R_I - \bar R)\cdot F_I` over :math:`3(n-1)k_BT`, standard error.

    The mean is 1 for n beads of a bound molecule at equilibrium, whatever the potential and however
    noisy the forces (equipartition: integration by parts over relative coordinates).

    Args:
        systems: Stack of frames, Å.
        forces: ``(frames, beads, 3)``, eV/Å.
        temperature: K.

    Raises:
        ValueError: If shapes differ, or there is a single bead or frame.
    """
    positions, forces = np.asarray(systems.positions), np.asarray(forces)
    if positions.shape != forces.shape or positions.ndim != 3 or min(positions.shape[:2]) < 2:
        raise ValueError(
            "forces must have the shape of the positions, (frames, beads, 3) with 2 or more frames "
            f"and beads: got {forces.shape} and {positions.shape}"
        )
    relative = positions - positions.mean(axis=1, keepdims=True)
    degrees = 3 * (positions.shape[1] - 1)
    ratios = -np.sum(relative * forces, axis=(1, 2)) / (degrees * units.BOLTZMANN * temperature)
    return float(ratios.mean()), float(ratios.std(ddof=1) / np.sqrt(len(ratios)))


def check_units(systems: System, forces: Any, temperature: float) -> float:
    """Refuse forces whose unit or sign is not that of eV/Å; see :func:`virial_ratio`.

    Returns:
        The ratio.

    Raises:
        ValueError: If the ratio is off by more than a factor of two and three standard errors, with
            what it looks like.
    """
    ratio, error = virial_ratio(systems, forces, temperature)
    if ratio + _ERRORS * error > 1.0 / _WITHIN and ratio - _ERRORS * error < _WITHIN:
        return ratio
    close = {m: abs(np.log(ratio / m)) for m in _MISTAKES if ratio * m > 0}
    best = min(close, key=lambda m: close[m]) if close else 0.0
    guess = "their unit or the temperature is wrong, or the trajectory is not at equilibrium"
    if close and close[best] < np.log(_WITHIN):
        guess = _MISTAKES[best]
    raise ValueError(
        f"forces do not fit the positions at {temperature:g} K in eV/Å and Å: the virial is "
        f"{ratio:.3g} ± {error:.1g} times that of equipartition, expected 1; {guess}"
    )
