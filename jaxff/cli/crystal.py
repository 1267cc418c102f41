"""The kernel of a crystal: its ideal reference, the group of it, and what describes pairs."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxff.cli.console import say
from jaxff.cli.files import kind
from jaxff.data import Dataset, extxyz, npz, poscar
from jaxff.descriptors import InverseDistances, inverse_distances, smooth_images
from jaxff.descriptors.inverse_distances import misplaced_fraction
from jaxff.elements import formula, symbols
from jaxff.kernels import (
    CrystalGroup,
    Kernel,
    check_frames,
    crystal_group,
    host_group,
    in_order_of,
    matern52,
    permutations,
)
from jaxff.system import System
from jaxff.types import Float, Int

if TYPE_CHECKING:
    from jaxff.cli.training import Fitting

__all__ = ["ENOUGH", "crystal_kernel", "descriptor_of_pairs"]

ENOUGH = 100
"""Geometries from which a group of permutations is recovered with certainty."""

_SAME = 0.1
"""Difference of magnetic moments, in Bohr magnetons, that two equivalent atoms may have."""


def descriptor_of_pairs(data: Dataset, output: Path) -> InverseDistances:
    """Smooth images where rounding misses nearest images, if the format of the output holds them.

    In the format of sGDML the model keeps its descriptor, which warns of itself.
    """
    if output.suffix.lower() == ".npz" or not misplaced_fraction(data.systems).any():
        return inverse_distances
    say("Pairs are described by smooth images: in this oblique cell inverse distances jump.")
    return smooth_images(data.systems)


def crystal_kernel(
    data: Dataset, train: Dataset, fitting: Fitting, seed: int
) -> tuple[Kernel, str]:
    """The kernel of smooth images under the group of the reference, and what the group is.

    Raises:
        ValueError: If reference and data do not belong together, or the group is of order one, or
            larger than asked for.
    """
    assert fitting.reference is not None
    reference = _ideal(fitting.reference, data)
    with warnings.catch_warnings():
        # Noise above the tolerance would be plain GDML in the name of symmetry.
        warnings.filterwarnings("error", ".* has no symmetry to .*", UserWarning)
        try:
            crystal = _group(reference, data, train, fitting, seed)
        except UserWarning as warning:
            raise ValueError(f"{warning} (--tolerance), or say --symmetry none") from None
    if len(crystal) > fitting.max_order:
        raise ValueError(
            f"the crystal has {len(crystal)} permutations, more than --max-order "
            f"{fitting.max_order}"
        )
    descriptor = smooth_images(data.systems)
    kernel = Kernel(descriptor, matern52, crystal.permutations, crystal.translations)
    return kernel, f"crystal {crystal}"


def _group(
    reference: System, data: Dataset, train: Dataset, fitting: Fitting, seed: int
) -> CrystalGroup:
    """Of the whole reference, or of its host and of the atoms that move about on it."""
    if fitting.host is None:
        return crystal_group(_in_order(reference, data), tolerance=fitting.tolerance)
    host = _indices(fitting.host, reference.atom_count)
    others = np.setdiff1d(np.arange(reference.atom_count), host)
    if not np.array_equal(reference.numbers, data.numbers):
        raise ValueError(
            "with --host the reference must list the atoms of the data in their order: the "
            f"elements of {formula(np.asarray(reference.numbers))} do not follow each other as "
            f"those of the {formula(data.numbers)} of the data"
        )
    # Atoms that move about have no sites.
    check_frames(_part(reference, host), _part(data.systems, host))
    own = None
    if fitting.own == "recovered" and len(others):
        own = _own(_part((train if len(train) >= ENOUGH else data).systems, others), fitting, seed)
        say(f"The {len(others)} atoms beside the host have {len(own)} permutations of their own.")
    return host_group(reference, host, own=own, tolerance=fitting.tolerance)


def _own(systems: System, fitting: Fitting, seed: int) -> Int[np.ndarray, "perms others"]:
    """Permutations of the atoms beside the host, by their minimum images."""
    numbers = np.asarray(systems.numbers)[0]
    if len(numbers) == 2 and numbers[0] == numbers[1]:
        return np.array([[0, 1], [1, 0]])  # their one distance cannot show that they are alike
    return permutations.recover(systems, seed=seed, max_order=fitting.max_order)


def _in_order(reference: System, data: Dataset) -> System:
    """The reference in the atom order of the data."""
    try:
        check_frames(reference, data.systems)
    except ValueError as error:
        try:
            ordered = in_order_of(reference, data.systems)
            check_frames(ordered, data.systems)
        except ValueError:
            raise error from None  # the order is not all that is wrong
        say("The reference lists its atoms in another order: taken in the order of the data.")
        return ordered
    return reference


def _part(systems: System, atoms: Int[np.ndarray, " atoms"]) -> System:
    """Some of the atoms, in the same cell."""
    return System(
        systems.positions[..., atoms, :], systems.numbers[..., atoms], systems.cell, systems.pbc
    )


def _indices(text: str, atoms: int) -> Int[np.ndarray, " atoms"]:
    """The atoms that ``0-49,60`` means.

    Raises:
        ValueError: If it means none, or others than there are.
    """
    ranges = [re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip()) for part in text.split(",")]
    found = {
        atom
        for match in ranges
        if match is not None
        for atom in range(int(match[1]), int(match[2] or match[1]) + 1)
    }
    if None in ranges or not found or max(found) >= atoms:
        raise ValueError(
            f"--host takes atoms 0 to {atoms - 1} of the reference, such as 0-49 or 0-7,12, got "
            f"{text!r}"
        )
    return np.array(sorted(found))


def _ideal(path: Path, data: Dataset) -> System:
    """The first structure of a file; extended XYZ is in the unit of length of the data."""
    found = kind(path)
    if found == "xyz":
        _refuse_marks(path)
        frames = extxyz.read(
            path, energy_key=None, forces_key=None, length_unit=data.length_unit, index=":1"
        )
    elif found == "poscar":
        # A POSCAR cannot say which directions are periodic.
        frames = replace(poscar.read(path), pbc=data.pbc)
    else:
        frames = npz.read(path)
    return jax.tree.map(lambda leaf: leaf[0], frames[[0]].systems)


def _refuse_marks(path: Path) -> None:
    """Refuse what makes atoms of one element differ, which permutations know nothing of.

    Raises:
        ValueError: Naming it, and what to do.
    """
    frame = extxyz.parse(str(path), 0, f"{path}: ")[0]
    results = {} if frame.calc is None else frame.calc.results
    for name in ("initial_magmoms", "magmoms"):
        moments = frame.arrays.get(name, results.get(name))
        if moments is None:
            continue
        for number in np.unique(frame.numbers):
            of_one = np.reshape(moments, (len(frame), -1))[frame.numbers == number]
            if np.ptp(of_one, axis=0).max() > _SAME:
                raise ValueError(
                    f"{path}: {name} differ among the atoms of {symbols([number])[0]}, but the "
                    "group of a crystal knows elements alone and would exchange them. If the "
                    "energies do not depend on their order, leave the moments out of the "
                    "reference; else say --symmetry recovered or none"
                )
    for name in ("occupancy", "occupancies"):
        values = _numbers(frame.arrays.get(name, frame.info.get(name)))
        if np.any(np.abs(values - 1.0) > 1e-6):
            raise ValueError(
                f"{path}: the reference has sites with {name} {values[values != 1.0][0]:g}: give a "
                "supercell in which every site holds one atom"
            )


def _numbers(values: Any) -> Float[np.ndarray, " numbers"]:
    """All numbers of an array, or of the nested records that ASE makes of crystallographic data."""
    if values is None:
        return np.zeros(0)
    if isinstance(values, dict):
        return np.concatenate([np.zeros(0), *(_numbers(value) for value in values.values())])
    return np.ravel(np.asarray(values, float))
