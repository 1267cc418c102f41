"""Names of the elements."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "atomic_numbers",
    "covalent_radii",
    "distinct_numbers",
    "formula",
    "impossible_spin",
    "symbols",
]


def symbols(numbers: Any) -> tuple[str, ...]:
    """Element symbols of atomic numbers, ``X`` for 0.

    Raises:
        ValueError: If a number is outside 0 to 118.
    """
    from ase.data import chemical_symbols

    numbers = np.asarray(numbers)
    wrong = np.unique(numbers[(numbers < 0) | (numbers >= len(chemical_symbols))])
    if wrong.size:
        raise ValueError(f"no element has the atomic number {wrong.tolist()}; expected 1 to 118")
    return tuple(chemical_symbols[number] for number in numbers.tolist())


def atomic_numbers(names: Any) -> np.ndarray:
    """Atomic numbers of element symbols.

    Raises:
        ValueError: If a symbol is none.
    """
    from ase.data import atomic_numbers as table

    if unknown := sorted({name for name in names if name not in table}):
        raise ValueError(f"no element has the symbol {', '.join(map(repr, unknown))}")
    return np.array([table[name] for name in names], int)


def distinct_numbers(elements: Sequence[str | int] | str | int) -> tuple[int, ...]:
    """Atomic numbers of symbols or numbers, in the order given.

    Raises:
        ValueError: For none, duplicates, or what is no element.
    """
    listed = [elements] if isinstance(elements, str | int) else list(elements)
    known = list(symbols(np.arange(119)))
    if unknown := [e for e in listed if (e not in known[1:] if isinstance(e, str) else e < 1)]:
        raise ValueError(f"elements must be symbols or atomic numbers, got {unknown}")
    numbers = tuple(known.index(e) if isinstance(e, str) else int(e) for e in listed)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"elements must be named once each, and at least one, got {listed}")
    return numbers


def impossible_spin(numbers: Any, charge: Any, spin: Any) -> str | None:
    """Why no system can have so many unpaired electrons; ``None`` if one can.

    Unpaired electrons and electrons are both even or both odd, and the first are not more. Where
    the charge or the spin is no whole number, which models accept, nothing is said.

    Args:
        numbers: Atomic numbers; 0 is no atom.
        charge: Total charge in e.
        spin: Number of unpaired electrons.
    """
    electrons, unpaired = float(np.sum(numbers)) - float(charge), float(spin)
    if not (electrons.is_integer() and unpaired.is_integer()):
        return None
    if 0 <= unpaired <= electrons and (electrons - unpaired) % 2 == 0:
        return None
    return (
        f"{formula(numbers)} of charge {float(charge):g} has {electrons:g} electrons, of which "
        f"{unpaired:g} cannot be unpaired: check the charge and the number of unpaired electrons "
        "(the multiplicity less one)"
    )


def formula(numbers: Any) -> str:
    """Chemical formula in Hill order, such as ``"C2H6O"``."""
    from ase.symbols import Symbols

    return Symbols(np.asarray(numbers)).get_chemical_formula(mode="hill")


def covalent_radii(numbers: Any) -> np.ndarray:
    """Covalent radii in Å.

    Raises:
        ValueError: If a number is outside 1 to 118.
    Reference:
        Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j, as tabulated by ASE.
    """
    from ase.data import covalent_radii as table

    numbers = np.asarray(numbers)
    wrong = np.unique(numbers[(numbers < 1) | (numbers >= len(table))])
    if wrong.size:
        raise ValueError(f"no radius for atomic numbers {wrong.tolist()}; expected 1 to 118")
    return np.asarray(table, np.float64)[numbers]
