"""Which geometries of a data set a kernel model already holds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml.jets import is_jet
from jaxff.gdml.potential import KernelPotential
from jaxff.kernels.algebra import Scaled, Sum
from jaxff.kernels.protocol import stage
from jaxff.system import System
from jaxff.types import Array, Bool, Params

__all__ = ["shared_geometries"]

_TOLERANCE = 1e-6  # of the norm: more than float32 storage loses, far less than a step of dynamics
_SEED = 0


def shared_geometries(
    potential: KernelPotential, params: Params, systems: System
) -> Bool[np.ndarray, " systems"]:
    """Systems whose features are those of a reference of the model.

    A kernel model carries the features of its training geometries, so this needs no record of
    where they came from, and holds for copies and subsets of the training file.

    Args:
        potential: A kernel potential.
        params: Its parameters.
        systems: Stack of the same atoms in the same order.

    Raises:
        ValueError: If ``systems`` has another number of atoms than the model.
    """
    atoms = params["numbers"].shape[0]
    if systems.atom_count != atoms:
        raise ValueError(f"the kernel was made for {atoms} atoms, got {systems.atom_count}")
    expansion = params["expansion"]
    if is_jet(expansion):
        known = np.asarray(_flat_rows(expansion["points"]))
    else:
        known = np.asarray(_flat_rows(_points(potential.kernel, expansion)))
    queries = np.asarray(_features(potential.kernel, params["hyper"], systems))
    # Equal rows agree in any projection: one sort of the references finds the few candidates.
    line = np.random.default_rng(_SEED).normal(size=known.shape[1])
    line /= np.linalg.norm(line)
    order = np.argsort(known @ line)
    sorted_line = (known @ line)[order]
    reach = _TOLERANCE * np.linalg.norm(queries, axis=1)
    first = np.searchsorted(sorted_line, queries @ line - reach)
    last = np.searchsorted(sorted_line, queries @ line + reach)
    found = np.zeros(len(queries), bool)
    for index in np.flatnonzero(last > first):
        near = known[order[first[index] : last[index]]]
        found[index] = np.min(np.linalg.norm(near - queries[index], axis=1)) <= reach[index]
    return found


def _points(kernel: Any, expansion: dict[str, Any]) -> Any:
    """Features of the references, in the structure of those of queries."""
    if isinstance(kernel, Sum):
        return tuple(_points(own, expansion[name]) for name, own in kernel.parts)
    if isinstance(kernel, Scaled):
        return _points(kernel.kernel, expansion)
    rows = expansion["features"] + expansion["center"]
    if "species" not in expansion:
        return rows
    species = expansion["species"]  # there is a row for each atom
    return {"features": rows.reshape(*species.shape, -1), "numbers": species}


def _features(kernel: Any, hyper: dict[str, Array], systems: System) -> Array:
    def mapped(hyper: dict[str, Array], systems: System) -> Array:
        reference = stage(kernel, "reference")
        return _flat_rows(jax.lax.map(lambda s: reference(hyper, s), systems, batch_size=256))

    return jax.jit(mapped)(hyper, systems)


def _flat_rows(features: Any) -> Array:
    """Features of each system in one row, whatever their structure."""
    leaves = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(features)]
    return jnp.concatenate(leaves, axis=1)
