"""Small potentials, systems and finite differences that the tests of the core share.

Each potential exercises one thing: neighbours, all pairs, fixed topology, the electric field, the
total charge.
"""

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.cell import minimum_image
from jaxff.neighbors import displacements
from jaxff.numerics import safe_norm
from jaxff.potential import Potential
from jaxff.system import System, sum_atoms, to_atoms


def lennard_jones(cutoff: float = 3.5) -> Potential:
    """Soft-core Lennard-Jones on neighbours, twice continuously differentiable at the cutoff."""

    def init(key, system, neighbors=None):
        return {"epsilon": jnp.asarray(0.1), "sigma": jnp.asarray(1.6)}

    def apply(params, system, neighbors=None):
        pairs = neighbors.within(cutoff)
        vectors, mask = displacements(system, pairs)
        square = jnp.sum(vectors**2, axis=-1)
        inside = mask & (square < cutoff**2)
        ratio = params["sigma"] ** 2 / (square + 0.1)
        energy = 4 * params["epsilon"] * (ratio**6 - ratio**3) * (1 - square / cutoff**2) ** 3
        atomic = jax.ops.segment_sum(
            0.5 * jnp.where(inside, energy, 0.0), pairs.centers, system.atom_count
        )
        return {"energy": sum_atoms(system, atomic), "atomic_energies": atomic}

    return Potential(init, apply, cutoffs=(cutoff,))


def all_pairs(system: System):
    """Vectors (..., atoms, atoms, 3) and True for two different real atoms of one structure."""
    vectors = system.positions[..., None, :, :] - system.positions[..., :, None, :]
    real = system.numbers > 0
    mask = real[..., :, None] & real[..., None, :] & ~np.eye(system.atom_count, dtype=bool)
    if system.structure is not None:
        mask = mask & (system.structure[:, None] == system.structure[None, :])
    return vectors, mask


def morse() -> Potential:
    """Morse between all pairs of a molecule, depth by the elements."""

    def init(key, system, neighbors=None):
        return {"depth": 0.2 * jnp.ones(10), "width": jnp.asarray(1.2), "length": jnp.asarray(1.4)}

    def apply(params, system, neighbors=None):
        vectors, mask = all_pairs(system)
        depth = params["depth"][system.numbers] * (1 + 0.1 * system.numbers)
        depth = depth[..., :, None] * depth[..., None, :]
        step = 1 - jnp.exp(-params["width"] * (safe_norm(vectors) - params["length"]))
        pair = jnp.where(mask, 0.5 * depth * (step**2 - 1), 0.0)
        return {"energy": sum_atoms(system, jnp.sum(pair, axis=-1))}

    return Potential(init, apply)


def springs(bonds: np.ndarray) -> Potential:
    """Harmonic bonds of given atoms, to the nearest image in a cell; no packs, no symmetry."""
    first, second = np.asarray(bonds).T

    def init(key, system, neighbors=None):
        lengths = 1.0 + 0.3 * jax.random.uniform(key, (len(first),))
        return {"lengths": lengths, "constants": 2.0 + lengths}

    def apply(params, system, neighbors=None):
        if system.is_packed:
            raise ValueError("springs join given atoms of one structure: use stack, not pack")
        vectors = system.positions[..., second, :] - system.positions[..., first, :]
        if system.cell is not None:
            vectors = minimum_image(vectors, system.cell, system.pbc)
        stretch = safe_norm(vectors) - params["lengths"]
        return {"energy": 0.5 * jnp.sum(params["constants"] * stretch**2, axis=-1)}

    return Potential(init, apply)


