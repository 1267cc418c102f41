"""Tiny batches and potentials that the tests of training share; made without compiling anything."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff import System, neighbor_list
from jaxff.data.batch import Batch
from jaxff.networks import from_linen
from jaxff.potential import Potential

CUTOFF = 3.0
ELEMENTS = np.array([8, 1, 1, 6])


class Message(nn.Module):
    """The smallest message passing there is."""

    @nn.compact
    def __call__(self, system, graphs):
        (edges,) = graphs
        features = nn.Embed(10, 2, name="embed")(system.numbers)
        weights = nn.Dense(2, name="filter")(edges.distances[:, None])
        features += edges.sum(edges.masked(edges.at_others(features) * weights))
        out = nn.Dense(2, name="readout")(jnp.tanh(features))
        return {"atomic_energies": out[:, 0], "partial_charges": out[:, 1]}


NETWORK = from_linen(Message(), [CUTOFF], dtype=jnp.float64)


def _spring(params, system, neighbors=None):
    x, y = system.positions[..., 0], system.positions[..., 1]
    per_atom = 0.5 * params["k"] * jnp.sum(system.positions**2, -1) + params["c"] * (x * y) ** 2
    if system.structure is None:
        return {"energy": jnp.sum(per_atom, -1)}
    per_atom = jnp.where(system.numbers > 0, per_atom, 0)
    size = len(system.structure_mask)
    return {"energy": jax.ops.segment_sum(per_atom, system.structure, size)}


SPRING = Potential(lambda key, system, neighbors=None: {"k": 1.0, "c": 0.5}, _spring)
"""Energies with derivatives by hand, the sum over atoms of k r²/2 + c (x y)²."""


def _loose(params, system, neighbors, key):
    left = jnp.where(jax.random.bernoulli(key), params["c"], 0.0)
    return _spring({**params, "c": left}, system)


LOOSE = dataclasses.replace(SPRING, random_apply=_loose)
"""The same, of which the second part is left out in every other step of training."""


def batch(seed, sizes=(3, 2), *, labels=("energy", "forces"), missing=(), cell=None, lists=True):
    """A pack with two padding atoms, a padding structure and random labels.

    Pairs of label and structure in ``missing`` have no label.
    """
    rng = np.random.default_rng(seed)
    count, atoms = len(sizes), sum(sizes)
    positions = np.concatenate([rng.normal(size=(atoms, 3)), np.zeros((2, 3))])
    numbers = np.concatenate([*(ELEMENTS[:n] for n in sizes), [0, 0]])
    cells = None if cell is None else np.stack([cell] * count + [0 * cell])
    pbc = None if cell is None else np.zeros((count + 1, 3), bool)
    structure = np.repeat(np.arange(count + 1), [*sizes, 2])
    mask = np.arange(count + 1) < count
    system = System(positions, numbers, cells, pbc, structure=structure, structure_mask=mask)
    shapes = {
        "energy": (count + 1,), "forces": (atoms + 2, 3), "stress": (count + 1, 3, 3),
        "hessian": (atoms + 2, 3, max(sizes), 3), "hessian_vector": (atoms + 2, 3),
        "hessian_direction": (atoms + 2, 3), "partial_charges": (atoms + 2,),
    }  # fmt: skip
    values = {name: jnp.asarray(rng.normal(size=shapes[name])) for name in labels}
    masks = {name: np.ones(count + 1, bool) for name in labels}
    for name, index in missing:
        masks[name][index] = False
    neighbors = neighbor_list(CUTOFF, capacity=3.0).allocate(system) if lists else None
    return Batch(system, neighbors, values, {k: jnp.asarray(v) for k, v in masks.items()})


def params(seed=0):
    """Parameters of the network."""
    example, rng = batch(0), np.random.default_rng(seed)
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), example.system, example.neighbors)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)
