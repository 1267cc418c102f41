import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import crystal

from jaxff.descriptors import ani, fchl19, inverse_distances
from jaxff.descriptors.environments import permute_atoms
from jaxff.kernels import AtomicSum, GlobalSymmetry, Kernel, Product, Scaled, Sum, matern52
from jaxff.kernels.listed import ListedSystem, listed, permuted
from jaxff.neighbors import displacements, neighbor_list, sum_pairs
from jaxff.system import System, strain

PERMUTATIONS = np.array([[0, 1, 2, 3], [1, 0, 2, 3], [0, 1, 3, 2], [1, 0, 3, 2]])
ONE = {"lengthscale": jnp.asarray(2.0)}
LISTS = neighbor_list(2.6)
SYSTEMS = crystal(2)
A, B = (jax.tree.map(lambda leaf, i=i: leaf[i], SYSTEMS) for i in (0, 1))


def bells(system, neighbors=None):
    """Sums of Gaussians over the neighbours of each atom; does not say how features permute."""
    pairs = neighbors.within(2.6)
    vectors, mask = displacements(system, pairs)
    weights = system.numbers[jnp.where(mask, pairs.others, 0)] * mask
    square = jnp.sum(vectors**2, axis=-1)
    return sum_pairs(pairs, weights[:, None] * jnp.exp(-square[:, None] * jnp.array([0.5, 2.0])))


bells.cutoff = 2.6


class Bells:
    """The same, and says it."""

    cutoffs = (2.6,)

    def __call__(self, system, neighbors=None):
        return bells(system, neighbors)

    def permute(self, permutations):
        return permute_atoms(permutations, 2)


def lists(system, rows):
    if not rows:
        return LISTS.allocate(system)
    stacked = LISTS.allocate_stack(jax.tree.map(lambda leaf: leaf[None], system))
    return jax.tree.map(lambda leaf: leaf[0], stacked)


def vectors(system):
    """All vectors to neighbours as sorted tuples, with both numbers of the atoms."""
    found = []
    for pairs in system.neighbors.pairs:
        moved, mask = displacements(system, pairs)
        ends = np.stack([np.asarray(pairs.centers), np.asarray(pairs.others)], axis=1)
        table = np.concatenate([ends, np.round(moved, 9) + 0.0], axis=1)[np.asarray(mask)]
        found.append(sorted(map(tuple, table.tolist())))
    return found


@pytest.mark.parametrize("rows", [True, False])
def test_atoms_are_permuted_with_their_neighbours(rows):
    order = np.array([1, 0, 3, 2])
    moved = permuted(listed(A, lists(A, rows)), jnp.asarray(order))
    anew = A.replace(positions=A.positions[order])
    assert vectors(moved) == vectors(listed(anew, lists(anew, rows)))
    assert len(vectors(moved)[0]) == 30
    centers = np.asarray(moved.neighbors.pairs[0].centers)
    assert np.all(np.diff(centers) >= 0)
    assert np.array_equal(permuted(A, jnp.asarray(order)).positions, anew.positions)


def test_a_symmetric_kernel_permutes_lists_where_features_do_not_say_how():
    plain = Kernel(bells, matern52)
    kernels = (
        Kernel(Bells(), matern52, PERMUTATIONS),
        Kernel(bells, matern52, PERMUTATIONS),
        GlobalSymmetry(plain, PERMUTATIONS),
    )

    @jax.jit
    def evaluate(first, second):
        def one(order):
            features = plain.features(ONE, permuted(listed(A, first), order))
            return plain.compare(ONE, features[None], plain.features(ONE, listed(B, second)))

        terms = jax.vmap(one)(jnp.asarray(PERMUTATIONS))
        return jnp.sum(terms), [kernel(ONE, A, B, first, second) for kernel in kernels]

    expected, found = evaluate(lists(A, True), lists(B, True))
    np.testing.assert_allclose(found, [expected] * 3, rtol=1e-13)
    kernels[-1].check_systems(ONE, listed(SYSTEMS, LISTS.allocate_stack(SYSTEMS)))


MIRROR = jnp.diag(jnp.array([1.0, 1.0, -1.0]))


def mirrored(system):
    return System(system.positions @ MIRROR, system.numbers, system.cell @ MIRROR)


