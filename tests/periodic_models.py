"""Kernels of atom-centred descriptors on a small periodic crystal, which tests share."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from models import lennard_jones

from jaxff import bind, gdml
from jaxff.derivatives import observe
from jaxff.descriptors import acsf
from jaxff.kernels import AtomicSum, Kernel, matern52, matern72
from jaxff.linalg import solvers
from jaxff.neighbors import neighbor_list
from jaxff.system import System, stack, strain

CUTOFF = 3.0
CELL = np.array([[2.9, 0.2, 0.0], [1.1, 2.7, 0.1], [-0.7, 0.5, 3.1]])
"""Shorter than the cutoff, and skewed."""

RADIAL = acsf((6, 8), CUTOFF, g2=((0.5, 0.0), (1.5, 1.5), (3.0, 2.2), (0.1, 1.0), (6.0, 2.5)))
KERNELS = {
    "whole": (Kernel(RADIAL, matern52), 2.0, ("forces",)),
    "atoms": (AtomicSum(RADIAL, matern72), 1.0, ("forces", "stress")),
}
"""Kernel, length scale, and labels; a path of their own for each."""


def binary(count: int = 4, seed: int = 0) -> System:
    """Two atoms in strained cells, some moved to other cells: a stack."""
    rng = np.random.default_rng(seed)
    systems = []
    for _ in range(count):
        places = np.array([[0.1, 0.0, 0.0], [0.5, 0.55, 0.45]]) + 0.04 * rng.normal(size=(2, 3))
        system = System((places + rng.integers(-1, 2, (2, 3))) @ CELL, [6, 8], CELL)
        systems.append(strain(system, jnp.asarray(0.03 * rng.normal(size=(3, 3)))))
    return stack(systems)


def single(systems: System, index: int) -> System:
    return jax.tree.map(lambda leaf: leaf[index], systems)


@functools.cache
def lennard_jones_labels(count: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Energy, forces and stress of the crystals, from a potential with lists."""
    potential = lennard_jones(CUTOFF)
    evaluate = jax.jit(observe(bind(potential, potential.init(None, None)), ("forces", "stress")))
    systems = [single(binary(count, seed), i) for i in range(count)]
    found = [evaluate(system, roomy(system)) for system in systems]
    return {name: np.stack([own[name] for own in found]) for name in found[0]}


def roomy(system: System) -> Any:
    """A list of a length that serves all crystals: one compilation."""
    found = neighbor_list(CUTOFF).allocate(system)
    pairs = tuple(own.resized(160) for own in found.pairs)
    return type(found)(pairs, found.overflow, found.cutoffs, found.skins)


class Fitted(NamedTuple):
    """A potential with fitted parameters."""

    potential: Any
    params: Any
    info: Any


@functools.cache
def fitted(name: str) -> Fitted:
    """A kernel fitted to the crystals."""
    kernel, lengthscale, names = KERNELS[name]
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), binary(), hyper={"lengthscale": lengthscale})
    labels = {label: lennard_jones_labels()[label] for label in names}
    params, info = gdml.fit(
        potential, params, labels, solver=solvers.cholesky(), regularization=1e-12
    )
    return Fitted(potential, params, info)
