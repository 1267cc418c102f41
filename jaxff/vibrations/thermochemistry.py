"""Thermochemistry of harmonic vibrations, rigid rotations and an ideal gas.

Reference:
    McQuarrie, Statistical Mechanics, Harper & Row 1976, chapters 5, 6 and 8.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff import units
from jaxff.types import Float
from jaxff.vibrations.normal_modes import NormalModes

__all__ = ["Thermochemistry", "harmonic", "ideal_gas"]


@dataclass(frozen=True)
class Thermochemistry:
    """Thermodynamic functions of one molecule, in eV and eV/K.

    Attributes:
        temperature: K.
        pressure: Pa; ``None`` where there is no gas.
        energy: Potential energy of the minimum.
        zero_point_energy: Of the vibrations.
        internal_energies: Thermal contributions by name (``translation``, ``rotation``,
            ``vibration``, ``electronic``), without the zero-point energy.
        entropies: Contributions by the same names.
        heat_capacities: Contributions to the heat capacity at constant volume.
    """

    temperature: float
    pressure: float | None
    energy: float
    zero_point_energy: float
    internal_energies: dict[str, float]
    entropies: dict[str, float]
    heat_capacities: dict[str, float]

    @property
    def internal_energy(self) -> float:
        """U, with potential and zero-point energy."""
        return self.energy + self.zero_point_energy + sum(self.internal_energies.values())

    @property
    def enthalpy(self) -> float:
        """H = U + k T of an ideal gas; U where there is no gas."""
        volume_work = 0.0 if self.pressure is None else units.BOLTZMANN * self.temperature
        return self.internal_energy + volume_work

    @property
    def entropy(self) -> float:
        """S in eV/K."""
        return sum(self.entropies.values())

    @property
    def heat_capacity(self) -> float:
        """At constant volume, in eV/K."""
        return sum(self.heat_capacities.values())

    @property
    def gibbs_energy(self) -> float:
        """G = H - T S of an ideal gas."""
        return self.enthalpy - self.temperature * self.entropy

    @property
    def helmholtz_energy(self) -> float:
        """F = U - T S."""
        return self.internal_energy - self.temperature * self.entropy


def harmonic(modes: NormalModes, temperature: float, *, energy: float = 0.0) -> Thermochemistry:
    """Vibrations alone: a molecule on a surface, or the phonons of a cell.

    Args:
        modes: From :func:`jaxff.vibrations.normal_modes`, at a minimum.
        temperature: K.
        energy: Potential energy of the minimum in eV.

    Raises:
        ValueError: If a mode is imaginary or without a restoring force, or the temperature not
            positive.
    """
    _check_temperature(temperature)
    internal, entropy, capacity = _vibration(modes, temperature)
    return Thermochemistry(
        float(temperature),
        None,
        float(energy),
        modes.zero_point_energy,
        {"vibration": internal},
        {"vibration": entropy},
        {"vibration": capacity},
    )


def ideal_gas(
    modes: NormalModes,
    positions: Any,
    temperature: float,
    pressure: float = 101325.0,
    *,
    symmetry_number: int = 1,
    multiplicity: int = 1,
    energy: float = 0.0,
) -> Thermochemistry:
    """A molecule in an ideal gas: rigid rotor and harmonic oscillators.

    Args:
        modes: From :func:`jaxff.vibrations.normal_modes` with positions, at a minimum.
        positions: Geometry in Å, for the moments of inertia.
        temperature: K.
        pressure: Pa.
        symmetry_number: Number of rotations that map the molecule onto itself (2 for water, 12 for
            methane).
        multiplicity: Spin multiplicity of the electronic ground state.
        energy: Potential energy of the minimum in eV.

    Raises:
        ValueError: If a mode is imaginary or without a restoring force, or a number not positive.
    """
    _check_temperature(temperature)
    if not pressure > 0 or symmetry_number < 1 or multiplicity < 1:
        raise ValueError(
            f"pressure (Pa), symmetry_number and multiplicity must be positive, got {pressure}, "
            f"{symmetry_number}, {multiplicity}"
        )
    thermal = units.BOLTZMANN * temperature
    internal, entropy, capacity = _vibration(modes, temperature)
    rotations, rotational_entropy = _rotation(modes, positions, temperature, symmetry_number)
    mass = float(modes.masses.sum()) * units.TIME**2  # eV fs²/Å²
    wavelength = 2.0 * np.pi * units.REDUCED_PLANCK / np.sqrt(2.0 * np.pi * mass * thermal)
    volume = thermal / (pressure * 1e-9 * units.GIGAPASCAL)
    translational_entropy = units.BOLTZMANN * (2.5 + np.log(volume / wavelength**3))
    return Thermochemistry(
        float(temperature),
        float(pressure),
        float(energy),
        modes.zero_point_energy,
        {
            "translation": 1.5 * thermal,
            "rotation": 0.5 * rotations * thermal,
            "vibration": internal,
        },
        {
            "translation": float(translational_entropy),
            "rotation": rotational_entropy,
            "vibration": entropy,
            "electronic": float(units.BOLTZMANN * np.log(multiplicity)),
        },
        {
            "translation": 1.5 * units.BOLTZMANN,
            "rotation": 0.5 * rotations * units.BOLTZMANN,
            "vibration": capacity,
        },
    )


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite (K), got {temperature}")


def _vibration(modes: NormalModes, temperature: float) -> tuple[float, float, float]:
    """Internal energy without zero point, entropy and heat capacity of all modes."""
    wrong = modes.frequencies[modes.frequencies <= 0]
    if len(wrong):
        raise ValueError(
            f"thermochemistry needs a minimum: {len(wrong)} of {len(modes)} modes are imaginary "
            f"or flat (lowest {modes.frequencies[0]:.1f} cm⁻¹): relax further, or follow that mode"
        )
    quanta = units.WAVENUMBER * modes.frequencies
    x = quanta / (units.BOLTZMANN * temperature)
    occupation = np.exp(-x) / -np.expm1(-x)
    internal = np.sum(quanta * occupation)
    entropy = units.BOLTZMANN * np.sum(x * occupation - np.log(-np.expm1(-x)))
    capacity = units.BOLTZMANN * np.sum(x**2 * occupation * (1.0 + occupation))
    return float(internal), float(entropy), float(capacity)


def _rotation(
    modes: NormalModes, positions: Any, temperature: float, symmetry_number: int
) -> tuple[int, float]:
    """Number of rotations, and their entropy as a classical rigid rotor."""
    if len(modes.masses) == 1:
        return 0, 0.0
    # A linear molecule has no moment, and no rotation, about its axis.
    moments = principal_moments(modes.masses, positions)[-modes.rotations :]
    moments = moments * units.TIME**2  # eV fs²
    temperatures = units.REDUCED_PLANCK**2 / (2.0 * moments * units.BOLTZMANN)
    if modes.rotations == 2:
        logarithm = np.log(temperature / (symmetry_number * temperatures[-1]))
        return 2, float(units.BOLTZMANN * (1.0 + logarithm))
    partition = np.sqrt(np.pi * np.prod(temperature / temperatures)) / symmetry_number
    return 3, float(units.BOLTZMANN * (1.5 + np.log(partition)))


def principal_moments(masses: Any, positions: Any) -> Float[np.ndarray, "3"]:
    """Principal moments of inertia in amu Å², ascending; at least a tiny positive number."""
    masses, positions = np.asarray(masses, np.float64), np.asarray(positions, np.float64)
    centred = positions - masses @ positions / masses.sum()
    square = np.einsum("i,ia,ib->ab", masses, centred, centred)
    moments = np.linalg.eigvalsh(np.trace(square) * np.eye(3) - square)
    return np.maximum(moments, np.finfo(float).tiny)
