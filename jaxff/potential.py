"""Potentials: records of two pure functions, and how they combine.

A kernel and a network are the same object here: ``init`` builds parameters, ``apply`` turns
parameters, atoms and neighbours into named outputs. A potential bound to its parameters is an
energy function and a pytree.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.system import System, sum_atoms
from jaxff.types import Array, Float, Outputs, Params

__all__ = [
    "ApplyFn",
    "Bound",
    "EnergyFn",
    "InitFn",
    "Potential",
    "RandomApplyFn",
    "Spec",
    "add",
    "bind",
    "scale_shift",
]


@runtime_checkable
class EnergyFn(Protocol):
    """Energy in eV of a system: a scalar, or one value per structure of a stack or pack."""

    def __call__(self, system: System, neighbors: Any = None, /) -> Float[Array, "*structures"]:
        """Energy in eV."""
        ...


@runtime_checkable
class InitFn(Protocol):
    """Build parameters from a key and an example system."""

    def __call__(self, key: Array, system: System, neighbors: Any = None, **named: Any) -> Params:
        """Parameters for systems like this one."""
        ...


@runtime_checkable
class ApplyFn(Protocol):
    """Evaluate the outputs; ``"energy"`` (eV) is always among them."""

    def __call__(self, params: Params, system: System, neighbors: Any = None) -> Outputs:
        """Outputs by name."""
        ...


@runtime_checkable
class RandomApplyFn(Protocol):
    """As :class:`ApplyFn`, with what a key says left out at random."""

    def __call__(self, params: Params, system: System, neighbors: Any, key: Array) -> Outputs:
        """Outputs by name."""
        ...


@dataclass(frozen=True)
class Spec:
    """What a file must hold to rebuild a potential: the name of its builder and its arguments.

    Attributes:
        builder: Name under which :mod:`jaxff.io` knows the building function.
        arguments: JSON values, numpy arrays, or further specs, by argument name.
    """

    builder: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Potential:
    """A potential: pure functions, no state.

    Attributes:
        init: Builds parameters.
        apply: Evaluates outputs.
        cutoffs: Radii in Å for which it needs neighbours; empty when it needs no list.
        uses: Which of ``charge``, ``spin``, ``electric_field`` it reads.
        spec: How to rebuild it from a file; ``None`` if it cannot be saved.
        needs: Which of the cutoffs it needs with given parameters, those of a molecule perhaps
            none; ``None`` for all of them.
        padding: Whether systems may be filled up with atoms of number 0.
        random_apply: Evaluates outputs in training, where that is random; ``None`` if nothing is.
        refuses: Observables that it does not determine with given parameters, each with the reason;
            ``None`` if it gives all.
        reads: Outputs of other potentials that it needs, such as ``partial_charges``: its ``apply``
            takes them as a fourth argument, and :func:`add` hands them over.
    """

    init: InitFn
    apply: ApplyFn
    cutoffs: tuple[float, ...] = ()
    uses: frozenset[str] = frozenset()
    spec: Spec | None = None
    needs: Callable[[Params], tuple[float, ...]] | None = None
    padding: bool = True
    random_apply: RandomApplyFn | None = None
    refuses: Callable[[Params], Mapping[str, str]] | None = None
    reads: frozenset[str] = frozenset()

    def cutoffs_with(self, params: Params) -> tuple[float, ...]:
        """Radii in Å for which it needs neighbours with these parameters."""
        return self.cutoffs if self.needs is None else self.needs(params)

    def refused_with(self, params: Params) -> Mapping[str, str]:
        """Observables that it does not determine with these parameters, and why."""
        return {} if self.refuses is None else self.refuses(params)


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False)
class Bound:
    """A potential with its parameters: callable for the energy, passable through ``jit``.

    The parameters are the leaves, the potential is static: new parameters for the same potential
    recompile nothing.
    """

    potential: Potential
    params: Params

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, "*structures"]:
        """Energy in eV."""
        return self.outputs(system, neighbors)["energy"]

    def outputs(self, system: System, neighbors: Any = None) -> Outputs:
        """All named outputs.

        Raises:
            ValueError: If the potential reads a field that the system lacks, or needs neighbours
                and has none.
        """
        for name in sorted(self.potential.uses):
            if getattr(system, name) is None:
                raise ValueError(
                    f"this potential reads system.{name}, which is None: "
                    f"give it in System(..., {name}=...)"
                )
        if neighbors is None and self.cutoffs:
            raise ValueError(
                f"this potential needs neighbors within {self.cutoffs} Å: "
                "pass neighbor_list(energy_fn.cutoffs).allocate(system)"
            )
        return self.potential.apply(self.params, system, neighbors)

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Radii in Å for which neighbours are needed."""
        return self.potential.cutoffs_with(self.params)

    @property
    def refused(self) -> Mapping[str, str]:
        """Observables that would be numbers without meaning, and why."""
        return self.potential.refused_with(self.params)

    @property
    def padding(self) -> bool:
        """Whether systems may be filled up with atoms of number 0."""
        return self.potential.padding

    @property
    def uses(self) -> frozenset[str]:
        """Which optional fields of the system are read."""
        return self.potential.uses

    def tree_flatten_with_keys(self):
        """Parameters are the only child."""
        return [(jax.tree_util.GetAttrKey("params"), self.params)], self.potential

    @classmethod
    def tree_unflatten(cls, potential: Potential, children) -> "Bound":
        """Rebuild around (possibly placeholder) parameters."""
        return cls(potential, children[0])


