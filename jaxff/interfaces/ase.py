"""Any energy function as an ASE calculator: :class:`JaxffCalculator`.

Units are ASE's own, eV and Å, and so are the signs: stress is positive under tension, in the Voigt
order xx, yy, zz, yz, xz, xy.
"""

import copy
import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from jaxff import io
from jaxff.derivatives import observe
from jaxff.elements import impossible_spin
from jaxff.interfaces import sgdml
from jaxff.neighbors import Neighbors, neighbor_list
from jaxff.potential import EnergyFn, as_pytree, bind
from jaxff.system import System
from jaxff.types import Array

__all__ = ["JaxffCalculator", "system_of"]

_LOG = logging.getLogger(__name__)
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
_OUTPUTS = {"energies": "atomic_energies", "charges": "partial_charges", "dipole": "dipole"}
_EXACT = 1e-15  # ASE's default tolerance
_ALWAYS = ("energy", "free_energy", "forces", "stress", "hessian")


class JaxffCalculator(Calculator):
    """ASE calculator of an energy function.

    Atoms are filled up to a bucket of sizes and pairs to another, so that a whole relaxation, and a
    whole data set of similar sizes, compile once. Pair lists reach farther by a skin and are kept
    until an atom, or the cell, has moved so far that a pair could be missing. A kernel model, whose
    number of atoms is fixed, is never filled up.

    A potential that reads the total charge, the spin or a field takes them from ``atoms.info``:
    ``charge`` (e), ``unpaired_electrons`` or ``multiplicity``, ``electric_field`` (V/Å). There are
    no defaults, and a value that the potential would ignore is refused.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``, such as ``bind(potential, params)``,
            whose parameters are taken as they are now; or the path of a model file, .safetensors
            (jaxff) or .npz (sGDML).
        outputs: Further properties that the potential itself gives: any of ``energies`` (per atom),
            ``charges``, ``dipole``.
        skin: Margin of pair lists in Å.
        capacity: Room for pairs as a multiple of those found.
        dtype: Precision of the positions; by default JAX's widest.
        device: Where to compute; by default JAX's first device. Named once in the log, and in
            ``device``.
        pad: Whether to fill up atoms; by default where the potential has cutoffs and allows it.
        **settings: What ASE's own calculators take (``directory``, ``atoms``, ...).

    Attributes:
        compilations: Number of different shapes compiled so far.
        device: The JAX device in use.

    Raises:
        TypeError: If the first argument is no function.
        ValueError: If an output is unknown or the skin not positive.
    """

    implemented_properties = list(_ALWAYS)  # noqa: RUF012 (ASE's own way to declare them)

    def __init__(
        self,
        energy_fn: EnergyFn | str | os.PathLike,
        *,
        outputs: Iterable[str] = (),
        skin: float = 0.5,
        capacity: float = 1.1,
        dtype: Any = None,
        device: Any = None,
        pad: bool | None = None,
        **settings: Any,
    ):
        if isinstance(energy_fn, str | os.PathLike):
            energy_fn = _load(Path(energy_fn))
        if not callable(energy_fn):
            raise TypeError(
                f"the calculator takes an energy function, such as bind(potential, params), got "
                f"{type(energy_fn).__name__}"
            )
        if unknown := sorted(set(outputs) - set(_OUTPUTS)):
            raise ValueError(f"unknown outputs {unknown}; known: {sorted(_OUTPUTS)}")
        if not skin > 0:
            raise ValueError(f"skin must be positive (Å), got {skin}")
        super().__init__(**settings)
        refused = getattr(energy_fn, "refused", None)
        self._refused: dict[str, str] = dict(refused or {})
        self.implemented_properties = [n for n in (*_ALWAYS, *outputs) if n not in self._refused]
        self._energy_fn = jax.tree.map(lambda leaf: leaf, as_pytree(energy_fn))
        self._cutoffs: tuple[float, ...] = tuple(getattr(energy_fn, "cutoffs", ()))
        self._uses: frozenset[str] = frozenset(getattr(energy_fn, "uses", ()))
        self._lists = neighbor_list(self._cutoffs, skin=skin, capacity=capacity)
        self._dtype = jnp.zeros((), float if dtype is None else dtype).dtype
        pads = getattr(energy_fn, "padding", True)
        self._pad = bool(self._cutoffs) and pads if pad is None else pad
        self.device = jax.devices()[0] if device is None else device
        _LOG.info("jaxff computes on %s in %s", self.device, self._dtype)
        self._names = ("energy", "forces", *(_OUTPUTS[name] for name in outputs))
        self._prepared: tuple[tuple, System] | None = None
        self._listed: tuple[System, Neighbors] | None = None
        self._program: tuple[tuple, Callable[..., dict[str, Array]], list[Any]] | None = None
        self._fields: dict[str, Any] = {}
        self._room: dict[int, tuple[int, ...]] = {}
        self._shapes: set[Any] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> "JaxffCalculator":
        """A calculator with results of its own; the model, which never changes, is shared."""
        copied = copy.copy(self)
        memo[id(self)] = copied
        for name in ("atoms", "results", "parameters", "_fields", "_room", "_shapes"):
            setattr(copied, name, copy.deepcopy(getattr(self, name), memo))
        return copied

    @property
    def compilations(self) -> int:
        """Number of different shapes and sets of properties compiled so far."""
        return len(self._shapes)

    def check_state(self, atoms: Atoms, tol: float = _EXACT) -> list[str]:
        """What changed since the last call; ASE's own check does not look at ``atoms.info``."""
        changes = _changes(self.atoms, atoms) if tol <= _EXACT else super().check_state(atoms, tol)
        given = _fields(atoms, self._uses)
        same = given.keys() == self._fields.keys() and all(
            np.array_equal(given[name], self._fields[name]) for name in given
        )
        return changes if same else [*changes, "info"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate what is asked; energy and forces always come together.

        Raises:
            PropertyNotImplementedError: For the stress of a system without a volume or of a model
                that does not determine it, or the dipole moment of one that is periodic.
            ValueError: If ``atoms.info`` lacks what the potential reads, or says what it ignores.
            FloatingPointError: If energy or forces are not finite.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise ValueError("the calculator has no atoms: set atoms.calc, or pass atoms")
        self.results = {}
        if self.check_state(atoms):
            self.atoms = atoms.copy()
        volume = atoms.pbc.any() and abs(atoms.cell.volume) > 0
        if "stress" in properties and not volume:
            raise PropertyNotImplementedError(
                "stress needs a periodic system whose three lattice vectors span a volume"
            )
        if "dipole" in properties and atoms.pbc.any():
            raise PropertyNotImplementedError(
                "the dipole moment of a periodic system is not defined by charges and positions: "
                "ask for 'charges', or set atoms.pbc = False"
            )
        # Once the stress is wanted, it is computed in every call: one program serves them all.
        for name in ("stress", "hessian"):
            if name in properties and name not in self._names:
                self._names = (*self._names, name)
        names = tuple(
            name
            for name in self._names
            if not (name == "stress" and not volume)
            and not (name == "dipole" and atoms.pbc.any())
            and not (name == "hessian" and "hessian" not in properties)
        )
        self._fields = _fields(atoms, self._uses)
        count = len(atoms)
        system = self._system(atoms)
        neighbors = self._neighbors(system) if self._cutoffs else None
        values = self._evaluate(names, system, neighbors)
        finite = np.isfinite(values["energy"]) and np.isfinite(values["forces"]).all()
        if not finite:
            raise FloatingPointError(
                f"energy or forces of {atoms.get_chemical_formula()} are not finite: check the "
                "geometry, that the potential is made for these atoms in this order and this cell, "
                "and, if it has Ewald sums, that their plan is"
            )
        self.results = _results(values, count)

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """As ASE's own, which does not tell why a property is missing.

        Raises:
            PropertyNotImplementedError: If the model does not determine it, or ASE knows none.
        """
        if name in self._refused:
            raise PropertyNotImplementedError(f"{name}: {self._refused[name]}")
        return super().get_property(name, atoms, allow_calculation)

    def get_hessian(self, atoms: Atoms | None = None) -> np.ndarray:
        """Second derivatives in eV/Å², ``(atoms, 3, atoms, 3)``, exact."""
        return np.asarray(self.get_property("hessian", atoms))

    def _system(self, atoms: Atoms) -> System:
        room = _bucket(len(atoms)) if self._pad else len(atoms)
        fixed = (atoms.numbers, atoms.pbc, atoms.cell.array, *self._fields.values())
        key = (room, *self._fields, *(array.tobytes() for array in fixed))
        positions = np.zeros((room, 3), self._dtype)
        positions[: len(atoms)] = atoms.positions
        # As a rule only positions change: the rest stays where it is, checked.
        if self._prepared is None or self._prepared[0] != key:
            system = system_of(atoms, dtype=self._dtype, **self._fields)
            numbers = np.pad(np.asarray(system.numbers), (0, room - len(atoms)))
            system = system.replace(positions=positions, numbers=numbers)
            self._prepared = key, jax.device_put(system, self.device)
        return self._prepared[1].replace(positions=positions)

    def _neighbors(self, system: System) -> Neighbors:
        if self._listed is not None and _valid(*self._listed, system):
            return self._listed[1]
        found = self._lists.allocate(system)
        atoms = system.atom_count
        room = self._room.get(atoms, (0,) * len(found.pairs))
        pairs = tuple(p.resized(size) for p, size in zip(found.pairs, room, strict=True))
        self._room[atoms] = tuple(len(p.centers) for p in pairs)
        found = Neighbors(pairs, found.overflow, found.cutoffs, found.skins)
        self._listed = system, jax.device_put(found, self.device)
        return self._listed[1]

    def _evaluate(
        self, names: tuple[str, ...], system: System, neighbors: Neighbors | None
    ) -> dict[str, np.ndarray]:
        program, leaves = self._compiled(names, system, neighbors)
        # Lists of arrays reach compiled code quickly, trees of our own classes do not.
        found = program(system.positions, leaves)
        return {name: np.asarray(value, np.float64) for name, value in found.items()}

    def _compiled(
        self, names: tuple[str, ...], system: System, neighbors: Neighbors | None
    ) -> tuple[Callable[..., dict[str, Array]], list[Any]]:
        """Function of the positions and of the rest, and the rest; only a change makes it anew."""
        fixed = self._prepared, self._listed
        if self._program is not None:
            before, program, leaves = self._program
            same = all(new is old for new, old in zip(fixed, before[1:], strict=True))
            if same and names == before[0]:
                return program, leaves
        observed = observe(self._energy_fn, names)
        leaves, structure = jax.tree.flatten((observed, system, neighbors))
        leaves = jax.device_put(leaves, self.device)
        self._shapes.add((structure, *(leaf.shape for leaf in leaves)))
        self._program = (names, *fixed), _program(structure), leaves
        return self._program[1:]


def _load(path: Path) -> EnergyFn:
    if path.suffix == ".safetensors":
        return bind(*io.load(path))
    if path.suffix == ".npz":
        return bind(*sgdml.load(path))
    raise ValueError(f"{path}: a model file ends in .safetensors or .npz")


@functools.lru_cache(maxsize=64)
def _program(structure: Any) -> Callable[..., dict[str, Array]]:
    """Compiled function of positions and of all else, shared by calculators of like models."""

    @jax.jit
    def evaluate(positions: Array, leaves: list[Array]) -> dict[str, Array]:
        observed, system, neighbors = jax.tree.unflatten(structure, leaves)
        return observed(system.replace(positions=positions), neighbors)

    return evaluate


def _changes(before: Atoms | None, now: Atoms) -> list[str]:
    """What is not exactly equal, in the words of ASE."""
    if before is None:
        return list(all_changes)
    old = {**before.arrays, "cell": before.cell.array, "pbc": before.pbc}
    new = {**now.arrays, "cell": now.cell.array, "pbc": now.pbc}
    return [
        name for name in all_changes if not np.array_equal(old.get(name, ()), new.get(name, ()))
    ]


def _results(values: dict[str, np.ndarray], count: int) -> dict[str, Any]:
    """By ASE's names and shapes, without what fills up the bucket."""
    energy = float(values["energy"])
    results: dict[str, Any] = {
        "energy": energy,
        "free_energy": energy,
        "forces": values["forces"][:count],
    }
    if "stress" in values:
        results["stress"] = values["stress"][_VOIGT]
    if "hessian" in values:
        results["hessian"] = values["hessian"][:count, :, :count]
    for name, output in _OUTPUTS.items():
        if output in values:
            results[name] = values[output] if name == "dipole" else values[output][:count]
    return results


def system_of(atoms: Atoms, *, dtype: Any = None, **fields: Any) -> System:
    """The same atoms as a :class:`jaxff.System`; masses, momenta and constraints stay behind.

    Args:
        atoms: ASE's atoms.
        dtype: Precision of the positions; by default JAX's widest.
        **fields: ``charge``, ``spin``, ``electric_field`` of the system.

    Raises:
        ValueError: For atoms without an element (ASE's ``X``), which jaxff takes for padding.
    """
    if not np.all(atoms.numbers > 0):
        raise ValueError(
            f"atoms {np.flatnonzero(atoms.numbers <= 0).tolist()} have the atomic number 0: "
            "remove them, or give them an element"
        )
    kind = jnp.zeros((), float if dtype is None else dtype).dtype
    periodic = bool(atoms.pbc.any())
    return System(
        np.asarray(atoms.positions, kind),
        np.asarray(atoms.numbers, np.int32),
        np.asarray(atoms.cell.array, kind) if periodic else None,
        np.asarray(atoms.pbc) if periodic else None,
        **fields,
    )


def _fields(atoms: Atoms, uses: frozenset[str]) -> dict[str, Any]:
    """Charge, spin and field of ``atoms.info``, as far as the potential reads them."""
    info = atoms.info
    given = {
        "charge": info.get("charge"),
        "spin": _unpaired(info),
        "electric_field": info.get("electric_field"),
    }
    keys = {"spin": "unpaired_electrons (or multiplicity)"}
    for name, value in given.items():
        key = keys.get(name, name)
        if name in uses and value is None:
            raise ValueError(
                f"this potential reads the {name} of the system: set atoms.info[{key!r}], which "
                "has no default"
            )
        if name not in uses and value is not None and np.any(np.asarray(value, float) != 0):
            raise ValueError(
                f"atoms.info has {key} = {value}, but this potential does not read it: remove it, "
                "or use a potential that does"
            )
    totals = (given["charge"], given["spin"])
    if {"charge", "spin"} <= uses and (problem := impossible_spin(atoms.numbers, *totals)):
        warnings.warn(problem, stacklevel=3)
    # Copies: an array that is changed in place must not change what was computed for.
    return {n: np.array(v, float) for n, v in given.items() if n in uses}


def _unpaired(info: dict[str, Any]) -> Any:
    """Number of unpaired electrons that is given, perhaps as a multiplicity."""
    if "multiplicity" in info and "unpaired_electrons" in info:
        raise ValueError("atoms.info has both multiplicity and unpaired_electrons: keep one")
    for name, least in (("multiplicity", 1), ("unpaired_electrons", 0)):
        if (value := info.get(name)) is not None:
            if isinstance(value, str) or not (value >= least and float(value).is_integer()):
                raise ValueError(
                    f"atoms.info[{name!r}] must be a whole number from {least} on, got {value!r}"
                )
            return value - least
    return None


def _valid(before: System, neighbors: Neighbors, now: System) -> bool:
    """Whether a list that was built for one system holds every pair of another.

    See :func:`jaxff.dynamics.descent.descend` for the criterion with a moving cell.
    """
    if before.atom_count != now.atom_count or (before.cell is None) != (now.cell is None):
        return False
    if not np.array_equal(before.numbers, now.numbers):
        return False
    old, new = (np.asarray(s.positions, np.float64) for s in (before, now))
    norm = 1.0
    first, second = (None if s.cell is None else np.asarray(s.cell) for s in (before, now))
    if first is not None and second is not None and not np.array_equal(first, second):
        first, second = first.astype(np.float64), second.astype(np.float64)
        if not abs(np.linalg.det(first)) > 0 or not abs(np.linalg.det(second)) > 0:
            return False
        deform = np.linalg.solve(first, second)
        old, norm = old @ deform, float(np.linalg.norm(np.linalg.inv(deform), 2))
    if before.pbc is not None and not np.array_equal(before.pbc, np.asarray(now.pbc)):
        return False
    far = np.sqrt(np.max(np.sum((new - old) ** 2, axis=-1), initial=0.0))
    reach = np.asarray(neighbors.cutoffs)
    return bool(np.all(norm * (reach + 2.0 * far) <= reach + np.asarray(neighbors.skins)))


def _bucket(count: int) -> int:
    """The smallest of 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ... that holds ``count``."""
    step = max(1, 2 ** (max(count, 1) - 1).bit_length() // 8)
    return max(4, -(-count // step) * step)
