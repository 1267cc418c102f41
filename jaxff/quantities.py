"""Names, shapes and units of every label and output, in one table.

Data readers, :func:`jaxff.observe`, losses and metrics all take the meaning of a name from here.
Shapes are words, as in jaxtyping: ``"atoms 3"`` for one structure of ``atoms`` atoms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jaxff import units


@dataclass(frozen=True)
class Quantity:
    """What a name stands for.

    Attributes:
        name: The word used in label and output dictionaries.
        shape: Shape for one structure, in words; empty for a scalar.
        unit: Unit inside the library, for tables and files.
        dimension: Powers of energy, length and charge, for conversion.
        meaning: One line, with the sign convention.
        order: Highest derivative of the energy by the positions or the strain that it contains.
    """

    name: str
    shape: str
    unit: str
    dimension: tuple[int, int, int]
    meaning: str
    order: int = 0

    @property
    def per_atom(self) -> bool:
        """Whether the first axis runs over atoms."""
        return self.shape.startswith("atoms")

    def dims(self, atoms: int) -> tuple[int, ...]:
        """Shape for one structure of ``atoms`` atoms."""
        return tuple(atoms if word == "atoms" else int(word) for word in self.shape.split())

    def factor(self, unit: str) -> float:
        """Value of ``unit`` in the unit of this quantity.

        Raises:
            ValueError: If the unit is unknown or of another dimension.
        """
        energy, length, charge = self.dimension
        return units.factor(unit, energy=energy, length=length, charge=charge)


_TABLE = (
    Quantity("energy", "", "eV", (1, 0, 0), "potential energy of the structure"),
    Quantity("forces", "atoms 3", "eV/Å", (1, -1, 0), "minus the energy gradient", 1),
    Quantity(
        "stress", "3 3", "eV/Å³", (1, -3, 0), "strain derivative / volume, positive in tension", 1
    ),
    Quantity("virial", "3 3", "eV", (1, 0, 0), "minus the strain derivative: -volume * stress", 1),
    Quantity("hessian", "atoms 3 atoms 3", "eV/Å²", (1, -2, 0), "second derivatives", 2),
    Quantity("dipole", "3", "e Å", (0, 1, 1), "minus the derivative by the electric field"),
    Quantity("polarizability", "3 3", "e Å²/V", (-1, 2, 2), "field derivative of the dipole"),
    Quantity("born_charges", "atoms 3 3", "e", (0, 0, 1), "d dipole[b] / d position[a], [a, b]", 1),
    Quantity("partial_charges", "atoms", "e", (0, 0, 1), "charge assigned to each atom"),
    Quantity("hirshfeld_ratios", "atoms", "1", (0, 0, 0), "volume relative to the free atom"),
    Quantity("atomic_energies", "atoms", "eV", (1, 0, 0), "energy assigned to each atom"),
    Quantity("charge", "", "e", (0, 0, 1), "total charge"),
)

QUANTITIES: Mapping[str, Quantity] = MappingProxyType({q.name: q for q in _TABLE})
"""Every known quantity by name."""


def quantity(name: str) -> Quantity:
    """The entry of :data:`QUANTITIES` for ``name``.

    Raises:
        ValueError: If the name is unknown; the message lists the known ones.
    """
    if name not in QUANTITIES:
        raise ValueError(f"unknown quantity {name!r}; known: {', '.join(QUANTITIES)}")
    return QUANTITIES[name]