def bind(potential: Potential, params: Params) -> Bound:
    """Fix the parameters of a potential: the result is its energy function.

    Raises:
        TypeError: If the first argument is no potential.
    """
    if not isinstance(potential, Potential):
        raise TypeError(f"bind takes (potential, params), got {type(potential).__name__} first")
    return Bound(potential, params)


def _spec(builder: str, potentials: tuple[Potential, ...], **arguments: Any) -> Spec | None:
    """Spec of a combination; it can be saved only if every part can."""
    specs = [p.spec for p in potentials]
    if any(spec is None for spec in specs):
        return None
    return Spec(builder, {"potentials": specs, **arguments})


def add(*potentials: Potential) -> Potential:
    """Sum of potentials; parameters are the tuple of their parameters.

    Energies and every output that several parts give are added; other outputs pass through. Parts
    that read outputs, such as :func:`jaxff.physics.electrostatics` the charges, get those of the
    other parts. With a kernel fitted to the differences from a baseline this is Δ-learning
    (Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015), doi:10.1021/acs.jctc.5b00099).

    Raises:
        ValueError: If no potential is given.
    """
    if not potentials:
        raise ValueError("add needs at least one potential, got none")
    for index, part in enumerate(potentials):
        if not isinstance(part, Potential):
            raise TypeError(
                f"add takes potentials, got {type(part).__name__} at place {index}; bind the sum"
            )

    def init(key: Array, system: System, neighbors: Any = None, **named: Any) -> Params:
        unknown = set(named) - {"params"}
        if unknown:
            raise TypeError(f"add takes only params=(...) for parts already fitted, got {unknown}")
        given = named.get("params", (None,) * len(potentials))
        if len(given) != len(potentials):
            raise ValueError(f"params must have {len(potentials)} entries, got {len(given)}")
        keys = jax.random.split(key, len(potentials))
        return tuple(
            p.init(k, system, neighbors) if known is None else known
            for p, k, known in zip(potentials, keys, given, strict=True)
        )

    first = [index for index, part in enumerate(potentials) if not part.reads]
    later = [index for index, part in enumerate(potentials) if part.reads]

    def evaluate(
        params: Params, system: System, neighbors: Any, key: Array | None, given: Outputs | None
    ) -> Outputs:
        _check_parts(potentials, params)
        parts: dict[int, Outputs] = {
            k: _applied(potentials[k], params[k], system, neighbors, key, k) for k in first
        }
        if first:
            given = _sum_outputs(list(parts.values()), [potentials[k].uses for k in first])
        for k in later:
            parts[k] = _reading(potentials[k], params[k], system, neighbors, given)
        order = range(len(potentials))
        return _sum_outputs([parts[k] for k in order], [potentials[k].uses for k in order])

    def apply(
        params: Params, system: System, neighbors: Any = None, key: Array | None = None
    ) -> Outputs:
        return evaluate(params, system, neighbors, key, None)

    def reading(
        params: Params, system: System, neighbors: Any = None, given: Outputs | None = None
    ) -> Outputs:
        return evaluate(params, system, neighbors, None, given)

    def needs(params: Params) -> tuple[float, ...]:
        _check_parts(potentials, params)
        each = (p.cutoffs_with(own) for p, own in zip(potentials, params, strict=True))
        return tuple(sorted({cutoff for own in each for cutoff in own}))

    def refuses(params: Params) -> Mapping[str, str]:
        _check_parts(potentials, params)
        each = (p.refused_with(own) for p, own in zip(potentials, params, strict=True))
        return {name: reason for own in each for name, reason in own.items()}

    return Potential(
        init,
        apply if first else reading,
        cutoffs=tuple(sorted({c for p in potentials for c in p.cutoffs})),
        uses=frozenset().union(*(p.uses for p in potentials)),
        spec=_spec("add", potentials),
        needs=None if all(p.needs is None for p in potentials) else needs,
        padding=all(p.padding for p in potentials),
        random_apply=None if all(p.random_apply is None for p in potentials) else apply,
        refuses=None if all(p.refuses is None for p in potentials) else refuses,
        reads=frozenset() if first else frozenset().union(*(p.reads for p in potentials)),
    )


