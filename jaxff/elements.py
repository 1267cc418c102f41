"""Names of the elements."""

from typing import Any

import numpy as np

__all__ = ["formula", "symbols"]


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


def formula(numbers: Any) -> str:
    """Chemical formula in Hill order, such as ``"C2H6O"``."""
    from ase.symbols import Symbols

    return Symbols(np.asarray(numbers)).get_chemical_formula(mode="hill")
