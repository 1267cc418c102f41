"""Small potentials with known answers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff.neighbors import displacements
from jaxff.potential import Potential, bind
from jaxff.system import System

WIDTH, DEPTH, LENGTH = 1.6, 3.0, 1.2


@pytest.fixture(scope="session")
def dimer():
    return System(np.array([[0.0, 0.1, 0.0], [0.0, 0.1, 1.3]]), [6, 8])


@pytest.fixture(scope="session")
def harmonic():
    """Bond of 20 eV/Å² and 1.2 Å."""

    def energy(system, neighbors=None):
        vector = system.positions[1] - system.positions[0]
        return 10.0 * (jnp.sqrt(jnp.sum(vector**2)) - LENGTH) ** 2

    return energy


@pytest.fixture(scope="session")
def molecule():
    """Five atoms, off their minimum."""
    rng = np.random.default_rng(1)
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.65
    positions = np.concatenate([[[0.0, 0.0, 0.0]], corners]) + 0.02 * rng.normal(size=(5, 3))
    return System(positions, [6, 1, 1, 1, 1])


def _morse(params, system, neighbors=None):
    i, j = np.triu_indices(system.positions.shape[0], 1)
    square = jnp.sum((system.positions[i] - system.positions[j]) ** 2, -1)
    stretch = jnp.sqrt(square) - LENGTH
    return {"energy": jnp.sum(params["depth"] * (1 - jnp.exp(-WIDTH * stretch)) ** 2)}


_MORSE = Potential(lambda key, system, neighbors=None: {"depth": jnp.array(DEPTH)}, _morse)


@pytest.fixture(scope="session")
def morse():
    """Function of the depth: Morse bonds between all atoms, parameters as leaves."""
    return lambda depth=DEPTH: bind(_MORSE, {"depth": jnp.asarray(depth)})


CUTOFF = 5.0


def _pair(square):
    """Lennard-Jones argon, energy and slope brought to zero at the cutoff."""
    u = (3.4**2 / square) ** 3
    x = jnp.clip(1.0 - square / CUTOFF**2, 0.0)
    return 4 * 0.0104 * (u**2 - u) * x**3


def _lennard_jones(params, system, neighbors):
    vectors, real = displacements(system, neighbors.within(CUTOFF))
    energies = _pair(jnp.where(real, jnp.sum(vectors**2, -1), 10.0))
    return {"energy": 0.5 * jnp.sum(jnp.where(real, energies, 0.0))}


@pytest.fixture(scope="session")
def lennard_jones():
    """Argon with neighbour lists."""
    return bind(Potential(lambda *_: {}, _lennard_jones, cutoffs=(CUTOFF,)), {})


@pytest.fixture(scope="session")
def lennard_jones_images():
    """The same over all pairs and images: nothing to go stale while drifting less than a cell."""
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)), float)

    def energy(system, neighbors=None):
        vectors = system.positions[:, None] - system.positions[None]
        fractional = vectors @ jnp.linalg.inv(system.cell)
        vectors = (fractional - jax.lax.stop_gradient(jnp.round(fractional))) @ system.cell
        square = jnp.sum((vectors[:, :, None] + shifts @ system.cell) ** 2, -1)
        near = (square > 1e-9) & (square < CUTOFF**2)
        return 0.5 * jnp.sum(jnp.where(near, _pair(jnp.where(near, square, 10.0)), 0.0))

    return energy


@pytest.fixture(scope="session")
def argon():
    """32 atoms of a sheared fcc crystal."""
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    grid = np.array(list(itertools.product((0, 1), repeat=3)))
    fractional = ((grid[:, None] + basis[None]) / 2).reshape(-1, 3)
    cell = np.array([[10.8, 0, 0], [1.2, 10.6, 0], [0.3, -0.7, 10.9]])
    return System(fractional @ cell, np.full(32, 18), cell=cell)
