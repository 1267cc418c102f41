"""Ensembles: one potential of several members, whose spread says how sure they are.

Members share their compiled code: their parameters, and the states of their training, have a
leading axis over which everything is mapped::

    steps = ensemble_trainer(trainer(potential, loss, optimizer), 4)
    state = steps.init(key, batch)                  # every member from a key of its own
    state, info = steps.step(state, batch)
    energy_fn = bind(ensemble(potential), state.averaged)
    energy_fn.outputs(system)["energy_std"]
    spread(energy_fn, ["forces"])(system)["forces_std"]
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxff.data.batch import Batch
from jaxff.derivatives import observe
from jaxff.potential import Bound, Potential, bind
from jaxff.system import System
from jaxff.training.loop import Info, State, Trainer
from jaxff.types import Array, Outputs, Params

__all__ = [
    "Ensemble",
    "EnsembleTrainer",
    "ensemble",
    "ensemble_trainer",
    "member",
    "spread",
    "stack_members",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Ensemble(Potential):
    """A potential made by :func:`ensemble`.

    Attributes:
        one: The potential of each member.
    """

    one: Potential


@functools.lru_cache(maxsize=64)
def ensemble(potential: Potential, members: int | None = None) -> Ensemble:
    """The mean of potentials that differ in their parameters only.

    All outputs are means over the members, so that forces and other derivatives are those of the
    mean energy; ``energy_std`` is the standard deviation of the members' energies (eV, of the
    population).

    Args:
        potential: Of each member.
        members: How many ``init`` makes, each from a key of its own; parameters that are stacked
            may have any number.
    """

    def init(key: Array, system: System, neighbors: Any = None, **named: Any) -> Params:
        if members is None:
            raise ValueError("ensemble(potential, members) must say how many members to make")
        keys = jax.random.split(key, members)
        return stack_members([potential.init(k, system, neighbors, **named) for k in keys])

    def apply(
        params: Params, system: System, neighbors: Any = None, key: Array | None = None
    ) -> Outputs:
        found = _each(potential, params, system, neighbors, key)
        means = {name: jnp.mean(value, axis=0) for name, value in found.items()}
        return {**means, "energy_std": jnp.std(found["energy"], axis=0)}

    def needs(params: Params) -> tuple[float, ...]:
        return potential.cutoffs_with(member(params, 0))

    return Ensemble(
        init,
        apply,
        potential.cutoffs,
        potential.uses,
        needs=None if potential.needs is None else needs,
        padding=potential.padding,
        random_apply=None if potential.random_apply is None else apply,
        one=potential,
    )


def _each(
    potential: Potential, params: Params, system: System, neighbors: Any, key: Array | None
) -> Outputs:
    """Outputs of all members; with a key at random, each by itself."""
    random = potential.random_apply
    if key is None or random is None:
        return jax.vmap(lambda own: potential.apply(own, system, neighbors))(params)
    keys = jax.random.split(key, len(jax.tree.leaves(params)[0]))
    return jax.vmap(lambda own, key: random(own, system, neighbors, key))(params, keys)


def stack_members(params: Sequence[Params]) -> Params:
    """Parameters of an ensemble from those of its members."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def member(params: Params, index: int) -> Params:
    """Parameters of one member."""
    return jax.tree.map(lambda leaf: leaf[index], params)


def spread(energy_fn: Bound, names: Iterable[str]) -> Callable[..., dict[str, Array]]:
    """Mean over the members and standard deviation of observables.

    Args:
        energy_fn: Bound :func:`ensemble`.
        names: As for :func:`jaxff.observe`.

    Returns:
        Function of ``(system, neighbors=None)`` giving ``{name: mean, name_std: deviation}``, each
        component by itself.

    Raises:
        TypeError: If it is no ensemble, or ``names`` is a single string.
    """
    if not isinstance(energy_fn.potential, Ensemble):
        raise TypeError("spread takes a bound ensemble: bind(ensemble(potential), params)")
    if isinstance(names, str):
        raise TypeError(f"names must be several, such as [{names!r}], got one string")
    return Partial(_Spread(energy_fn.potential.one, tuple(names)), energy_fn.params)


@dataclass(frozen=True)
class _Spread:
    """The function behind :func:`spread`; equal ones compare equal, as jit's cache needs."""

    potential: Potential
    names: tuple[str, ...]

    def __call__(self, params: Params, system: System, neighbors: Any = None) -> dict[str, Array]:
        found = jax.vmap(
            lambda own: observe(bind(self.potential, own), self.names)(system, neighbors)
        )(params)
        means = {name: jnp.mean(value, axis=0) for name, value in found.items()}
        return {**means, **{f"{n}_std": jnp.std(value, axis=0) for n, value in found.items()}}


@dataclass(frozen=True, eq=False)
class EnsembleTrainer:
    """Training of all members at once; made by :func:`ensemble_trainer`.

    Attributes:
        trainer: Of one member.
        members: How many.
    """

    trainer: Trainer
    members: int

    def init(self, key: Array, batch: Batch, params: Params | None = None) -> State:
        """States of all members along a leading axis; ``params`` are those of the ensemble."""
        keys = jax.random.split(key, self.members)
        each = [
            self.trainer.init(k, batch, None if params is None else member(params, i))
            for i, k in enumerate(keys)
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    def update(self, state: State, batch: Batch) -> tuple[State, Info]:
        """One step of every member on the same batch."""
        return jax.vmap(self.trainer.update, in_axes=(0, None))(state, batch)

    @functools.cached_property
    def step(self) -> Callable[[State, Batch], tuple[State, Info]]:
        """:meth:`update`, compiled; the buffers of the state it is given are used again."""
        return jax.jit(functools.partial(_ensemble_training_step, self), donate_argnums=0)


def _ensemble_training_step(
    steps: EnsembleTrainer, state: State, batch: Batch
) -> tuple[State, Info]:
    return steps.update(state, batch)


def ensemble_trainer(trainer: Trainer, members: int) -> EnsembleTrainer:
    """Train members that differ in their first parameters and in what is random in steps only.

    Raises:
        ValueError: For fewer than two members, or a trainer that spreads over devices.
    """
    if members < 2:
        raise ValueError(f"an ensemble has at least two members, got {members}")
    if trainer.mesh is not None:
        raise ValueError("members are trained on one device: make the trainer without devices")
    return EnsembleTrainer(trainer, members)
