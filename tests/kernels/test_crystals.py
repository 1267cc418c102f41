"""Symmetry of supercells as permutations."""

import jax.numpy as jnp
import numpy as np
import pytest
from crystals import bcc, diamond, fcc, graphene

from jaxff.kernels.abelian import elements
from jaxff.kernels.crystals import crystal_group, host_group
from jaxff.kernels.groups import is_group, verify
from jaxff.kernels.images import lattice_of, nearest_distances
from jaxff.system import System


def without(system, *atoms):
    kept = np.setdiff1d(np.arange(system.atom_count), atoms)
    return System(system.positions[kept], system.numbers[kept], system.cell, system.pbc)


def joined(system, positions, numbers):
    return System(
        jnp.concatenate([system.positions, jnp.asarray(positions, float)]),
        jnp.concatenate([system.numbers, jnp.asarray(numbers)]),
        system.cell,
        system.pbc,
    )


@pytest.mark.parametrize(
    ("system", "translations", "others", "name"),
    [
        (graphene(), (5, 5), 12, "P6/mmm"),
        (graphene(flat=True), (5, 5), 12, "P6/mmm"),
        (graphene(3, 5), (15,), 2, "P6/mmm"),
        (fcc(), (4, 4, 2), 48, "Fm-3m"),
        (diamond(), (4, 4, 2), 48, "Fd-3m"),
        (bcc(), (6, 3, 3), 48, "Im-3m"),
    ],
    ids=["graphene", "sheet", "oblong", "fcc", "diamond", "bcc"],
)
def test_orders(system, translations, others, name):
    group = crystal_group(system)
    assert group.orders == translations
    assert len(group.cosets) == others
    assert len(group) == np.prod(translations) * others
    assert group.name.startswith(name)
    assert f"{len(group)} permutations" in str(group)
    np.testing.assert_array_equal(group.permutations[0], np.arange(system.atom_count))
    products = group.cosets[:, elements(group.translations)].reshape(len(group), -1)
    np.testing.assert_array_equal(np.unique(products, axis=0), group.permutations)
    lattice = lattice_of(system.cell, system.pbc)
    distances = nearest_distances(*[np.asarray(system.positions)] * 2, lattice)
    for p in group.permutations[:: len(group) // 7]:
        np.testing.assert_allclose(distances[p][:, p], distances, atol=1e-12)
    assert group.mismatch < 1e-12
    verify(group.permutations, np.asarray(system.numbers))


def test_order_of_atoms_and_origin_do_not_matter():
    system = graphene(3, 3)
    order = np.random.default_rng(0).permutation(18)
    moved = System(system.positions[order] + 0.37, system.numbers, system.cell, system.pbc)
    group, mixed = crystal_group(system), crystal_group(moved)
    back = np.argsort(order)
    expected = {tuple(back[p[order]]) for p in group.permutations}
    assert expected == {tuple(p) for p in mixed.permutations}


def test_distortion_lowers_the_group():
    system = graphene(3, 3)
    moved = system.replace(positions=system.positions.at[0, 2].add(0.3))
    # One atom above the sheet keeps its threefold axis and mirror planes.
    group = crystal_group(moved)
    assert (len(group), group.orders) == (6, ())
    small = system.replace(positions=system.positions.at[0, 2].add(1e-5))
    assert len(crystal_group(small)) == 108
    assert len(crystal_group(small, tolerance=1e-6)) == 6


def test_a_noisy_reference_is_warned_of():
    rng = np.random.default_rng(0)
    system = graphene(3, 3)
    noisy = system.replace(positions=system.positions + 2e-3 * rng.normal(size=(18, 3)))
    with pytest.warns(UserWarning, match=r"reference has no symmetry to 0.001 Å.*larger tolerance"):
        assert len(crystal_group(noisy)) == 1
    covered = joined(noisy, [[1.0, 1.0, 3.0]], [8])
    with pytest.warns(UserWarning, match=r"host has no symmetry to 0.001 Å"):
        assert len(host_group(covered, np.arange(18))) == 1
    assert len(crystal_group(noisy, tolerance=0.05)) == 108


def test_vacancy_keeps_what_maps_it_onto_itself():
    """The same from the ideal defect itself and from a relaxed one with its pristine host."""
    pristine = fcc()
    defect = without(pristine, 5)
    expected = crystal_group(defect)
    assert len(expected) == 48
    rng = np.random.default_rng(1)
    relaxed = defect.replace(positions=defect.positions + 0.1 * rng.normal(size=(31, 3)))
    group = host_group(relaxed, pristine)
    np.testing.assert_array_equal(group.permutations, expected.permutations)
    assert group.orders == ()
    foreign = pristine.replace(numbers=pristine.numbers.at[5].set(28))
    assert len(host_group(foreign, pristine)) == 48


@pytest.mark.parametrize("by_index", [True, False])
def test_adsorbate_has_its_own_permutations(by_index):
    sheet = graphene(3, 3)
    molecule = [[1.0, 1.0, 3.2], [2.1, 1.3, 3.4], [3.0, 1.1, 3.1]]
    system = joined(sheet, molecule, [8, 6, 8])
    host = np.arange(18) if by_index else sheet
    group = host_group(system, host, own=np.array([[0, 1, 2], [2, 1, 0]]))
    assert (len(group), group.orders, len(group.cosets)) == (216, (3, 3), 24)
    assert is_group(group.permutations)
    verify(group.permutations, np.asarray(system.numbers))
    alone = crystal_group(sheet)
    inner = {tuple(p[:18]) for p in group.permutations}
    assert inner == {tuple(p) for p in alone.permutations}
    assert {tuple(p[18:]) for p in group.permutations} == {(18, 19, 20), (20, 19, 18)}
    assert len(host_group(system, host)) == 108


def test_what_does_not_fit_is_refused():
    sheet = graphene(3, 3)
    molecule = System(np.eye(3), [1, 1, 1])
    with pytest.raises(ValueError, match=r"has no cell"):
        crystal_group(molecule)
    system = joined(sheet, [[1.0, 1.0, 3.2]], [8])
    with pytest.raises(ValueError, match=r"own must permute the 1 atoms .* \(1, 3\)"):
        host_group(system, sheet, own=np.arange(3)[None])
    with pytest.raises(ValueError, match=r"different indices of atoms 0 to 18"):
        host_group(system, [0, 0, 1])
    with pytest.raises(ValueError, match=r"must be in the cell of the reference"):
        host_group(system, graphene(3, 4))
    with pytest.raises(ValueError, match=r"no atom of the reference is on a site"):
        host_group(system, sheet.replace(positions=sheet.positions + jnp.asarray([0, 0, 8.0])))
    twice = sheet.replace(positions=sheet.positions.at[1].set(sheet.positions[0]))
    with pytest.raises(ValueError, match=r"no symmetry of the reference"):
        crystal_group(twice)
    with pytest.raises(ValueError, match=r"must be one structure"):
        crystal_group(System(np.zeros((2, 1, 3)), [6], np.tile(np.eye(3), (2, 1, 1))))
    with pytest.raises(ValueError, match=r"not independent"):
        crystal_group(System(np.zeros((1, 3)), [6], np.ones((3, 3))))