def polarizable() -> Potential:
    """Point charges, and polarizabilities that feel their surroundings, in an electric field."""

    def init(key, system, neighbors=None):
        return {"charges": 0.1 * jnp.arange(10.0) - 0.35, "polarizability": jnp.asarray(0.7)}

    def apply(params, system, neighbors=None):
        field = to_atoms(system, system.electric_field)
        ones = jnp.ones_like(system.positions[..., 0])
        center = sum_atoms(system, system.positions) / sum_atoms(system, ones)[..., None]
        relative = system.positions - to_atoms(system, center)
        charges = jnp.where(system.numbers > 0, params["charges"][system.numbers], 0.0)
        vectors, mask = all_pairs(system)
        along = jnp.sum(vectors * field[..., :, None, :], axis=-1)
        weight = jnp.where(mask, jnp.exp(-jnp.sum(vectors**2, axis=-1)), 0.0)
        induced = jnp.sum(field**2, axis=-1) + jnp.sum(weight * along**2, axis=-1)
        atomic = -charges * jnp.sum(relative * field, axis=-1)
        atomic = atomic - 0.5 * params["polarizability"] * induced
        return {"energy": sum_atoms(system, atomic), "partial_charges": charges}

    return Potential(init, apply, uses=frozenset({"electric_field"}))


def capacitor() -> Potential:
    """Energy of the total charge, the less the more the molecule is spread out."""

    def init(key, system, neighbors=None):
        return {"hardness": jnp.asarray(1.5)}

    def apply(params, system, neighbors=None):
        vectors, mask = all_pairs(system)
        size = sum_atoms(system, jnp.sum(jnp.where(mask, jnp.sum(vectors**2, -1), 0.0), -1))
        return {"energy": params["hardness"] * system.charge**2 / (1.0 + 0.1 * size)}

    return Potential(init, apply, uses=frozenset({"charge"}))


def counting(potential: Potential) -> tuple[Potential, list[int]]:
    """The same potential, and a list that grows by one each time ``apply`` is traced."""
    traces: list[int] = []

    def apply(params, system, neighbors=None):
        traces.append(1)
        return potential.apply(params, system, neighbors)

    return dataclasses.replace(potential, apply=apply), traces


@jax.jit
def run(function, *args):
    """Evaluate a pytree function, such as ``forces(energy_fn)``, compiled: much faster than op by
    op."""
    return function(*args)


def molecule(seed: int = 0, atoms: int = 5, **fields) -> System:
    """Random hydrogen, carbon and oxygen, at least 0.9 Å apart."""
    rng = np.random.default_rng(seed)
    positions = np.zeros((1, 3))
    while len(positions) < atoms:
        point = rng.uniform(-1.6, 1.6, 3)
        if np.linalg.norm(positions - point, axis=1).min() > 0.9:
            positions = np.vstack([positions, point])
    return System(positions, [6, 8, *[1] * (atoms - 2)][:atoms], **fields)


def crystal(seed: int = 0, atoms: int = 3) -> System:
    """A small triclinic cell, shorter than the cutoffs in use, with atoms outside it."""
    rng = np.random.default_rng(seed)
    cell = np.array([[3.1, 0.2, 0.0], [1.1, 2.9, 0.1], [-0.7, 0.5, 3.3]])
    fractional = np.arange(atoms)[:, None] / atoms + rng.uniform(-0.05, 0.05, (atoms, 3))
    return System((fractional + rng.integers(-2, 3, (atoms, 3))) @ cell, [6, 8, 8][:atoms], cell)


def difference(function: Callable, point, step: float = 1e-3) -> np.ndarray:
    """Derivative by 4th-order central differences: shape of the value, then of the point."""
    point = jnp.asarray(point)
    directions = jnp.eye(point.size).reshape(-1, *point.shape)
    evaluate = jax.jit(jax.vmap(function))
    value = {k: evaluate(point + k * step * directions) for k in (-2, -1, 1, 2)}
    slope = (value[-2] - 8 * value[-1] + 8 * value[1] - value[2]) / (12 * step)
    return np.moveaxis(np.asarray(slope), 0, -1).reshape(*slope.shape[1:], *point.shape)


def rotations(count: int = 3, seed: int = 0) -> list[np.ndarray]:
    """Random orthogonal matrices, alternately proper and with a reflection."""
    rng = np.random.default_rng(seed)
    matrices = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(count)]
    signs = itertools.cycle([1.0, -1.0])
    return [q * np.sign(np.linalg.det(q)) * s for q, s in zip(matrices, signs, strict=False)]