def _reading(
    potential: Potential, params: Params, system: System, neighbors: Any, given: Outputs | None
) -> Outputs:
    """With the outputs of other parts."""
    missing = potential.reads - set(given or {})
    if given is not None and missing:
        raise ValueError(
            f"a part of this sum reads {', '.join(sorted(missing))}, which no other part gives; "
            f"the others give {', '.join(sorted(given))}"
        )
    apply: Any = potential.apply
    return apply(params, system, neighbors, given)


def _applied(
    potential: Potential,
    params: Params,
    system: System,
    neighbors: Any,
    key: Array | None,
    index: int = 0,
) -> Outputs:
    """At random with a key, where there is something random."""
    if key is None or potential.random_apply is None:
        return potential.apply(params, system, neighbors)
    return potential.random_apply(params, system, neighbors, jax.random.fold_in(key, index))


def _check_parts(potentials: tuple[Potential, ...], params: Params) -> None:
    if not isinstance(params, tuple | list) or len(params) != len(potentials):
        raise ValueError(f"a sum of {len(potentials)} potentials needs as many parameters")


def _sum_outputs(parts: list[Outputs], uses: list[frozenset[str]]) -> Outputs:
    """Add outputs by name; those that would be wrong as sums of some parts only are not offered."""
    total: dict[str, Array] = {}
    for outputs in parts:
        for name, value in outputs.items():
            total[name] = total[name] + value if name in total else value
    if not all("atomic_energies" in outputs for outputs in parts):
        total.pop("atomic_energies", None)  # must sum to the energy
    by_field = any(
        "electric_field" in used and "dipole" not in outputs
        for outputs, used in zip(parts, uses, strict=True)
    )
    if "dipole" in total and by_field:
        raise ValueError(
            "one potential gives its dipole as an output and another through the electric field: "
            "their sum has no single dipole; let both do it one way"
        )
    return total


def scale_shift(
    potential: Potential, scale: float, shift: Float[np.ndarray, " elements"] | float
) -> Potential:
    r"""Rescale energies and add reference energies, :math:`E = s\,E' + \sum_i e(Z_i)`.

    Offsets are added in the widest float available, so that a float32 network keeps its digits.

    Args:
        potential: Potential in standardised units.
        scale: Factor of the energy (and of ``atomic_energies``), eV.
        shift: Energy per atom in eV: one number, or an array indexed by the atomic number.

    Raises:
        ValueError: If ``shift`` is no scalar or vector. Elements beyond a vector give NaN energies.
    """
    offsets = np.asarray(shift, np.float64)
    if offsets.ndim > 1:
        raise ValueError(f"shift must be a number or indexed by Z, got shape {offsets.shape}")

    def apply(
        params: Params, system: System, neighbors: Any = None, key: Array | None = None
    ) -> Outputs:
        outputs = dict(_applied(potential, params, system, neighbors, key))
        wide = jnp.promote_types(outputs["energy"].dtype, jnp.asarray(offsets).dtype)
        table = jnp.asarray(offsets, wide)
        per_atom = (
            jnp.full(system.numbers.shape, table)
            if offsets.ndim == 0
            else jnp.take(table, system.numbers, mode="fill", fill_value=jnp.nan)
        )
        if "atomic_energies" in outputs:
            atomic = scale * outputs["atomic_energies"].astype(wide)
            outputs["atomic_energies"] = jnp.where(system.numbers > 0, atomic + per_atom, 0.0)
        outputs["energy"] = scale * outputs["energy"].astype(wide) + sum_atoms(system, per_atom)
        return outputs

    return Potential(
        potential.init,
        apply,
        potential.cutoffs,
        potential.uses,
        _spec("scale_shift", (potential,), scale=float(scale), shift=offsets),
        potential.needs,
        potential.padding,
        None if potential.random_apply is None else apply,
        potential.refuses,
    )


def as_pytree(energy_fn: Callable[..., Array]) -> Callable[..., Array]:
    """Make any energy function passable through ``jit``: plain functions become a Partial."""
    leaves = jax.tree.leaves(energy_fn)
    if any(leaf is energy_fn for leaf in leaves):
        return jax.tree_util.Partial(energy_fn)
    return energy_fn
