"""The product of a kernel matrix with a vector, its rows shared out over the devices of a mesh.

References, coefficients and features are small and held by all; the work on pairs is what is
divided. Every device contracts and evaluates its own references, against the features of all.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxff.gdml import expansion as exp
from jaxff.gdml import prediction
from jaxff.kernels.kernel import Kernel
from jaxff.linalg.parallel import axis, local, own_devices, replicate, spread
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["Placed", "assign", "labels_of", "place", "product"]


class Placed(NamedTuple):
    """References and hyperparameters on the devices.

    Attributes:
        references: Slices of equal length, those of the last devices filled up by repetition.
        hyper: A copy on each device.
        places: Where each reference stands among the slices, ``(N,)``.
        slots: The reference at each place, ``(devices * slice,)``.
    """

    references: System
    hyper: Any
    places: Array
    slots: Array


def assign(count: int, devices: int) -> list[np.ndarray]:
    """References of each device: as many for all, or one more for the first ones."""
    return np.array_split(np.arange(count), devices)


def labels_of(references: np.ndarray, count: int, block: int, energies: bool) -> np.ndarray:
    """Rows of the labels of some references: their forces, then their energies."""
    rows = (references[:, None] * block + np.arange(block)).ravel()
    return np.concatenate([rows, count * block + references]) if energies else rows


def place(mesh: Mesh, hyper: Any, references: System) -> Placed:
    """Put references and hyperparameters where they are needed, once for all products."""
    count = references.positions.shape[0]
    shares = assign(count, mesh.size)
    length = len(shares[0])
    slots = np.stack([np.resize(share, length) for share in shares])
    places = np.concatenate([i * length + np.arange(len(s)) for i, s in enumerate(shares)])
    own = own_devices(mesh)

    def shared_out(leaf: Array) -> Array:
        host = np.asarray(leaf)
        return spread(mesh, [host[slots[i]] for i in own])

    return Placed(
        jax.tree.map(shared_out, references),
        jax.tree.map(lambda leaf: replicate(mesh, jnp.asarray(leaf)), hyper),
        replicate(mesh, jnp.asarray(places)),
        replicate(mesh, jnp.asarray(slots.ravel())),
    )


def product(
    static: tuple[Kernel, bool, bool], mesh: Mesh, placed: Placed, vector: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Labels predicted at the references with the vector as coefficients.

    Args:
        static: The kernel, whether energies are labels, and whether pairs are done in float32.
        mesh: The devices.
        placed: From :func:`place`.
        vector: The coefficients.
    """
    return local(_product(static, mesh, placed, replicate(mesh, vector)))


@partial(jax.jit, static_argnums=(0, 1))
def _product(static: Any, mesh: Mesh, placed: Placed, vector: Array) -> Array:
    kernel, energies, lower = static
    count = len(placed.places)
    name = axis(mesh)
    split = count * 3 * placed.references.atom_count
    coefficients = vector[:split].reshape(count, -1, 3)[placed.slots]
    energy_weights = vector[split:] if energies else None

    def of_slice(references, coefficients, placed_hyper, places, energy_weights):
        mine = exp.contract(kernel, placed_hyper, references, coefficients)
        features, weights = (jax.lax.all_gather(leaf, name, tiled=True)[places] for leaf in mine)
        expansion = exp.assemble_for(kernel, features, weights, energy_weights)
        expansion = exp.lowered(expansion) if lower else expansion
        return prediction.predict_labels(kernel, placed_hyper, expansion, references)

    energy, forces = jax.shard_map(
        of_slice, mesh=mesh, in_specs=(P(name), P(name), P(), P(), P()), out_specs=P(name)
    )(placed.references, coefficients, placed.hyper, placed.places, energy_weights)
    everywhere = NamedSharding(mesh, P())
    energy, forces = (
        jax.lax.with_sharding_constraint(leaf, everywhere)[placed.places]
        for leaf in (energy, forces)
    )
    return jnp.concatenate([forces.ravel(), energy]) if energies else forces.ravel()
