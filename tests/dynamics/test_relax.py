"""Relaxations against ASE's optimisers, and where rounding ends them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from ase import Atoms, filters, optimize
from ase.units import GPa

from jaxff import System, bind, stress
from jaxff.dynamics.minimizers import Fire, Lbfgs
from jaxff.dynamics.relax import relax
from jaxff.interfaces.ase import JaxffCalculator
from jaxff.neighbors import displacements, neighbor_list
from jaxff.potential import Potential


def atoms_of(system, energy_fn):
    cell = None if system.cell is None else np.asarray(system.cell)
    return Atoms(
        np.asarray(system.numbers),
        np.asarray(system.positions),
        cell=cell,
        pbc=cell is not None,
        calculator=JaxffCalculator(energy_fn),
    )


def distances(system):
    """Sorted: equal atoms may end in each other's place."""
    r = np.asarray(system.positions)
    return np.sort(np.linalg.norm(r[:, None] - r[None], axis=-1)[np.triu_indices(len(r), 1)])


@pytest.fixture(scope="module")
def strained(argon):
    """The crystal, compressed, with atoms displaced."""
    rng = np.random.default_rng(0)
    deform = np.eye(3) + 0.02 * rng.normal(size=(3, 3)) - 0.02 * np.eye(3)
    positions = (np.asarray(argon.positions) + 0.1 * rng.normal(size=(32, 3))) @ deform
    return System(positions, argon.numbers, cell=np.asarray(argon.cell) @ deform)


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire"])
def test_molecule_comes_to_the_minimum_that_ase_finds(optimizer, molecule, morse):
    found = relax(morse(), molecule, optimizer=optimizer, max_force=1e-8)
    assert found.converged
    assert found.reason == "converged"
    assert found.max_force < 1e-8
    assert np.abs(found.forces).max() <= found.max_force
    assert len(found.energies) == len(found.max_forces) == found.steps + 1
    assert found.energies[-1] < found.energies[0]
    atoms = atoms_of(molecule, morse())
    optimize.BFGS(atoms, logfile=None).run(fmax=1e-8, steps=500)
    expected = distances(System(atoms.positions, molecule.numbers))
    np.testing.assert_allclose(distances(found.system), expected, atol=1e-6)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


def test_lbfgs_needs_few_steps(molecule, morse):
    atoms = atoms_of(molecule, morse())
    peer = optimize.LBFGS(atoms, logfile=None)
    peer.run(fmax=1e-6)
    assert relax(morse(), molecule, max_force=1e-6).steps <= 1.2 * peer.nsteps + 5


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire"])
def test_crystal_and_cell_under_pressure(optimizer, strained, lennard_jones):
    found = relax(
        lennard_jones, strained, optimizer=optimizer, cell="full", max_force=1e-6,
        max_stress=1e-5, pressure=0.05, max_steps=2000, neighbors=neighbor_list(5.0, skin=0.4),
    )  # fmt: skip
    assert found.converged
    np.testing.assert_allclose(found.stress, -0.05 * GPa * np.eye(3), atol=1e-5 * GPa)
    pairs = neighbor_list(5.0).allocate(found.system)
    exact = jax.jit(stress(lennard_jones))(found.system, pairs)
    np.testing.assert_allclose(exact, found.stress, atol=1e-9)
    # a stationary point of the enthalpy as ASE defines it
    atoms = atoms_of(found.system, lennard_jones)
    filtered = filters.FrechetCellFilter(atoms, scalar_pressure=0.05 * GPa)
    np.testing.assert_allclose(filtered.get_forces(), 0.0, atol=2e-5)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    # no rotation: the deformation is symmetric
    deform = np.linalg.solve(np.asarray(strained.cell), np.asarray(found.system.cell))
    np.testing.assert_allclose(deform, deform.T, atol=1e-9)


CUTOFF = 8.0


def _truncated(square):
    """Lennard-Jones argon, brought to zero at the cutoff by a cubic."""
    u = (3.4**2 / square) ** 3
    return 4 * 0.0104 * (u**2 - u) * (1.0 - jnp.minimum(square / CUTOFF**2, 1.0)) ** 3


