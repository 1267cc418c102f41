"""Nearest and smooth images of pairs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crystals import bcc, diamond, fcc, graphene
from models import difference

from jaxff import gdml
from jaxff.descriptors import inverse_distances, nearest_images, smooth_images, tied_fraction
from jaxff.descriptors.periodic import smoothest, warn_of_ties
from jaxff.kernels import Kernel, crystal_group, matern52
from jaxff.system import System, stack, strain

SKEWED = np.array([[3.0, 0.0, 0.0], [2.6, 2.5, 0.0], [4.1, 1.9, 3.5]])
SHARPNESS = 30.0 / 6.41  # the shortest vector is the difference of the first two
SMOOTH = smooth_images(sharpness=SHARPNESS)
FEATURES = {"nearest": jax.jit(nearest_images), "smooth": jax.jit(SMOOTH)}


def atoms(seed=0, cell=SKEWED) -> System:
    positions = np.random.default_rng(seed).uniform(-1, 2, (4, 3)) @ cell
    return System(positions, [6, 6, 8, 1], cell)


def all_images(system, reach=9):
    """Squared distances of pairs to all images within reach."""
    rows, columns = np.tril_indices(system.atom_count, -1)
    step = np.asarray(system.positions[rows] - system.positions[columns])
    cell = np.asarray(system.cell)
    step = step - np.round(step @ np.linalg.inv(cell)) @ cell
    shifts = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3)))
    return np.sum((step[:, None] + shifts @ cell) ** 2, axis=-1)


def test_values_are_those_of_all_images():
    system = atoms()
    squares = all_images(system)
    np.testing.assert_allclose(nearest_images(system), squares.min(axis=1) ** -0.5, rtol=1e-12)
    least = squares.min(axis=1, keepdims=True)
    soft = least[:, 0] - np.log(np.exp(-SHARPNESS * (squares - least)).sum(1)) / SHARPNESS
    np.testing.assert_allclose(FEATURES["smooth"](system), soft**-0.5, rtol=1e-12)
    assert np.all(FEATURES["smooth"](system) >= FEATURES["nearest"](system) * (1 - 1e-14))


def test_nearest_images_are_those_of_sgdml_in_orthogonal_cells():
    system = atoms(cell=np.diag([3.0, 4.0, 5.0]))
    rounded, nearest = jax.jit(inverse_distances), FEATURES["nearest"]
    np.testing.assert_allclose(nearest(system), rounded(system), rtol=1e-13)
    assert np.abs(nearest(atoms()) - rounded(atoms())).max() > 0.01


@pytest.mark.parametrize("name", FEATURES)
def test_the_vectors_that_name_a_lattice_do_not_matter(name):
    system = atoms()
    other = np.array([[1, 0, 0], [-3, 1, 0], [2, 5, 1]]) @ SKEWED
    moved = System(
        system.positions + jnp.asarray([[1, 0, 2], [0, 0, 0], [0, -3, 1], [5, 0, 0]]) @ SKEWED,
        system.numbers,
        other,
    )
    np.testing.assert_allclose(FEATURES[name](moved), FEATURES[name](system), rtol=1e-11)


def test_derivatives_by_strain_and_position():
    """Of the smooth form also where pairs are tied."""

    def features(change, system):
        moved = system.replace(positions=system.positions.at[0].add(change[9:]))
        return SMOOTH(strain(moved, change[:9].reshape(3, 3)))

    jacobian, values = jax.jit(jax.jacrev(features)), jax.jit(features)
    corners = np.array([[0, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]]) / 2
    tied = System(corners @ SKEWED, [6] * 4, SKEWED)
    for system in (atoms(), tied):
        found = jacobian(jnp.zeros(12), system)
        expected = difference(lambda change, own=system: values(change, own), np.zeros(12))
        np.testing.assert_allclose(found, expected, atol=1e-8)
        assert np.abs(found).max() > 1e-2


def test_smooth_images_have_no_kink_where_the_nearest_changes():
    """Second differences along a path through a half-cell plane."""
    path = np.linspace(0.49, 0.51, 201)
    positions = jnp.asarray(np.stack([np.zeros((201, 3)), np.outer(path, SKEWED[0])], axis=1))
    systems = System(positions, [6, 6], np.tile(SKEWED, (201, 1, 1)))

    def kink(descriptor):
        values = np.asarray(jax.jit(jax.vmap(descriptor))(systems))[:, 0]
        slopes = np.diff(values) / (path[1] - path[0])
        return np.abs(np.diff(slopes)).max(), np.abs(slopes).max()

    jump, size = kink(nearest_images)
    assert jump > 1.9 * size * 0.99
    assert kink(SMOOTH)[0] < 0.02 * size


def test_symmetric_structures_have_symmetric_features():
    system = graphene(3, 3)
    descriptor = smooth_images(system)
    group = crystal_group(system)
    features = np.asarray(jax.jit(descriptor)(system))
    np.testing.assert_allclose(features[descriptor.permute(group.permutations)],
                               np.tile(features, (len(group), 1)), rtol=1e-12)  # fmt: skip


def test_tied_pairs_are_counted_and_warned_of():
    expected = {}
    for name, system in {"C": graphene(), "Pd": fcc(), "Si": diamond(), "Mo": bcc()}.items():
        distances = np.sqrt(all_images(system, 2))
        two = np.sort(distances, axis=1)[:, :2]
        expected[name] = np.mean(np.diff(two, axis=1) < 1e-6)
        assert np.isclose(tied_fraction(system), expected[name], rtol=1e-12)
    assert min(expected.values()) > 0.1
    rattled = fcc().replace(
        positions=fcc().positions + 0.05 * np.random.default_rng(0).normal(size=(32, 3))
    )
    systems = stack([rattled, fcc()])
    np.testing.assert_allclose(tied_fraction(systems), [0.0, expected["Pd"]])
    warn_of_ties(stack([rattled]))
    model = gdml.potential(Kernel(nearest_images, matern52))
    with pytest.warns(UserWarning, match=r"% of the pairs of geometry 1 .* smooth_images"):
        model.init(jax.random.key(0), systems, hyper={"lengthscale": 10.0})


def test_what_does_not_fit_is_refused():
    molecule = System(np.eye(3), [1, 1, 1])
    for descriptor in (nearest_images, SMOOTH):
        with pytest.raises(ValueError, match="has no cell: for molecules use inverse_distances"):
            descriptor(molecule)
    with pytest.raises(ValueError, match=r"use jax.vmap for the stack"):
        nearest_images(stack([atoms()]))
    with pytest.raises(ValueError, match="one of the two"):
        smooth_images()
    with pytest.raises(ValueError, match="positive and finite, got 0"):
        smooth_images(sharpness=0.0)
    with pytest.raises(ValueError, match=r"have no cell"):
        smoothest(molecule)
    model = gdml.potential(Kernel(smooth_images(sharpness=1.0), matern52))
    with pytest.raises(ValueError, match=r"sharpness must be at least 4\.68 1/Å² .* got 1"):
        model.init(jax.random.key(0), stack([atoms()]), hyper={"lengthscale": 10.0})
    assert np.isclose(smoothest(atoms()), SHARPNESS)


def test_atoms_on_images_of_each_other_are_refused():
    system = atoms()
    moved = system.positions.at[3].set(system.positions[1] + SKEWED[0] - SKEWED[2])
    systems = stack([system, system.replace(positions=moved)])
    model = gdml.potential(Kernel(SMOOTH, matern52))
    with pytest.raises(ValueError, match=r"geometry 1 is not finite .* atoms in the same place"):
        model.init(jax.random.key(0), systems, hyper={"lengthscale": 10.0})
