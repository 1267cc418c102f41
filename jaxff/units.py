"""Units and physical constants: everything inside the library is in eV, Å, e, amu and fs.

Numbers are CODATA 2018 (Tiesinga, Mohr, Newell, Taylor, Rev. Mod. Phys. 93, 025010 (2021),
doi:10.1103/RevModPhys.93.025010); the calorie is the thermochemical one, 4.184 J. Files are
converted once, where they are read, with :func:`factor`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

# Exact since the revision of the SI in 2019.
JOULE_PER_EV = 1.602176634e-19
AVOGADRO = 6.02214076e23
PLANCK_JOULE_SECOND = 6.62607015e-34
SPEED_OF_LIGHT = 299792458.0  # m/s
BOLTZMANN = 1.380649e-23 / JOULE_PER_EV  # eV/K

# Measured, CODATA 2018.
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Å
AMU_KILOGRAM = 1.66053906660e-27

KCAL_PER_MOL = 4184.0 / (AVOGADRO * JOULE_PER_EV)  # eV
KJ_PER_MOL = 1000.0 / (AVOGADRO * JOULE_PER_EV)  # eV
WAVENUMBER = 100.0 * SPEED_OF_LIGHT * PLANCK_JOULE_SECOND / JOULE_PER_EV  # eV of 1 cm^-1
GIGAPASCAL = 1e-21 / JOULE_PER_EV  # eV/Å³
DEBYE = 1e-11 / (SPEED_OF_LIGHT * JOULE_PER_EV)  # e Å: 1 D = 1e-21 C m²/s / c
COULOMB = HARTREE * BOHR  # e²/(4 pi eps0) in eV Å
REDUCED_PLANCK = PLANCK_JOULE_SECOND / (2 * math.pi * JOULE_PER_EV) * 1e15  # eV fs

TIME = 1e15 * math.sqrt(AMU_KILOGRAM * 1e-20 / JOULE_PER_EV)
"""fs in one sqrt(amu Å²/eV), the unit of time that belongs to eV, Å and amu."""

VELOCITY = 1.0 / TIME
"""Å/fs in one sqrt(eV/amu)."""

Dimension = tuple[int, int, int]  # powers of energy, length, charge

_ENERGY, _LENGTH, _CHARGE = (1, 0, 0), (0, 1, 0), (0, 0, 1)

# spelling -> (value in eV, Å, e; dimension).  Spellings are compared in lower case without blanks.
_TOKENS: Mapping[str, tuple[float, Dimension]] = MappingProxyType(
    {
        "1": (1.0, (0, 0, 0)),
        **dict.fromkeys(("ev", "electronvolt", "electron_volt"), (1.0, _ENERGY)),
        **dict.fromkeys(("mev", "millielectronvolt"), (1e-3, _ENERGY)),
        **dict.fromkeys(("kcal_mol", "kcalmol"), (KCAL_PER_MOL, _ENERGY)),
        **dict.fromkeys(("kj_mol", "kjmol"), (KJ_PER_MOL, _ENERGY)),
        **dict.fromkeys(("hartree", "hartrees", "ha", "eh", "e_h"), (HARTREE, _ENERGY)),
        **dict.fromkeys(("rydberg", "ry"), (HARTREE / 2, _ENERGY)),
        **dict.fromkeys(("cm-1", "wavenumber"), (WAVENUMBER, _ENERGY)),
        **dict.fromkeys(("å", "a", "ang", "angs", "angstrom", "angstroms"), (1.0, _LENGTH)),
        **dict.fromkeys(("bohr", "bohrs", "a0", "a_0"), (BOHR, _LENGTH)),
        **dict.fromkeys(("nm", "nanometer", "nanometre"), (10.0, _LENGTH)),
        **dict.fromkeys(("pm", "picometer", "picometre"), (0.01, _LENGTH)),
        **dict.fromkeys(("e", "elementary_charge"), (1.0, _CHARGE)),
        **dict.fromkeys(("debye", "d"), (DEBYE, (0, 1, 1))),
        **dict.fromkeys(("v", "volt"), (1.0, (1, 0, -1))),
        **dict.fromkeys(("gpa", "gigapascal"), (GIGAPASCAL, (1, -3, 0))),
        "kbar": (GIGAPASCAL / 10, (1, -3, 0)),
    }
)
_ATOMIC_UNITS = frozenset({"au", "a.u.", "atomic", "atomicunits", "atomic_units"})

# Spellings that contain an operator or a superscript, brought to one token before splitting.
_REWRITES = (
    (re.compile(r"\s*(?:·|⋅|\*(?!\*))\s*"), "*"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"(kcal|kj)(?:/mole?|[\s*]+mole?\^?-1|[\s*]*mol⁻¹)(?![a-z])"), r"\1_mol"),
    (re.compile(r"(?:1/cm|cm\^?-1|cm⁻¹)"), "cm-1"),
    (re.compile(r"²"), "^2"),
    (re.compile(r"³"), "^3"),
)


def _tokens(unit: str) -> list[tuple[str, int]]:
    """Splits ``"hartree/bohr^2"`` into ``[("hartree", 1), ("bohr", -2)]``."""
    text = unit.strip().lower()
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = re.sub(r"\s*/\s*", "/", text)
    text = re.sub(r"\s+", "*", text)
    found = []
    for sign, word in re.findall(r"(^|[*/])([^*/]*)", text):
        name, _, power = word.partition("^")
        if not re.fullmatch(r"-?\d+|", power):
            raise ValueError(f"unit {unit!r}: the power {power!r} is not an integer")
        found.append((name, (int(power) if power else 1) * (-1 if sign == "/" else 1)))
    return found


KNOWN_UNITS = (
    "eV, meV, kcal/mol, kJ/mol, hartree, Ry, cm^-1; Å (Ang, Angstrom), bohr, nm, pm; e; Debye; V; "
    "GPa, kbar; au (atomic units)"
)


def factor(unit: str, *, energy: int = 0, length: int = 0, charge: int = 0) -> float:
    """Value of ``unit`` in eV, Å and e; multiply a number in ``unit`` by it.

    Products, quotients and integer powers are understood (``"hartree/bohr"``, ``"eV/Ang^3"``,
    ``"e*Ang"``), ``"au"`` stands for the atomic unit of whatever is asked. Spelling is free in
    case and blanks.

    Args:
        unit: The unit as written in a file or by a user.
        energy: Power of energy that the unit must have.
        length: Power of length that the unit must have.
        charge: Power of charge that the unit must have.

    Raises:
        ValueError: If the unit is unknown (the message lists the known ones) or is a unit of
            something else than asked.
    """
    wanted = (energy, length, charge)
    if not isinstance(unit, str):
        raise ValueError(f"a unit must be text such as 'eV', got {unit!r}")
    if re.sub(r"\s+", "", unit.lower()) in _ATOMIC_UNITS:
        return HARTREE**energy * BOHR**length
    parts, found = [], (0, 0, 0)
    for name, power in _tokens(unit):
        if "MeV" in unit or name not in _TOKENS:
            raise ValueError(
                f"unknown unit {unit!r}; known: {KNOWN_UNITS}; and products, quotients and "
                "integer powers of these"
            )
        parts.append((_TOKENS[name][0], power))
        dimension = _TOKENS[name][1]
        found = tuple(f + power * d for f, d in zip(found, dimension, strict=True))
    if found != wanted:
        raise ValueError(
            f"unit {unit!r} has the dimension {_words(found)}, expected {_words(wanted)}"
        )
    return math.prod(size**power for size, power in parts)


def _words(dimension: tuple[int, ...]) -> str:
    names = ("energy", "length", "charge")
    parts = [f"{n}^{p}" if p != 1 else n for n, p in zip(names, dimension, strict=True) if p]
    return " ".join(parts) or "of a pure number"


def to_ev(unit: str) -> float:
    """Value of one ``unit`` of energy in eV; raises ``ValueError`` for an unknown one."""
    return factor(unit, energy=1)


def to_angstrom(unit: str) -> float:
    """Value of one ``unit`` of length in Å; raises ``ValueError`` for an unknown one."""
    return factor(unit, length=1)


def masses(numbers) -> Float[np.ndarray, "*shape"]:
    """Standard atomic masses in amu for atomic numbers 1 to 118.

    Raises:
        ValueError: If a number is outside 1 to 118 (0 marks padding and has no mass).
    Reference:
        IUPAC 2016 standard atomic weights, as tabulated by ASE.
    """
    from ase.data import atomic_masses

    numbers = np.asarray(numbers)
    wrong = np.unique(numbers[(numbers < 1) | (numbers > 118)])
    if wrong.size:
        raise ValueError(f"no mass for atomic numbers {wrong.tolist()}; expected 1 to 118")
    return np.asarray(atomic_masses, dtype=np.float64)[numbers]
