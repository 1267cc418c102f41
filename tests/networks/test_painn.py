import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import molecule, rotations

from jaxff import bind, neighbor_list
from jaxff.networks import painn
from jaxff.numerics import safe_norm

OPTIONS = {"features": 4, "interactions": 2, "radial_functions": 5, "dtype": "float64"}


def test_the_dipole_turns_with_the_molecule_and_has_its_charge():
    potential = painn(3.0, outputs=("dipole", "partial_charges"), **OPTIONS)
    system = molecule(0, 4)
    found = neighbor_list(3.0).allocate(system)
    params = jax.jit(potential.init)(jax.random.key(0), system, found)
    outputs = jax.jit(lambda s: bind(potential, params).outputs(s, found))
    first = outputs(system)
    assert np.linalg.norm(first["dipole"]) > 1e-3
    np.testing.assert_allclose(first["partial_charges"].sum(), 0.0, atol=1e-12)
    for matrix in rotations(2):
        turned = outputs(system.replace(positions=system.positions @ matrix.T))
        np.testing.assert_allclose(turned["dipole"], matrix @ first["dipole"], atol=1e-10)
    centred = system.positions - system.positions.mean(axis=0)
    of_charges = first["partial_charges"] @ centred
    assert np.linalg.norm(first["dipole"] - of_charges) > 1e-3  # atomic dipoles take part


@pytest.mark.slow
def test_hessians_are_finite_where_vectors_vanish():
    """Around an atom in the middle of two equal ones, all vector messages cancel."""
    potential = painn(3.0, **OPTIONS)
    system = molecule(0, 3).replace(
        positions=jnp.asarray([[0.0, 0, 0], [1.1, 0, 0], [-1.1, 0, 0]]),
        numbers=jnp.asarray([8, 1, 1]),
    )
    found = neighbor_list(3.0, skin=0.1).allocate(system)
    params = jax.jit(potential.init)(jax.random.key(1), system, found)

    def force(positions):
        return jax.grad(lambda r: bind(potential, params)(system.replace(positions=r), found))(
            positions
        )

    curvature = jax.jit(jax.jacfwd(force))(system.positions)
    assert np.isfinite(curvature).all()
    matrix = np.asarray(curvature).reshape(9, 9)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    assert np.abs(matrix).max() > 1e-3
    assert safe_norm(force(system.positions)[0]) < 1e-10


def test_a_cutoff_is_needed():
    with pytest.raises(ValueError, match="needs a cutoff"):
        painn(None, cutoff_function=None, radial_centers=np.ones(20))
