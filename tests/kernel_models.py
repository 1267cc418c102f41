"""Kernels, reference geometries and plain matrices that the tests of kernel potentials share."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import gdml
from jaxff.descriptors import acsf, inverse_distances
from jaxff.kernels import Kernel, matern52, rbf
from jaxff.system import System

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.1, 0.0], [-0.2, 0.93, 0.05]])
AMMONIA = np.array([[0.0, 0.0, 0.1], [0.94, 0.0, -0.3], [-0.47, 0.81, -0.3], [-0.47, -0.81, -0.3]])
CELL = np.array([[3.3, 0.1, 0.0], [0.0, 3.5, 0.2], [0.3, 0.0, 3.4]])
SWAP = np.array([[0, 1, 2], [0, 2, 1]])
THREE_HYDROGENS = np.array(
    [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1]]
)
TWO_PAIRS = np.array([[0, 1, 2, 3], [1, 0, 2, 3], [0, 1, 3, 2], [1, 0, 3, 2]])


def log_distances(system: System, neighbors=None):
    """A descriptor that declares nothing: logarithms of all distances."""
    i, j = np.triu_indices(system.atom_count, 1)
    return 0.5 * jnp.log(jnp.sum((system.positions[i] - system.positions[j]) ** 2, -1))


def powers(system: System, neighbors=None, *, exponent):
    """A descriptor with a hyperparameter of its own, and a name for files."""
    return inverse_distances(system) ** exponent


powers.name = "powers"


def water(count: int = 6, seed: int = 0, spread: float = 0.08, **fields) -> System:
    """Distorted water molecules."""
    noise = np.random.default_rng(seed).normal(size=(count, 3, 3))
    return System(WATER + spread * noise, [8, 1, 1], **fields)


def ammonia(count: int = 4, seed: int = 0) -> System:
    """Distorted ammonia molecules."""
    noise = np.random.default_rng(seed).normal(size=(count, 4, 3))
    return System(AMMONIA + 0.08 * noise, [7, 1, 1, 1])


def crystal(count: int = 4, seed: int = 0) -> System:
    """Four atoms in a triclinic cell, some moved to other cells."""
    rng = np.random.default_rng(seed)
    places = np.array([[0.0, 0, 0], [0.4, 0.38, 0], [0.4, 0, 0.38], [0, 0.4, 0.36]])
    places = places + 0.015 * rng.normal(size=(count, 4, 3)) + rng.integers(-1, 2, (count, 4, 3))
    return System(places @ CELL, [11, 11, 17, 17], CELL)


ENVIRONMENTS = acsf((11, 17), 2.8, g2=((0.5, 0.0), (1.5, 1.5)), max_neighbors=40)
"""Features that need neighbour lists."""


@dataclass(frozen=True)
class Case:
    """A kernel with its length scale and references."""

    kernel: Kernel
    lengthscale: float
    references: System

    @property
    def hyper(self) -> dict:
        return {"lengthscale": jnp.asarray(self.lengthscale)}


CASES = {
    "matern52": lambda: Case(Kernel(inverse_distances, matern52, SWAP), 0.9, water(5)),
    "rbf": lambda: Case(Kernel(inverse_distances, rbf, THREE_HYDROGENS), 0.7, ammonia()),
    "no_symmetry": lambda: Case(Kernel(inverse_distances, matern52), 1.1, water(4)),
    "periodic": lambda: Case(Kernel(inverse_distances, matern52, TWO_PAIRS), 0.4, crystal()),
    "generic": lambda: Case(Kernel(log_distances, matern52, SWAP), 1.2, water(4, seed=1)),
}

WITH_LISTS = {
    "listed": lambda: Case(Kernel(ENVIRONMENTS, matern52, TWO_PAIRS), 2.0, crystal(3)),
}
"""Those whose references need neighbour lists."""


def morse_labels(systems: System) -> tuple[np.ndarray, np.ndarray]:
    """Energies and forces of a Morse potential between all pairs, symmetric in equal atoms."""

    def energy(positions):
        i, j = np.tril_indices(positions.shape[0], -1)
        distance = jnp.linalg.norm(positions[i] - positions[j], axis=-1)
        return 3.0 * jnp.sum((1 - jnp.exp(-1.1 * (distance - 1.2))) ** 2) - 70.0

    both = jax.jit(jax.vmap(jax.value_and_grad(energy)))
    energies, gradients = both(systems.positions)
    return np.asarray(energies), -np.asarray(gradients)


def random_params(case: Case, *, energies: bool = False, seed: int = 0):
    """A potential of the case and parameters with random coefficients, as after a fit."""
    from jaxff.gdml import expansion
    from jaxff.gdml.potential import references_of

    potential = gdml.potential(case.kernel)
    params = potential.init(
        jax.random.key(0), case.references, hyper={"lengthscale": case.lengthscale}
    )
    rng = np.random.default_rng(seed)
    count = case.references.positions.shape[0]
    coefficients = {"forces": jnp.asarray(rng.normal(size=case.references.positions.shape))}
    if energies:
        coefficients["energy"] = jnp.asarray(rng.normal(size=count))
    params["coefficients"] = coefficients
    params["expansion"] = jax.jit(partial(expansion.expand, case.kernel))(
        params["hyper"], references_of(params), coefficients
    )
    params["constant"] = jnp.asarray(-3.0)
    return potential, params


def scalar_kernel(case: Case):
    """``k(r, r')`` of flat positions, written down: a sum over permuted first arguments."""
    template = jax.tree.map(lambda leaf: leaf[0], case.references)
    permutations = case.kernel.permutations
    if permutations is None:
        permutations = np.arange(template.atom_count)[None]

    def features(positions):
        return case.kernel.descriptor(template.replace(positions=positions))

    def kernel(first, second):
        first, second = first.reshape(-1, 3), second.reshape(-1, 3)
        total = 0.0
        for p in permutations:
            difference = features(first[p]) - features(second)
            square = jnp.sum(difference**2) / case.lengthscale**2
            total = total + case.kernel.base.derivative(0, square)
        return total

    return kernel


def explicit_matrix(case: Case, *, energies: bool) -> np.ndarray:
    """Kernel matrix of forces (and energies) by differentiating the scalar kernel."""
    kernel = scalar_kernel(case)
    positions = case.references.positions.reshape(len(case.references.positions), -1)

    def over_pairs(function):
        return jax.jit(jax.vmap(jax.vmap(function, (None, 0)), (0, None)))(positions, positions)

    forces = np.asarray(over_pairs(jax.jacfwd(jax.grad(kernel), argnums=1)))
    count, _, block, _ = forces.shape
    matrix = forces.transpose(0, 2, 1, 3).reshape(count * block, count * block)
    if not energies:
        return matrix
    mixed = -np.asarray(over_pairs(jax.grad(kernel))).transpose(0, 2, 1).reshape(-1, count)
    return np.block([[matrix, mixed], [mixed.T, np.asarray(over_pairs(kernel))]])


def rigid_motions(systems: System) -> np.ndarray:
    """Forces along which no molecule as a whole can be pushed or turned, as columns.

    Rows are labels of forces, then of energies.
    """
    count, atoms, _ = systems.positions.shape
    block, columns = 3 * atoms, []
    for reference, positions in enumerate(np.asarray(systems.positions)):
        for axis in np.eye(3):
            for motion in (np.broadcast_to(axis, positions.shape), np.cross(axis, positions)):
                column = np.zeros(count * (block + 1))
                column[block * reference : block * (reference + 1)] = np.ravel(motion)
                columns.append(column)
    return np.stack(columns, axis=1)