def _closed_form():
    """Lattice constant and energy per atom of the same sum, over all lattice points."""
    grid = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), axis=-1).reshape(-1, 3)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    squares = np.sum((grid[:, None] + basis) ** 2, axis=-1).ravel()
    squares = squares[squares > 0]

    def per_atom(edge):
        square = edge**2 * squares
        u = (3.4**2 / square) ** 3
        taper = np.clip(1.0 - square / CUTOFF**2, 0.0, None) ** 3
        return 0.5 * np.sum(4 * 0.0104 * (u**2 - u) * taper)

    best = scipy.optimize.minimize_scalar(per_atom, (5.0, 5.3, 5.6), tol=1e-12)
    return best.x, best.fun


@pytest.mark.parametrize(("cell", "dtype"), [("isotropic", np.float64), ("full", np.float32)])
def test_fcc_argon_comes_to_the_lattice_constant_of_its_sum(cell, dtype):
    """Against the minimum of the pair energy summed over shells of the fcc lattice."""

    def apply(params, system, neighbors):
        vectors, real = displacements(system, neighbors.within(CUTOFF))
        square = jnp.where(real, jnp.sum(vectors**2, -1), 10.0)
        return {"energy": 0.5 * jnp.sum(jnp.where(real, _truncated(square), 0.0))}

    energy_fn = bind(Potential(lambda *_: {}, apply, cutoffs=(CUTOFF,)), {})
    lattice, energy = _closed_form()
    vectors = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * 5.4
    start = System(np.zeros((1, 3), dtype), [18], cell=vectors)
    found = relax(energy_fn, start, cell=cell, max_force=1e-5, max_stress=1e-6)
    assert found.reason in ("converged", "no further progress")
    precise = 5e-6 if dtype == np.float64 else 1e-3
    edge = (4 * abs(np.linalg.det(np.asarray(found.system.cell, np.float64)))) ** (1 / 3)
    assert edge == pytest.approx(lattice, abs=precise)
    assert found.energy == pytest.approx(energy, rel=1e-5)


def test_isotropic_cell_keeps_its_shape(argon, lennard_jones):
    found = relax(lennard_jones, argon, cell="isotropic", max_force=1e-6, max_stress=1e-6)
    factor = np.asarray(found.system.cell) / np.where(np.asarray(argon.cell) == 0, 1, argon.cell)
    factor = factor[np.asarray(argon.cell) != 0]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-9)
    assert factor[0] != pytest.approx(1.0, abs=1e-4)
    assert np.trace(found.stress) == pytest.approx(0.0, abs=3e-6 * GPa)


def test_a_layer_relaxes_in_its_plane_only(argon, lennard_jones):
    tall = np.asarray(argon.cell) * np.array([[1.0], [1.0], [3.0]])
    slab = System(argon.positions, argon.numbers, cell=tall, pbc=[True, True, False])
    found = relax(lennard_jones, slab, cell="full", max_force=1e-4, max_stress=1e-3)
    normal = np.cross(tall[0], tall[1])
    change = np.asarray(found.system.cell) - tall
    np.testing.assert_allclose(change @ normal / np.linalg.norm(normal), 0.0, atol=1e-9)
    assert np.abs(change[:2]).max() > 1e-3


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire"])
def test_single_precision_ends_by_itself(optimizer, molecule, morse):
    exact = relax(morse(), molecule, max_force=1e-9)
    single = System(np.asarray(molecule.positions, np.float32), molecule.numbers)
    energy_fn = jax.tree.map(lambda x: x.astype(jnp.float32), morse())
    found = relax(energy_fn, single, optimizer=optimizer, max_force=1e-12, max_steps=20_000)
    assert not found.converged
    assert found.reason == "no further progress"
    assert found.steps < 1500
    assert found.max_force < 1e-4
    assert np.isfinite(np.asarray(found.system.positions)).all()
    assert found.system.positions.dtype == jnp.float32
    np.testing.assert_allclose(distances(found.system), distances(exact.system), atol=1e-5)
    assert "no further progress after" in str(found)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("optimizer", ["lbfgs", "fire"])
