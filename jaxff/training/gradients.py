"""Gradients of a loss over one batch or many, in parts and on several devices.

The mean of a term is a sum over a count that no parameter enters. Counts are added up over all
batches first; what each batch adds to the gradient is then known without the others.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxff.data.batch import Batch
from jaxff.potential import Bound, Potential, bind
from jaxff.system import System
from jaxff.training.batch import leading
from jaxff.training.losses import Loss, Sums
from jaxff.training.selection import combine
from jaxff.types import Array, Outputs, Params

__all__ = ["gradients"]


def gradients(
    potential: Potential,
    loss: Loss,
    trained: Params,
    fixed: Params,
    batch: Batch,
    key: Array,
    step: Array,
    *,
    accumulate: int = 1,
    mesh: Mesh | None = None,
) -> tuple[Params, dict[str, Sums]]:
    """Gradient of the loss by some parameters, and the sums of its terms.

    Args:
        potential: What is trained.
        loss: What is minimised.
        trained: Parameters to differentiate by, ``None`` in the place of others.
        fixed: The others.
        batch: One batch, or several along a leading axis.
        key: For random directions and for what is left out at random; every batch draws its own.
        step: For the weights.
        accumulate: Parts in which a leading axis is done.
        mesh: Devices over which it is spread.

    Raises:
        ValueError: If the leading axis cannot be shared out.
    """
    count, shares = leading(batch), accumulate * (1 if mesh is None else mesh.size)
    if count == 0 and shares == 1:
        counts, weights = loss.counts(batch), loss.weights(step)
        return _part(potential, loss, fixed, _scales(counts, weights), trained, batch, key)
    if count == 0 or count % shares:
        devices = 1 if mesh is None else mesh.size
        raise ValueError(
            f"{accumulate} parts on {devices} devices need batches stacked along a leading axis of "
            f"a multiple of {shares}, got {count or 'no such axis'}: see stack_batches"
        )
    indices, weights = jnp.arange(count), loss.weights(step)
    work = partial(_shared, potential, loss, accumulate, None if mesh is None else "batch")
    if mesh is None:
        return work(trained, fixed, batch, indices, key, weights)
    spread = P(mesh.axis_names[0])
    # The gradient is summed by hand, so nothing has to follow what varies over the devices.
    return jax.shard_map(
        work,
        mesh=mesh,
        in_specs=(P(), P(), spread, spread, P(), P()),
        out_specs=P(),
        check_vma=False,
    )(trained, fixed, batch, indices, key, weights)


def _scales(counts: dict[str, Array], weights: dict[str, Array]) -> dict[str, Array]:
    return {name: weights[name] / jnp.maximum(count, 1) for name, count in counts.items()}


def _part(
    potential: Potential,
    loss: Loss,
    fixed: Params,
    scales: dict[str, Array],
    trained: Params,
    batch: Batch,
    key: Array,
) -> tuple[Params, dict[str, Sums]]:
    """What one batch adds to gradient and sums."""

    def total(trained: Params) -> tuple[Array, dict[str, Sums]]:
        sums = loss.sums(_in_training(potential, combine(trained, fixed), key), batch, key)
        return sum((scales[n] * sums[n].total for n in sums), start=jnp.zeros(())), sums

    gradient, sums = jax.grad(total, has_aux=True)(trained)
    return gradient, sums


def _in_training(potential: Potential, params: Params, key: Array) -> Bound:
    """The energy function of one step: what is left out at random is so for all labels alike."""
    if potential.random_apply is None:
        return bind(potential, params)
    # Directions are drawn with the key itself.
    return bind(_with_key(potential), (params, jax.random.fold_in(key, 1)))


@lru_cache(maxsize=64)
def _with_key(potential: Potential) -> Potential:
    """The potential as it is in training, whose parameters are (parameters, key)."""
    random: Any = potential.random_apply

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        own, key = params
        return random(own, system, neighbors, key)

    return Potential(
        potential.init,
        apply,
        potential.cutoffs,
        potential.uses,
        needs=lambda params: potential.cutoffs_with(params[0]),
        padding=potential.padding,
    )


def _shared(
    potential: Potential,
    loss: Loss,
    accumulate: int,
    axis: str | None,
    trained: Params,
    fixed: Params,
    batch: Batch,
    indices: Array,
    key: Array,
    weights: dict[str, Array],
) -> tuple[Params, dict[str, Sums]]:
    """Gradient and sums of the batches of one device, added up over all devices."""

    def total(tree: Any) -> Any:
        return tree if axis is None else jax.lax.psum(tree, axis)

    counts = jax.tree.map(jnp.sum, jax.vmap(loss.counts)(batch))
    part = partial(_part, potential, loss, fixed, _scales(total(counts), weights), trained)

    def lanes(batch: Batch, indices: Array) -> Any:
        if len(indices) == 1:  # plain programs are better than mapped ones
            return part(jax.tree.map(lambda leaf: leaf[0], batch), one_key(indices[0]))
        found = jax.vmap(lambda b, i: part(b, one_key(i)))(batch, indices)
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), found)

    def one_key(index: Array) -> Array:
        return jax.random.fold_in(key, index)

    if accumulate == 1:
        return total(lanes(batch, indices))
    split = jax.tree.map(
        lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), (batch, indices)
    )
    empty = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(lanes, *jax.tree.map(lambda leaf: leaf[0], split)),
    )
    added, _ = jax.lax.scan(
        lambda carry, parts: (jax.tree.map(jnp.add, carry, lanes(*parts)), None), empty, split
    )
    return total(added)
