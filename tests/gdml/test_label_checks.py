"""Labels as users give them."""

import dataclasses

import jax
import numpy as np
import pytest
from kernel_models import log_distances, water

from jaxff import gdml
from jaxff.gdml.label_checks import check, check_kernel
from jaxff.kernels import Kernel, rbf

REFERENCES = water(2)
HESSIANS = np.random.default_rng(0).normal(size=(2, 9, 9))
HESSIANS = HESSIANS + HESSIANS.swapaxes(1, 2)


def with_asymmetry(share: float) -> dict:
    changed = HESSIANS.copy()
    changed[1, 2, 5] += share * np.abs(HESSIANS).max()
    return {"hessian": changed.reshape(2, 3, 3, 3, 3)}


def test_slightly_asymmetric_hessians_count_by_their_symmetric_part():
    checked, _ = check(with_asymmetry(0.02), REFERENCES)
    expected = HESSIANS.copy()
    expected[1, [2, 5], [5, 2]] += 0.01 * np.abs(HESSIANS).max()
    assert np.allclose(checked["hessian"], expected[:, *np.triu_indices(9)], rtol=1e-14)


def test_plainly_asymmetric_hessians_are_refused():
    with pytest.raises(ValueError, match="hessian must be symmetric"):
        check(with_asymmetry(0.1), REFERENCES)


def coupled(system, neighbors=None):
    return (system.positions[1:] - system.positions[0]) @ system.electric_field


coupled.uses = frozenset({"electric_field"})


def test_dipoles_need_a_field_in_the_references():
    potential = gdml.potential(Kernel(coupled, rbf))
    with pytest.raises(ValueError, match="dipole labels need references with an electric_field"):
        check_kernel(potential, REFERENCES, ("dipole",))
    inside = dataclasses.replace(REFERENCES, electric_field=np.zeros((2, 3)))
    check_kernel(potential, inside, ("dipole",))


def polar(energy_fn):
    return lambda system, neighbors=None: jax.grad(
        lambda field: energy_fn(system.replace(electric_field=field), neighbors)
    )(system.electric_field)


def test_derivatives_by_the_field_need_a_kernel_that_reads_it():
    """They would be zero without a word."""
    observable = gdml.Observable("polar", polar, "3", 1)
    inside = dataclasses.replace(REFERENCES, electric_field=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="polar labels need a kernel that reads"):
        check_kernel(gdml.potential(Kernel(log_distances, rbf)), inside, (observable,))
    check_kernel(gdml.potential(Kernel(coupled, rbf)), inside, (observable,))
