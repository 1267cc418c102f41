"""The border between flax modules and potentials: precision, batches, sums over atoms."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxff.networks.graph import Graph, graph
from jaxff.potential import Potential, Spec
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.types import Array, Outputs, Params

__all__ = ["from_linen"]


def from_linen(
    module: nn.Module,
    cutoffs: Sequence[float] = (),
    *,
    uses: Sequence[str] = (),
    dtype: Any = jnp.float32,
    spec: Spec | None = None,
    random: bool = False,
) -> Potential:
    """Make a potential of a flax module; the only place where precision changes.

    The module is called as ``module(system, graphs)``: a single system or a pack whose floating
    fields are in ``dtype``, and one :class:`jaxff.networks.graph.Graph` per cutoff. It returns
    outputs by name, in eV, Å, e; ``"atomic_energies"`` must be among them, of shape ``(atoms,)``.
    Their sum within each structure is the ``"energy"``, added in the precision of the positions,
    which all outputs have. Stacks are mapped over. Differences of positions are taken before the
    cast, and positions are centred, so that float32 keeps its digits far from the origin.

    Args:
        module: The module, without state besides parameters.
        cutoffs: Radii in Å for which it needs neighbours.
        uses: Which of ``charge``, ``spin``, ``electric_field`` it reads.
        dtype: Precision in which it runs; parameters are cast to it.
        spec: How to rebuild the potential from a file.
        random: Whether the module draws from the stream ``"dropout"`` where there is one
            (``self.has_rng("dropout")``), which there is in training only.
    """
    cutoffs = tuple(float(c) for c in cutoffs)

    def inputs(system: System, neighbors: Any) -> tuple[System, tuple[Graph, ...]]:
        return _cast(_centred(system), dtype), tuple(
            graph(system, neighbors.within(cutoff), dtype) for cutoff in cutoffs
        )

    def init(key: Array, system: System, neighbors: Any = None, **named: Any) -> Params:
        if named:
            raise TypeError(f"{type(module).__name__} takes no {', '.join(sorted(named))}")
        if _is_stack(system):
            return init(key, *jax.tree.map(lambda leaf: leaf[0], (system, neighbors)))
        given = inputs(system, neighbors)
        # Compiled as a whole: of the network only the shapes are used, which then costs nothing.
        # Only the key is traced: modules may look at the elements.
        make = jax.jit(lambda key: module.init(key, *given)["params"])
        return _cast(make(key), dtype)

    def apply(
        params: Params, system: System, neighbors: Any = None, key: Array | None = None
    ) -> Outputs:
        if _is_stack(system):
            keys = None if key is None else jax.random.split(key, system.batch_shape[0])
            return jax.vmap(lambda s, n, k: apply(params, s, n, k))(system, neighbors, keys)
        outputs = module.apply(
            {"params": _cast(params, dtype)},
            *inputs(system, neighbors),
            rngs=None if key is None else {"dropout": key},
        )
        wide = _cast(_named(outputs, module), system.positions.dtype)
        return {**wide, "energy": sum_atoms(system, wide["atomic_energies"])}

    return Potential(
        init, apply, cutoffs, frozenset(uses), spec, random_apply=apply if random else None
    )


def _is_stack(system: System) -> bool:
    return not system.is_packed and bool(system.batch_shape)


def _named(outputs: Any, module: nn.Module) -> dict[str, Array]:
    if not isinstance(outputs, Mapping) or "atomic_energies" not in outputs:
        got = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise TypeError(
            f"{type(module).__name__} must return outputs by name with 'atomic_energies' among "
            f"them, got {got}"
        )
    return dict(outputs)


def _cast(tree: Any, dtype: Any) -> Any:
    """Every floating leaf in the given precision."""

    def leaf(value: Any) -> Any:
        value = jnp.asarray(value)
        return value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value

    return jax.tree.map(leaf, tree)


def _centred(system: System) -> System:
    """Positions relative to the mean of each structure, where no cell ties them to an origin."""
    if system.cell is not None:
        return system
    one = jnp.ones_like(system.positions[..., :1])
    count = jnp.maximum(sum_atoms(system, one), 1.0)
    mean = jax.lax.stop_gradient(sum_atoms(system, system.positions) / count)
    return system.replace(positions=system.positions - to_atoms(system, mean))
