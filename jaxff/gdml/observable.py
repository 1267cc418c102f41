r"""Labels that users define: linear observations of an energy by functions of functions.

An operator L takes an energy function and returns a function of a system, as those of
:mod:`jaxff.derivatives` do. If it only contains derivatives of the energy at the system itself, up
to second order, coefficients :math:`\alpha` of its values act through

.. math:: \langle L f, \alpha\rangle = b\,f + Df[t] + \sum_{ij} W_{ij}\,\partial_i\partial_j f .

Applied to a general quadratic function of positions, cell and field about the system, this is
linear in its coefficients, and b, t and W are the derivatives by them: one reverse pass through the
operator as it stands gives them exactly, and nobody derives anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.system import System
from jaxff.types import Array

__all__ = ["Observable", "constant_part", "functional", "verify"]

_TOLERANCE = 1e-8
"""Relative difference between an operator and its functional above which it is refused."""


@dataclass(frozen=True)
class Observable:
    """A linear observation of the energy, to be fitted: a key of the labels of a fit.

    A directional second derivative, for instance::

        def bend(energy_fn):
            return lambda system, neighbors=None: jnp.vdot(
                along, hessian_vector(energy_fn)(system, along, neighbors)
            )

        gdml.fit(potential, params, {Observable("bend", bend, "", 2): values}, ...)

    Attributes:
        name: A word, by which noise and coefficients are named.
        operator: Takes an energy function of ``(system, neighbors=None)`` and returns a function of
            the same arguments with an array as its value, for single systems. It must be linear in
            the energy, and a function at module level if compiled programs are to be shared.
        shape: Shape of the value for one system in words, such as ``"atoms 3"``; empty for one
            number.
        order: Highest derivative of the energy in it: 0, 1, or 2. Second ones are by positions.

    Raises:
        ValueError: If name, order or shape are unusable.
    """

    name: str
    operator: Callable[[Any], Callable[..., Array]]
    shape: str
    order: int

    def __post_init__(self):
        if not self.name.isidentifier():
            raise ValueError(f"the name of an observable must be one word, got {self.name!r}")
        if self.order not in (0, 1, 2):
            raise ValueError(
                f"observable {self.name!r}: the order must be 0, 1 or 2, got {self.order}"
            )
        if not all(word == "atoms" or word.isdecimal() for word in self.shape.split()):
            raise ValueError(
                f"observable {self.name!r}: the shape must be of numbers and 'atoms', such as "
                f"'atoms 3', got {self.shape!r}"
            )

    def dims(self, atoms: int) -> tuple[int, ...]:
        """Shape of the value for one system of ``atoms`` atoms."""
        return tuple(atoms if word == "atoms" else int(word) for word in self.shape.split())

    def __call__(self, energy_fn: Any, system: System, neighbors: Any = None) -> Array:
        """The value for a single system."""
        return jnp.asarray(self.operator(energy_fn)(system, neighbors))


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class _Quadratic:
    """An energy function: a general quadratic one about a system.

    Attributes:
        center: The system.
        weights: Coefficients: ``value``; by name of a field of the system, its first derivative;
            ``bent``, the matrix of the quadratic form of the positions.
    """

    center: System
    weights: dict[str, Array]
    uses = frozenset({"charge", "spin", "electric_field"})

    def __call__(self, system: System, neighbors: Any = None) -> Array:
        del neighbors
        total = self.weights["value"]
        for name in _fields(self.center):
            if name in self.weights:
                shift = getattr(system, name) - getattr(self.center, name)
                total = total + jnp.vdot(self.weights[name], shift)
        if "bent" in self.weights:
            shift = jnp.ravel(system.positions - self.center.positions)
            total = total + 0.5 * shift @ self.weights["bent"] @ shift
        return total

    def tree_flatten(self):
        """System and coefficients are the children."""
        return (self.center, self.weights), None

    @classmethod
    def tree_unflatten(cls, _, children) -> "_Quadratic":
        """Rebuild around (possibly placeholder) arrays."""
        return cls(*children)


def _fields(system: System) -> tuple[str, ...]:
    """Fields by which an energy is derived."""
    given = ("positions", "cell", "electric_field")
    return tuple(name for name in given if getattr(system, name) is not None)


def functional(
    observables: tuple[Observable, ...], system: System, coefficients: dict[str, Array]
) -> dict[str, Array]:
    """Weights of the energy of a single system and its derivatives, for coefficients by name.

    Returns:
        ``value`` b; with first derivatives ``positions`` and, where the system has them, ``cell``
        and ``electric_field``, together t; with second ones ``bent`` W, ``(3 atoms, 3 atoms)``.
    """
    order = max(observable.order for observable in observables)
    zero = {"value": jnp.zeros(())}
    if order > 0:
        zero |= {name: jnp.zeros(getattr(system, name).shape) for name in _fields(system)}
    if order > 1:
        zero["bent"] = jnp.zeros((3 * system.atom_count,) * 2)

    def seen(weights: dict[str, Array]) -> list[Array]:
        return [observable(_Quadratic(system, weights), system) for observable in observables]

    _, pull = jax.vjp(seen, zero)
    return pull([coefficients[observable.name] for observable in observables])[0]


def constant_part(observable: Observable, references: System) -> Array:
    """What an observable gives for an energy of 1 eV everywhere, leading axis: reference."""
    one = {"value": jnp.ones(())}
    return jax.vmap(lambda system: observable(_Quadratic(system, one), system))(references)


def verify(observable: Observable, system: System) -> None:
    """Try an observable at one system: its shape, and its functional against itself.

    Raises:
        ValueError: If the shape is not the declared one, or it is not what
            :class:`Observable` asks for.
    """
    rng = np.random.default_rng(0)
    fields = {name: getattr(system, name) for name in _fields(system)}
    slopes = {name: jnp.asarray(rng.normal(size=own.shape)) for name, own in fields.items()}
    # By these no kernel is derived: such a label would be seen as zero.
    others = {name: getattr(system, name) for name in ("charge", "spin")}
    others = {name: own for name, own in others.items() if own is not None}

    def wave(moved: System, neighbors: Any = None) -> Array:
        """Has derivatives of every order, each different."""
        del neighbors
        shift = sum(jnp.sum(getattr(moved, name) - own) for name, own in others.items())
        return jnp.exp(_Quadratic(system, {"value": jnp.zeros(()), **slopes})(moved) + shift)

    expected = observable.dims(system.atom_count)
    found = jax.eval_shape(lambda s: observable(jax.tree_util.Partial(wave), s), system).shape
    if found != expected:
        raise ValueError(
            f"observable {observable.name!r} must give an array of shape {expected} "
            f"({observable.shape!r}), got {found}"
        )
    along = jnp.asarray(rng.normal(size=expected))

    @jax.jit
    def both(system: System) -> tuple[Array, list[Array]]:
        direct = jnp.vdot(along, observable(jax.tree_util.Partial(wave), system))
        own = functional((observable,), system, {observable.name: along})
        parts = [own["value"], *(jnp.vdot(own[n], slopes[n]) for n in fields if n in own)]
        if "bent" in own:
            slope = jnp.ravel(slopes["positions"])
            parts.append(slope @ own["bent"] @ slope)
        return direct, parts

    direct, parts = both(system)
    size = abs(float(direct)) + sum(abs(float(part)) for part in parts)
    if size == 0.0:
        raise ValueError(
            f"observable {observable.name!r} is zero for an energy with all derivatives: nothing "
            "can be fitted to it"
        )
    difference = abs(float(direct) - float(sum(parts)))
    if not difference <= _TOLERANCE * size:
        raise ValueError(
            f"observable {observable.name!r} differs by {difference:.1e} of {size:.1e} from its "
            "derivatives of the energy: it must be linear in the energy, take it at the system "
            f"itself, and have no derivatives beyond order {observable.order} as declared, nor "
            "second ones by cell or field, nor any by charge or spin"
        )
