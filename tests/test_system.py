import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import crystal, molecule

from jaxff.system import System, pack, stack, strain, sum_atoms, to_atoms

FULL = {"charge": 1.0, "spin": 2, "electric_field": [0.0, 0.1, 0.2]}


def same(a, b):
    leaves = jax.tree.leaves(a), jax.tree.leaves(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(np.array_equal(x, y) for x, y in zip(*leaves, strict=True))


def test_fields_are_brought_to_shape_and_dtype():
    system = System(np.zeros((2, 4, 3)), [1, 1, 8, 0], cell=np.eye(3), **FULL)
    assert system.numbers.shape == (2, 4)
    assert system.batch_shape == (2,)
    assert system.atom_count == 4
    assert system.cell.shape == (2, 3, 3)
    assert system.pbc.shape == (2, 3)
    assert system.pbc.all()
    assert system.charge.shape == (2,)
    assert system.spin.dtype == system.positions.dtype
    assert system.electric_field.shape == (2, 3)
    assert not system.is_packed


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"positions": np.zeros((2, 3), int)}, TypeError, "positions must be floating point"),
        ({"positions": np.zeros(3)}, ValueError, r"\(\.\.\., atoms, 3\), got \(3,\)"),
        ({"positions": np.zeros((2, 2))}, ValueError, r"got \(2, 2\)"),
        ({"numbers": [1.0, 1.0]}, TypeError, "numbers must be integers"),
        ({"numbers": [1, 1, 1]}, ValueError, "numbers must name every atom"),
        ({"numbers": np.ones((3, 2), int)}, ValueError, "one row for all or one per system"),
        ({"numbers": [1, -8]}, ValueError, "atomic numbers must not be negative, got"),
        ({"spin": -1.0}, ValueError, "unpaired electrons must not be negative, got -1.0"),
        ({"pbc": True}, ValueError, "pbc is given without a cell"),
        ({"cell": np.eye(2)}, ValueError, r"cell must have shape \(3, 3\)"),
        ({"cell": np.eye(3), "pbc": [True] * 2}, ValueError, r"pbc must have shape \(3,\)"),
        ({"charge": [1.0, 2.0]}, ValueError, "charge must have shape"),
        ({"electric_field": [1.0, 2.0]}, ValueError, "electric_field must have shape"),
        ({"structure": [0, 0]}, ValueError, "give both"),
        (
            {"structure": [0, 0, 0], "structure_mask": [True]},
            ValueError,
            "structure must index every atom",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fields, error, message):
    with pytest.raises(error, match=message):
        System(**{"positions": np.zeros((2, 3)), "numbers": [1, 1], **fields})


def test_pytree_round_trip():
    system = crystal().replace(charge=jnp.asarray(1.0))
    leaves, tree = jax.tree.flatten(system)
    assert len(leaves) == 5
    assert same(tree.unflatten(leaves), system)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(system)]
    assert paths == [".positions", ".numbers", ".cell", ".pbc", ".charge"]


def test_unflatten_takes_placeholders():
    tree = jax.tree.structure(molecule())
    assert tree.unflatten([object(), None]).numbers is None
    assert jax.tree.map(lambda leaf: leaf.shape, molecule()).positions == (5, 3)


def test_is_frozen():
    with pytest.raises(AttributeError):
        molecule().positions = 0


def test_jit_and_vmap_take_systems():
    systems = [molecule(seed, **FULL) for seed in range(3)]
    moved = jax.jit(lambda s: s.replace(positions=2 * s.positions))(systems[0])
    np.testing.assert_array_equal(moved.positions, 2 * systems[0].positions)
    assert same(moved.replace(positions=systems[0].positions), systems[0])
    centers = jax.vmap(lambda s: s.positions.mean(0) * s.charge)(stack(systems))
    np.testing.assert_allclose(centers, [s.positions.mean(0) for s in systems], atol=1e-15)


def test_stack():
    systems = [crystal(seed) for seed in range(3)]
    stacked = stack(systems)
    assert stacked.batch_shape == (3,)
    assert same(jax.tree.map(lambda leaf: leaf[1], stacked), systems[1])


