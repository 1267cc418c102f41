"""Ethanol at the GFN2-xTB level, shipped with the package: 2000 frames and the lowest minimum.

Made by ``experiments/embedded_ethanol/generate.py`` with tblite, which says how. The file is an
sGDML data set (eV, Å; 500 frames each at 300, 500, 750 and 1000 K) with the extra keys
``temperature``, ``minimum_R``, ``minimum_E``, ``minimum_H`` and ``frequencies_cm``.

Reference:
    Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019),
    doi:10.1021/acs.jctc.8b01176.
"""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Minimum", "ethanol_path", "minimum"]


class Minimum(NamedTuple):
    """A relaxed structure with its harmonic data, as NumPy arrays."""

    positions: Float[np.ndarray, "atoms 3"]
    """Å, centre of mass at the origin."""
    numbers: Int[np.ndarray, "atoms"]
    """Atomic numbers."""
    energy: float
    """eV."""
    hessian: Float[np.ndarray, "three_atoms three_atoms"]
    """eV/Å², symmetric, rows ordered (atom, Cartesian component)."""
    frequencies: Float[np.ndarray, "modes"]
    """cm⁻¹, ascending, without translations and rotations; masses are the standard atomic weights
    (H 1.008, C 12.011, O 15.999 amu)."""


def ethanol_path() -> Path:
    """Path of the embedded ethanol data set, for ``jaxff.data.npz.read``.

    Raises:
        FileNotFoundError: If the installation left the data file out.
    """
    path = Path(str(resources.files(__name__) / "ethanol_gfn2.npz"))
    if not path.is_file():
        raise FileNotFoundError(
            f"expected the embedded ethanol data at {path}, found no such file: "
            "reinstall jaxff unpacked (not as a zip archive), with its package data"
        )
    return path


def minimum() -> Minimum:
    """The engine's own lowest minimum of ethanol (gauche), with Hessian and frequencies.

    The Hessian is made of four-point central differences of forces, the frequencies follow from it
    with translations and rotations projected out.

    Raises:
        FileNotFoundError: If the installation left the data file out.
    """
    with np.load(ethanol_path(), allow_pickle=False) as file:
        return Minimum(
            positions=file["minimum_R"],
            numbers=file["z"],
            energy=float(file["minimum_E"]),
            hessian=file["minimum_H"],
            frequencies=file["frequencies_cm"],
        )
