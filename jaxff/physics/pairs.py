r"""Sums over pairs within a cutoff, with forces that need no scattered additions.

In a directed list every pair stands twice, so that the gradient at an atom is the sum over its own
pairs, :math:`\partial E/\partial r_i = -\sum_j u'(r_{ij})\,\hat r_{ij}`. Reverse-mode
differentiation cannot know that: it adds up both ends of every pair by scattering, which takes most
of the time on a CPU. The rule below says it; higher derivatives, those by the cell and by the
parameters follow by ordinary differentiation.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxff.neighbors import Pairs, displacements, sum_pairs
from jaxff.radial.cutoffs import switching
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.types import Array, Bool, Float, Outputs, Params

__all__ = [
    "PairTerm",
    "Truncation",
    "distance",
    "pair_energy",
    "truncation",
]

Truncation = Literal["cut", "shifted", "force_shifted", "switched"]
"""What happens at the cutoff.

``cut``: nothing (the energy jumps). ``shifted``: the energy is shifted to zero (the force jumps).
``force_shifted``: energy and force are shifted to zero. ``switched``: a smooth function takes the
energy to zero from ``onset`` on.
"""


@dataclass(frozen=True)
class PairTerm:
    """A pair interaction; static, and equal where its fields are.

    Attributes:
        cutoff: Radius in Å.
        parameters: ``(params, numbers of centers, numbers of others) -> pytree`` that broadcasts
            against pairs.
        function: ``(squared distance in Å², parameters) -> energy in eV``, elementwise.
        truncation: What happens at the cutoff.
        onset: Distance in Å where switching begins.
        elements: Atomic numbers that it knows; empty if all.
    """

    cutoff: float
    parameters: Callable[..., Any]
    function: Callable[..., Array]
    truncation: Truncation
    onset: float
    elements: tuple[int, ...] = ()

    def energy(self, square: Array, parameters: Any) -> Array:
        """Truncated energy in eV at squared distances in Å² below that of the cutoff."""
        energy = self.function(square, parameters)
        if self.truncation == "cut":
            return energy
        if self.truncation == "switched":
            return energy * switching(distance(square), self.onset, self.cutoff)
        edge = jnp.full((), self.cutoff**2, square.dtype)
        last, slope = jax.jvp(
            lambda s: self.function(s, parameters), (edge,), (jnp.full((), 1.0, square.dtype),)
        )
        if self.truncation == "shifted":
            return energy - last
        # By r, not by its square: du/dr = 2 r du/d(r²).
        return energy - last - 2.0 * self.cutoff * slope * (distance(square) - self.cutoff)


def distance(square: Array) -> Array:
    """Square root whose derivative is zero at zero: atoms in one place give no direction."""
    null = square == 0.0
    return jnp.where(null, 0.0, jnp.sqrt(jnp.where(null, 1.0, square)))


def truncation(kind: str, cutoff: float, onset: float | None) -> tuple[Truncation, float]:
    """Check how a potential is truncated; the onset is 0.9 of the cutoff unless given.

    Raises:
        ValueError: For an unknown kind, a cutoff that is not positive, or an onset without
            switching or outside the cutoff.
    """
    kinds = get_args(Truncation)
    if kind not in kinds:
        raise ValueError(f"truncation must be one of {kinds}, got {kind!r}")
    if not 0.0 < cutoff < float("inf"):
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
    if kind != "switched":
        if onset is not None:
            raise ValueError(f"onset belongs to truncation='switched', not to {kind!r}")
        return cast(Truncation, kind), 0.0
    start = 0.9 * cutoff if onset is None else float(onset)
    if not 0.0 <= start < cutoff:
        raise ValueError(f"onset must be from 0 to below the cutoff, {cutoff} Å; got {start} Å")
    return cast(Truncation, kind), start


def pair_energy(term: PairTerm, params: Params, system: System, neighbors: Any) -> Outputs:
    """Energy in eV as an output of a potential.

    It is NaN, with all forces, where atoms of elements unknown to the term are present or two atoms
    coincide and the interaction diverges.
    """
    return {"energy": _energy(term, params, system, neighbors.within(term.cutoff))}


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _energy(term: PairTerm, params: Params, system: System, pairs: Pairs) -> Array:
    return _Sums(term, params, system, pairs).energy


@functools.partial(_energy.defjvp, symbolic_zeros=True)
def _energy_tangent(term: PairTerm, primals: Any, tangents: Any) -> tuple[Array, Array]:
    params, system, pairs = primals
    by_params, by_system, _ = tangents
    sums = _Sums(term, params, system, pairs)
    tangent = jnp.zeros_like(sums.energy)
    if not isinstance(by_system.positions, SymbolicZero):
        along = jnp.sum(sums.gradient * by_system.positions, axis=-1)
        tangent = tangent + sum_atoms(system, along)
    if by_system.cell is not None and not isinstance(by_system.cell, SymbolicZero):
        tangent = tangent + jnp.sum(sums.cell_gradient * by_system.cell, axis=(-2, -1))
    if not all(isinstance(leaf, SymbolicZero) for leaf in _leaves(by_params)):
        by_params = jax.tree.map(
            lambda t, p: jnp.zeros_like(p) if isinstance(t, SymbolicZero) else t,
            by_params,
            params,
            is_leaf=_is_zero,
        )
        tangent = (
            tangent
            + jax.jvp(lambda p: _Sums(term, p, system, pairs).energy, (params,), (by_params,))[1]
        )
    return sums.energy, tangent


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=_is_zero)


class _Sums:
    """Energy of a system and its gradients, all from one evaluation of the pairs."""

    def __init__(self, term: PairTerm, params: Params, system: System, pairs: Pairs):
        self.system, self.pairs = system, pairs
        self.vectors, mask, numbers = _geometry(system, pairs)
        square = sum(v * v for v in self.vectors)
        inside = mask & (square < term.cutoff**2)
        square = jnp.where(inside, square, term.cutoff**2)
        parameters = term.parameters(params, *numbers)
        value, slope = jax.jvp(
            lambda s: term.energy(s, parameters), (square,), (jnp.ones_like(square),)
        )
        self._slope = jnp.where(inside, 2.0 * slope, 0.0)
        value = jnp.where(inside, value, 0.0)
        energy = 0.5 * sum_atoms(system, self._sum(value))
        self._known = _known(term, system)
        self.energy = jnp.where(self._known & jnp.isfinite(energy), energy, jnp.nan)

    def _sum(self, per_pair: Array) -> Array:
        return sum_pairs(self.pairs, per_pair.reshape(-1))

    @functools.cached_property
    def _raw_gradient(self) -> Float[Array, "atoms 3"]:
        return jnp.stack([-self._sum(self._slope * v) for v in self.vectors], axis=-1)

    @property
    def _sound(self) -> Array:
        """1, or NaN for structures without an energy: no force may look like a number there.

        Where the energy diverges its slope does too; forces alone need not compute the energy.
        """
        total = sum_atoms(self.system, jnp.sum(self._raw_gradient, axis=-1))
        return jnp.where(self._known & jnp.isfinite(total), 1.0, jnp.nan)

    @property
    def gradient(self) -> Float[Array, "atoms 3"]:
        """Derivative by the positions in eV/Å."""
        return self._raw_gradient * to_atoms(self.system, self._sound)[:, None]

    @property
    def cell_gradient(self) -> Float[Array, "*structures 3 3"]:
        """Derivative by the cell in eV/Å: the shifts times the pull of each pair."""
        shape = self._slope.shape
        shifts = self.pairs.shifts.astype(self._slope.dtype)
        shifts = [shifts[:, k].reshape(shape) for k in range(3)]
        rows = [[self._sum(self._slope * s * v) for v in self.vectors] for s in shifts]
        per_atom = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
        return 0.5 * sum_atoms(self.system, per_atom) * self._sound[..., None, None]


def _geometry(
    system: System, pairs: Pairs
) -> tuple[list[Array], Bool[Array, "*pairs"], tuple[Array, Array]]:
    """Vectors in Å by component, which pairs are real, and atomic numbers of both ends."""
    if pairs.width is None or system.positions.ndim != 2 or pairs.atoms != system.atom_count:
        vectors, mask = displacements(system, pairs)
        numbers = [
            system.numbers[jnp.where(mask, index, 0)] for index in (pairs.centers, pairs.others)
        ]
        return [vectors[:, k] for k in range(3)], mask, (numbers[0], numbers[1])
    # Component by component, and with the center of a row read once: nothing is stored in between.
    shape = (pairs.atoms, pairs.width)
    others = pairs.others.reshape(shape)
    mask = others < pairs.atoms
    others = jnp.where(mask, others, 0)
    vectors = []
    shifts = pairs.shifts.reshape(*shape, 3).astype(system.positions.dtype)
    for k in range(3):
        column = system.positions[:, k]
        vector = column[others] - column[:, None]
        if system.cell is not None:
            vector = vector + sum(shifts[..., a] * system.cell[a, k] for a in range(3))
        vectors.append(vector)
    return vectors, mask, (system.numbers[:, None], system.numbers[others])


def _known(term: PairTerm, system: System) -> Bool[Array, "*structures"]:
    """Whether all atoms of a structure are of elements that the term knows."""
    if not term.elements:
        return jnp.ones(system.batch_shape, bool)
    known = jnp.isin(system.numbers, jnp.asarray((0, *term.elements)))
    return sum_atoms(system, (~known).astype(jnp.int32)) == 0