def exchanged(system):
    return system.replace(positions=system.positions[jnp.array([1, 0, 3, 2])])


def test_functions_that_move_positions_and_cell_together_keep_the_lists():
    def arrows(system, neighbors=None):
        pairs = neighbors.within(2.6)
        vectors, mask = displacements(system, pairs)
        decay = mask * jnp.exp(-jnp.sum(vectors**2, axis=-1))
        return sum_pairs(pairs, decay[:, None] * vectors)

    arrows.cutoff = 2.6
    kernel = GlobalSymmetry(Kernel(arrows, matern52), (lambda s: s, mirrored))

    @jax.jit
    def evaluate(first, second):
        return kernel(ONE, first.bare, second.bare, first.neighbors, second.neighbors)

    image = mirrored(A)
    start, other, image = (listed(s, lists(s, True)) for s in (A, B, image))
    plain = jax.jit(lambda a, b: kernel.kernel(ONE, a.bare, b.bare, a.neighbors, b.neighbors))
    expected = plain(start, other) + plain(image, other)
    assert np.isclose(evaluate(start, other), expected, rtol=1e-13)
    assert abs(plain(start, other) - plain(image, other)) > 1e-3
    kernel.check_systems(ONE, listed(SYSTEMS, LISTS.allocate_stack(SYSTEMS)))


def test_functions_that_exchange_atoms_are_refused_where_there_are_lists():
    kernel = GlobalSymmetry(Kernel(Bells(), matern52), (lambda s: s, exchanged))
    with pytest.raises(ValueError, match="give exchanges of atoms as permutations"):
        kernel.check_systems(ONE, listed(SYSTEMS, LISTS.allocate_stack(SYSTEMS)))


def test_radii_are_collected_from_all_parts():
    def declared(system, neighbors=None):
        return system.positions

    def deaf(system):
        return system.positions

    declared.cutoff, deaf.cutoff = 4, 5.0
    two = ani(
        (11,), radial_cutoff=5.0, radial_width=1.0, radial_shifts=[1.0], angular_cutoff=3.0,
        angular_width=1.0, zeta=1.0, angular_shifts=[1.0], sections=[0.0],
    )  # fmt: skip
    near, far = Kernel(Bells(), matern52), AtomicSum(two, matern52)
    assert Kernel(inverse_distances, matern52).cutoffs == Kernel(deaf, matern52).cutoffs == ()
    assert Kernel(declared, matern52).cutoffs == (4.0,)
    assert Kernel(fchl19((11,)), matern52).cutoffs == (8.0,)
    assert Sum((near, Product((far, near)))).cutoffs == (2.6, 3.0, 5.0)
    assert Scaled(GlobalSymmetry(far, PERMUTATIONS)).cutoffs == (3.0, 5.0)


def test_a_descriptor_gets_a_plain_system_and_the_lists_it_asks_for():
    seen = []

    def asks(system, neighbors=None, *, power):
        seen.append((type(system), neighbors))
        return system.positions**power

    def deaf(system):
        seen.append((type(system), None))
        return system.positions

    own = lists(A, False)
    Kernel(asks, matern52).features({**ONE, "power": 2.0}, listed(A, own))
    Kernel(deaf, matern52).features(ONE, listed(A, own))
    Kernel(asks, matern52).features({**ONE, "power": 2.0}, A)
    assert seen == [(System, own), (System, None), (System, None)]


def test_a_listed_system_is_a_system():
    own = LISTS.allocate_stack(SYSTEMS)
    both = listed(SYSTEMS, own)
    assert listed(SYSTEMS, None) is SYSTEMS
    leaves = jax.tree.leaves(both)
    assert len(leaves) == len(jax.tree.leaves((SYSTEMS, own)))
    first = jax.tree.map(lambda leaf: leaf[0], both)
    assert isinstance(first, ListedSystem)
    assert first.neighbors.pairs[0].width == own.pairs[0].width
    deformed = strain(first, 0.1 * jnp.eye(3))
    assert isinstance(deformed, ListedSystem)
    assert isinstance(jax.jit(lambda s: s)(deformed), ListedSystem)
    assert type(deformed.bare) is System
    assert np.allclose(deformed.cell, 1.1 * A.cell)