def test_pack():
    systems = [molecule(0, 4, **FULL), molecule(1, 1, **FULL), molecule(2, 6, **FULL)]
    packed = pack(systems)
    assert packed.is_packed
    assert packed.batch_shape == (3,)
    assert packed.atom_count == 11
    np.testing.assert_array_equal(packed.structure, [0] * 4 + [1] + [2] * 6)
    np.testing.assert_array_equal(packed.positions[5:], systems[2].positions)
    assert packed.electric_field.shape == (3, 3)
    assert pack([crystal(0), crystal(1, 2)]).cell.shape == (2, 3, 3)


@pytest.mark.parametrize("join", [stack, pack])
def test_joining_refuses(join):
    with pytest.raises(ValueError, match="at least one system, got none"):
        join([])
    with pytest.raises(ValueError, match=r"same fields.*system 1"):
        join([molecule(), molecule(charge=1.0)])
    with pytest.raises(ValueError, match="system 1"):
        join([molecule(), pack([molecule()])])


def test_stack_refuses_mixed_sizes_and_pack_refuses_stacks():
    with pytest.raises(ValueError, match=r"system 1 \(4, 3\); use pack"):
        stack([molecule(), molecule(atoms=4)])
    with pytest.raises(ValueError, match="system 0 is a stack"):
        pack([stack([molecule()])])


@pytest.mark.parametrize("join", [lambda s: s[0], stack, pack])
def test_per_structure_and_per_atom(join):
    systems = [molecule(seed, 4) for seed in range(3)]
    joined = join(systems)
    count = max(1, len(joined.batch_shape) and 3)
    per_structure = jnp.arange(1.0, 1 + count).reshape(joined.batch_shape)
    spread = to_atoms(joined, per_structure)
    assert spread.shape == joined.numbers.shape
    np.testing.assert_array_equal(sum_atoms(joined, spread), 4 * per_structure)
    vectors = jnp.broadcast_to(per_structure[..., None], (*joined.batch_shape, 3))
    assert to_atoms(joined, vectors).shape == joined.positions.shape
    np.testing.assert_array_equal(sum_atoms(joined, to_atoms(joined, vectors)), 4 * vectors)


def test_padding_atoms_do_not_count():
    system = System(np.ones((3, 3)), [1, 0, 1])
    np.testing.assert_array_equal(sum_atoms(system, jnp.asarray([1.0, jnp.nan, 2.0])), 3.0)
    padded = System(
        np.ones((4, 3)), [1, 1, 1, 0], structure=[0, 0, 2, 1], structure_mask=[True, False, True]
    )
    np.testing.assert_array_equal(sum_atoms(padded, jnp.ones(4)), [2.0, 0.0, 1.0])


def test_strain_moves_positions_and_cell_alike():
    system = crystal()
    deformation = np.array([[0.1, 0.2, 0.0], [0.0, -0.1, 0.05], [0.3, 0.0, 0.2]])
    symmetric = (deformation + deformation.T) / 2
    strained = strain(system, jnp.asarray(deformation))
    np.testing.assert_allclose(
        strained.positions, system.positions @ (np.eye(3) + symmetric), atol=1e-14
    )
    np.testing.assert_allclose(strained.cell, system.cell @ (np.eye(3) + symmetric), atol=1e-14)
    fractions = np.linalg.solve(strained.cell.T, strained.positions.T)
    np.testing.assert_allclose(
        fractions, np.linalg.solve(system.cell.T, system.positions.T), atol=1e-13
    )


@pytest.mark.parametrize("join", [stack, pack])
def test_strain_of_each_structure(join):
    systems = [crystal(seed) for seed in range(2)]
    deformations = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3)))
    joined = strain(join(systems), deformations)
    single = join([strain(s, d) for s, d in zip(systems, deformations, strict=True)])
    np.testing.assert_allclose(joined.positions, single.positions, atol=1e-14)
    np.testing.assert_allclose(joined.cell, single.cell, atol=1e-14)


def test_a_box_of_three_lengths_is_no_cell():
    with pytest.raises(ValueError, match="cell must have shape"):
        System(np.zeros((1, 3)), np.array([1]), cell=[10.0, 10.0, 10.0])
    with pytest.raises(TypeError, match="pbc must be True or False"):
        System(np.zeros((1, 3)), np.array([1]), cell=np.eye(3), pbc=[0.5, 0.0, 0.0])