def test_converged_start_stays_where_it_is(optimizer, dtype, molecule, morse):
    """Neither a step nor a failure, in single precision, too."""
    energy_fn = jax.tree.map(lambda x: x.astype(dtype), morse())
    start = System(np.asarray(molecule.positions, dtype), molecule.numbers)
    tolerance = 1e-6 if dtype == np.float64 else 2e-3
    first = relax(energy_fn, start, optimizer=optimizer, max_force=tolerance)
    assert first.converged
    again = relax(energy_fn, first.system, optimizer=optimizer, max_force=tolerance)
    assert again.converged
    assert again.steps == 0
    np.testing.assert_array_equal(again.system.positions, first.system.positions)


def test_fixed_atoms_and_step_limit(molecule, morse):
    fixed = np.array([True, False, False, False, True])
    found = relax(morse(), molecule, fixed=fixed, max_force=1e-6)
    moved = np.linalg.norm(found.system.positions - molecule.positions, axis=-1)
    assert np.all(moved[fixed] == 0)
    assert np.all(moved[~fixed] > 1e-4)
    assert found.converged
    short = relax(morse(), molecule, max_steps=3)
    assert (short.converged, short.reason, short.steps) == (False, "step limit", 3)
    assert len(short.energies) == 4
    assert short.energy == pytest.approx(short.energies.min(), abs=1e-12)


def test_no_step_is_longer_than_allowed(morse):
    """Two atoms so close that the first force is enormous."""
    close = System(np.array([[0.0, 0, 0], [0.2, 0, 0]]), [1, 1])
    seen = []

    def watched(system, neighbors=None):
        jax.debug.callback(lambda r: seen.append(np.array(r)), system.positions)
        return morse()(system)

    for optimizer in (Lbfgs(memory=3), Fire()):
        seen.clear()
        found = relax(watched, close, optimizer=optimizer, max_step=0.05, max_force=1e-5)
        jax.effects_barrier()
        assert found.converged
        moves = np.linalg.norm(np.diff(np.array(seen), axis=0), axis=-1)
        assert 0.049 < moves.max() < 0.0501


def test_a_wall_of_nan_is_not_crossed():
    """Finite only below 1 Å, falling towards the wall: the best state is finite."""

    def energy(system, neighbors=None):
        x = system.positions[0, 0]
        return jnp.where(x < 1.0, (x - 1.05) ** 2, jnp.nan)

    for optimizer in ("lbfgs", "fire"):
        found = relax(
            energy,
            System(np.zeros((1, 3)), [1]),
            optimizer=optimizer,
            max_force=1e-9,
            max_steps=800,
        )
        assert np.isfinite(found.energy)
        assert 0.8 < float(found.system.positions[0, 0]) < 1.0
        assert not found.converged


def test_another_limit_compiles_nothing(molecule, morse, compilations):
    relax(morse(2.0), molecule, max_steps=2)
    compilations.clear()
    relax(morse(2.5), molecule, max_steps=200, max_force=1e-5, max_step=0.1)
    assert "descend" not in " ".join(map(str, compilations))


def test_refuses(molecule, morse, argon, lennard_jones):
    for words, options in {
        "optimizer must be": {"optimizer": "newton"},
        "periodic": {"cell": "full"},
        "external pressure": {"pressure": 1.0},
        "max_force": {"max_force": 0.0},
        "fixed must be": {"fixed": [0, 1]},
    }.items():
        with pytest.raises(ValueError, match=words):
            relax(morse(), molecule, **options)
    with pytest.raises(ValueError, match="positive skin"):
        relax(lennard_jones, argon, neighbors=neighbor_list(5.0))
    at_one_point = System(np.zeros((2, 3)), [1, 1])
    with pytest.raises(FloatingPointError, match="initial geometry"):
        relax(lambda s, n=None: jnp.log(s.positions[0, 0]), at_one_point)
