"""Checks that the tests of all descriptors share."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from models import rotations

from jaxff.neighbors import neighbor_list
from jaxff.system import System


@partial(jax.jit, static_argnums=0)
def evaluate(descriptor, system, neighbors=None, hyper=None):
    """Features, compiled: much faster than op by op."""
    return descriptor(system, neighbors, **(hyper or {}))


@partial(jax.jit, static_argnums=0)
def path(descriptor, system, direction, times, neighbors=None, hyper=None):
    """Features and their first and second derivatives by t at ``positions + t direction``."""

    def value(t):
        moved = system.replace(positions=system.positions + t * direction)
        return descriptor(moved, neighbors, **(hyper or {}))

    def slope(t):
        return jax.jvp(value, (t,), (jnp.ones_like(t),))[1]

    def all_three(t):
        first, second = jax.jvp(slope, (t,), (jnp.ones_like(t),))
        return value(t), first, second

    return jax.vmap(all_three)(times)


@partial(jax.jit, static_argnums=0)
def pull_back(descriptor, system, weights, neighbors=None, hyper=None):
    """Gradient of the weighted sum of features, by reverse mode."""

    def total(positions):
        found = descriptor(system.replace(positions=positions), neighbors, **(hyper or {}))
        return jnp.sum(weights.reshape(found.shape) * found)

    return jax.grad(total)(system.positions)


def check_derivatives(descriptor, system, neighbors=None, hyper=None, atol=1e-7):
    """First and second derivatives against finite differences, forward against reverse mode."""
    rng = np.random.default_rng(0)
    direction = jnp.asarray(rng.normal(size=system.positions.shape))
    step = 1e-3
    times = step * jnp.arange(-2.0, 3.0)
    value, first, second = path(descriptor, system, direction, times, neighbors, hyper)
    stencil = np.array([1.0, -8, 0, 8, -1]) / (12 * step)
    for low, high in ((value, first), (first, second)):
        numeric = np.tensordot(stencil, low, axes=1)
        scale = max(1.0, np.abs(high[2]).max())
        np.testing.assert_allclose(high[2], numeric, atol=atol * scale)
    weights = jnp.asarray(rng.normal(size=value[2].size))
    pulled = pull_back(descriptor, system, weights, neighbors, hyper)
    forward = float(weights @ first[2].ravel())
    np.testing.assert_allclose(jnp.sum(pulled * direction), forward, rtol=1e-9)


def check_finite(descriptor, system, neighbors=None, hyper=None):
    """Values and two derivatives are finite, forward and reverse; returns the values."""
    direction = jnp.asarray(np.random.default_rng(1).normal(size=system.positions.shape))
    found = path(descriptor, system, direction, jnp.zeros(5), neighbors, hyper)
    for name, array in zip(("value", "first", "second"), found, strict=True):
        assert np.isfinite(array).all(), name
    weights = jnp.ones(found[0][0].size)
    assert np.isfinite(pull_back(descriptor, system, weights, neighbors, hyper)).all()
    return np.asarray(found[0][0])


def moved(system: System, seed: int = 0) -> System:
    """The system turned and shifted, with its cell."""
    rotation = rotations(1, seed)[0]
    cell = None if system.cell is None else system.cell @ rotation.T
    return system.replace(positions=system.positions @ rotation.T + 3.7, cell=cell)


def reordered(system: System, order) -> System:
    return system.replace(positions=system.positions[order], numbers=system.numbers[order])


def supercell(system: System, repeats: tuple[int, int, int]) -> System:
    """Images of a cell side by side; the atoms of the first one come first."""
    grid = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), -1).reshape(-1, 1, 3)
    positions = np.asarray(system.positions) + grid @ np.asarray(system.cell)
    cell = np.asarray(system.cell) * np.array(repeats)[:, None]
    return System(
        positions.reshape(-1, 3), np.tile(np.asarray(system.numbers), len(grid)), cell, system.pbc
    )


def padded(system: System, atoms: int) -> System:
    """With padding atoms, all in the place of the first atom."""
    more = atoms - system.atom_count
    positions = jnp.concatenate([system.positions, jnp.tile(system.positions[:1], (more, 1))])
    return system.replace(positions=positions, numbers=jnp.pad(system.numbers, (0, more)))


def golden_systems(file, cutoffs, atoms: int = 24, names=None):
    """All systems of a reference file with their lists, in one shape: one program serves all.

    Returns:
        ``{name: (system, number of its atoms, neighbors)}`` and the most neighbours of an atom.
    """
    systems, lists = {}, {}
    for name in map(str, file["names"] if names is None else names):
        pbc = file[f"{name}/pbc"]
        cell = file[f"{name}/cell"] if pbc.any() else np.zeros((3, 3))
        systems[name] = System(file[f"{name}/R"], file[f"{name}/Z"], cell, pbc)
        lists[name] = neighbor_list(cutoffs).allocate(padded(systems[name], atoms))
    room = [max(len(n.pairs[k].others) for n in lists.values()) for k in range(len(cutoffs))]
    most, result = 0, {}
    for name, neighbors in lists.items():
        for pairs in neighbors.pairs:
            count = np.bincount(np.asarray(pairs.centers), minlength=atoms + 1)[:atoms]
            most = max(most, int(count.max()))
        resized = tuple(p.resized(r) for p, r in zip(neighbors.pairs, room, strict=True))
        system = systems[name]
        result[name] = (
            padded(system, atoms), system.atom_count, dataclasses.replace(neighbors, pairs=resized)
        )  # fmt: skip
    return result, most


def golden_system(file, name: str) -> System:
    """A system of a reference file."""
    periodic = file[f"{name}/pbc"].any()
    cell = file[f"{name}/cell"] if periodic else None
    return System(file[f"{name}/R"], file[f"{name}/Z"], cell)
