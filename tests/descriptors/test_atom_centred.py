"""What all atom-centred descriptors promise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from descriptor_checks import (
    check_derivatives,
    check_finite,
    evaluate,
    moved,
    padded,
    path,
    reordered,
    supercell,
)
from models import crystal, molecule

from jaxff.descriptors import acsf, ani, bessel_power_spectrum, fchl19, soap
from jaxff.descriptors.environments import in_rows
from jaxff.dynamics import neighbor_update
from jaxff.neighbors import neighbor_list
from jaxff.system import System, pack, strain

ELEMENTS = (1, 6, 8)
CUTOFF, MOST = 2.4, 24
DESCRIPTORS = {
    "acsf": acsf(
        ELEMENTS, CUTOFF, g2=[(1.0, 1.0)], g3=[1.0], g4=[(0.1, 1, -1)], g5=[(0.2, 4, 1)],
        max_neighbors=MOST,
    ),
    "ani": ani(
        ELEMENTS, radial_cutoff=CUTOFF, radial_width=4.0, radial_shifts=[0.9, 1.8],
        angular_cutoff=2.2, angular_width=4.0, zeta=5.5, angular_shifts=[1.2, 1.7],
        sections=[0.5, 1.8], max_neighbors=MOST,
    ),
    "soap": soap(ELEMENTS, CUTOFF, radial_functions=2, max_degree=2, width=0.5),
    "bessel": bessel_power_spectrum(ELEMENTS, CUTOFF, 2),
    "fchl": fchl19(
        ELEMENTS, radial_cutoff=CUTOFF, radial_functions=3, angular_cutoff=2.2,
        angular_functions=2, max_neighbors=MOST,
    ),
}  # fmt: skip
NAMES = list(DESCRIPTORS)


def six(positions, numbers) -> System:
    """Padded to six atoms: all systems of molecules here share compiled code."""
    return padded(System(np.asarray(positions, float), numbers), 6)


@functools.cache
def features(name: str) -> np.ndarray:
    return np.asarray(evaluate(DESCRIPTORS[name], padded(molecule(0), 6)))


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_and_symmetries(name):
    descriptor, system = DESCRIPTORS[name], padded(molecule(0), 6)
    found = features(name)
    assert found.shape == (6, descriptor.size)
    assert np.all(np.any(found[:5], axis=1))
    assert not np.any(found[5])  # padding
    scale = np.abs(found).max()
    check_derivatives(descriptor, system)
    turned = evaluate(descriptor, moved(system))
    np.testing.assert_allclose(turned, found, atol=1e-12 * scale)
    order = np.array([4, 0, 5, 1, 3, 2])
    permuted = evaluate(descriptor, reordered(system, order))
    np.testing.assert_allclose(permuted, found[order], atol=1e-13 * scale)
    np.testing.assert_array_equal(
        found.ravel()[descriptor.permute(order[None])[0]], found[order].ravel()
    )


@pytest.mark.parametrize("name", NAMES)
def test_lists_packs_and_all_pairs_agree(name):
    """A flat list, a list in rows, and a pack whose structures overlap in space."""
    descriptor, system = DESCRIPTORS[name], padded(molecule(0), 6)
    scale = np.abs(features(name)).max()
    flat = neighbor_list(descriptor.cutoffs, skin=0.3).allocate(system)
    assert flat.pairs[0].width is None
    found = evaluate(descriptor, system, flat)
    np.testing.assert_allclose(found, features(name), atol=1e-13 * scale)
    rows = dataclasses.replace(flat, pairs=tuple(in_rows(p)[0] for p in flat.pairs))
    assert rows.pairs[0].width is not None
    found = evaluate(descriptor, system, rows)
    np.testing.assert_allclose(found, features(name), atol=1e-13 * scale)
    both = pack([system, system.replace(positions=system.positions + 0.3)])
    found = evaluate(descriptor, both)
    expected = np.concatenate([features(name)] * 2)
    np.testing.assert_allclose(found, expected, atol=1e-12 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_cell_equals_its_supercell(name):
    descriptor, system = DESCRIPTORS[name], crystal(0, atoms=2)
    build = neighbor_list(descriptor.cutoffs)
    found = evaluate(descriptor, system, build.allocate(system))
    large = supercell(system, (2, 1, 2))
    expected = evaluate(descriptor, large, build.allocate(large))
    scale = np.abs(found).max()
    np.testing.assert_allclose(np.tile(found, (4, 1)), expected, atol=1e-12 * scale)
    assert np.all(np.any(found, axis=1))


@pytest.mark.parametrize("name", ["acsf", "soap"])
def test_strain_reaches_the_images(name):
    descriptor, system = DESCRIPTORS[name], crystal(0, atoms=2)
    neighbors = neighbor_list(descriptor.cutoffs, skin=0.1).allocate(system)
    direction = jnp.asarray([[0.3, 0.1, 0.0], [0.1, -0.2, 0.2], [0.0, 0.2, 0.5]])

    @jax.jit
    def strained(t):
        def value(t):
            return descriptor(strain(system, t * direction), neighbors)

        return jax.jvp(value, (t,), (1.0,))

    slope = strained(0.0)[1]
    numeric = (strained(1e-4)[0] - strained(-1e-4)[0]) / 2e-4
    np.testing.assert_allclose(slope, numeric, atol=1e-6 * np.abs(slope).max())


@pytest.mark.parametrize("name", NAMES)
def test_two_derivatives_are_continuous_at_the_cutoff(name):
    """One atom crosses each cutoff of another, with neighbours of both around."""
    descriptor = DESCRIPTORS[name]
    assert descriptor.smoothness >= 2
    for cutoff in descriptor.cutoffs:
        jump, scale = second_derivative_jump(descriptor, cutoff)
        assert scale > 1e-2
        assert jump < 1e-4 * scale


def second_derivative_jump(descriptor, cutoff):
    away = np.array([0.6, 0.0, 0.8])
    near = [[0.0, 0, 0], [0.9, 0.2, 0.1], [-0.3, 0.9, 0.2], cutoff * away]
    system = six([*near, [20.0, 0, 0]], [8, 1, 1, 6, 1])
    direction = jnp.zeros((6, 3)).at[3].set(away)
    times = jnp.asarray([-0.3, -1e-7, 0.0, 1e-7, 0.3])
    second = path(descriptor, system, direction, times)[2]
    return np.abs(second[3] - second[1])[0].max(), np.abs(second).max()


@pytest.mark.parametrize(
    "published",
    [
        dataclasses.replace(DESCRIPTORS["acsf"], cutoff_function="cosine"),
        dataclasses.replace(DESCRIPTORS["soap"], transition="shifted_cosine"),
    ],
    ids=["acsf", "soap"],
)
def test_published_cutoffs_have_a_jump(published):
    assert published.smoothness == 1
    jump, scale = second_derivative_jump(published, CUTOFF)
    assert jump > 1e-3 * scale


@pytest.mark.parametrize("name", NAMES)
def test_coincident_isolated_and_straight_atoms_are_finite(name):
    descriptor = DESCRIPTORS[name]
    check_finite(descriptor, six([[0.0, 0, 0]] * 3 + [[1, 0, 0], [2, 0, 0]], [8, 1, 1, 6, 1]))
    check_finite(descriptor, six([[0.0, 0, 0]] * 5, [8, 1, 1, 6, 1]))
    far = check_finite(descriptor, six(np.arange(5)[:, None] * [30.0, 0, 0], [8, 1, 1, 6, 1]))
    if name != "soap":  # whose atoms see their own density
        assert not np.any(far)
    check_finite(descriptor, six(np.arange(5)[:, None] * [1.1, 0, 0], [8, 1, 1, 6, 1]))
    none = evaluate(descriptor, System(np.zeros((1, 3)), [8]))
    assert np.all(np.isfinite(none))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_elements_are_refused_or_not_numbers(name):
    descriptor = DESCRIPTORS[name]
    stranger = System(np.eye(3), [1, 6, 7])
    with pytest.raises(ValueError, match=r"elements \[1, 6, 8\], the system also has \[7\]"):
        descriptor(stranger)
    found = evaluate(descriptor, six(np.eye(3), [1, 6, 7]))
    assert np.all(np.any(np.isnan(found[:2]), axis=1))


def test_too_few_slots_give_no_numbers():
    few = dataclasses.replace(DESCRIPTORS["acsf"], max_neighbors=2)
    system = padded(molecule(0), 6)
    neighbors = neighbor_list(few.cutoffs).allocate(system)
    count = np.bincount(np.asarray(neighbors.pairs[0].centers), minlength=7)[:6]
    found = evaluate(few, system, neighbors)
    assert np.array_equal(np.isnan(found).any(axis=1), count > 2)
    assert (count > 2).any()


def test_lists_of_dynamics_serve():
    system = crystal(0, atoms=3)
    descriptor = dataclasses.replace(DESCRIPTORS["acsf"], max_neighbors=None)
    flat = neighbor_list(descriptor.cutoffs).allocate(system)
    expected = descriptor(system, flat)  # outside of compiled code the list is looked up
    with pytest.raises(ValueError, match="give max_neighbors"):
        evaluate(descriptor, system, flat)
    rows = neighbor_update.allocate(neighbor_list(descriptor.cutoffs, skin=0.5), system)
    assert rows.pairs[0].width is not None
    np.testing.assert_allclose(evaluate(descriptor, system, rows), expected, atol=1e-12)


def test_missing_lists_and_stacks_are_refused():
    descriptor = DESCRIPTORS["soap"]
    with pytest.raises(ValueError, match=r"neighbors=neighbor_list\(2.4\)"):
        descriptor(crystal())
    with pytest.raises(ValueError, match="use pack, or"):
        descriptor(System(np.zeros((2, 3, 3)), [1, 1, 1]))
    with pytest.raises(TypeError, match="made by neighbor_list"):
        descriptor(molecule(), neighbors=(1, 2))
    with pytest.raises(ValueError, match=r"no neighbor list for a cutoff of 2.4"):
        descriptor(molecule(), neighbor_list(3.0).allocate(molecule()))
