"""Kernels that need neighbour lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import water
from models import difference, run
from periodic_models import (
    CELL,
    CUTOFF,
    KERNELS,
    RADIAL,
    binary,
    fitted,
    lennard_jones_labels,
    single,
)

from jaxff import bind, dynamics, gdml
from jaxff.derivatives import observe
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.operator import GdmlOperator
from jaxff.gdml.potential import references_of
from jaxff.kernels import AtomicSum, Kernel, matern52, matern72
from jaxff.linalg import solvers
from jaxff.neighbors import neighbor_list
from jaxff.potential import add, scale_shift
from jaxff.system import System, stack, strain

LISTS = neighbor_list(CUTOFF)
NAMES = ("energy", "forces", "stress")


def rows(system: System):
    """Lists of one system, with rows."""
    return jax.tree.map(
        lambda leaf: leaf[0], LISTS.allocate_stack(jax.tree.map(lambda leaf: leaf[None], system))
    )


@pytest.fixture(params=KERNELS)
def model(request):
    return request.param, fitted(request.param)


def test_labels_of_a_crystal_are_reproduced(model):
    name, (potential, params, _) = model
    assert potential.cutoffs == bind(potential, params).cutoffs == (CUTOFF,)
    found = run(observe(bind(potential, params), NAMES), binary(), LISTS.allocate_stack(binary()))
    for label in KERNELS[name][2]:
        expected = lennard_jones_labels()[label]
        np.testing.assert_allclose(found[label], expected, atol=2e-3 * np.abs(expected).max())


def test_forces_and_stress_are_derivatives_at_a_geometry_between(model):
    energy_fn = bind(*model[1][:2])
    system = single(binary(1, seed=7), 0)
    lists = rows(system)
    found = run(observe(energy_fn, NAMES), system, lists)

    def energy(change):
        moved = system.replace(positions=system.positions + change[9:].reshape(2, 3))
        return energy_fn(strain(moved, change[:9].reshape(3, 3)), lists)

    slope = difference(energy, np.zeros(15))
    assert np.abs(slope).min() > 1e-4
    volume = abs(np.linalg.det(system.cell))
    np.testing.assert_allclose(found["stress"].ravel() * volume, slope[:9], atol=1e-6)
    np.testing.assert_allclose(-found["forces"].ravel(), slope[9:], atol=1e-6)


def test_an_atom_may_stand_in_any_cell(model):
    energy_fn = bind(*model[1][:2])
    system = single(binary(1, seed=7), 0)
    moved = system.replace(
        positions=system.positions + jnp.asarray([[1.0, -2, 0], [0, 1, 3]]) @ system.cell
    )
    evaluate = observe(energy_fn, NAMES)
    expected, found = run(evaluate, system, rows(system)), run(evaluate, moved, rows(moved))
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-11)


def test_matrices_are_symmetric_and_positive(model):
    name, (_, params, _) = model
    kernel, _, names = KERNELS[name]
    references = references_of(params)
    if name == "whole":
        operator = GdmlOperator(kernel, params["hyper"], references)
    else:
        operator = GenericOperator(kernel, params["hyper"], references, names)
    matrix = operator.columns(np.arange(operator.size))
    size = np.abs(matrix).max()
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12 * size)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12 * size
    # The model's own prediction at its references is the same matrix.
    vector = np.random.default_rng(0).normal(size=operator.size)
    np.testing.assert_allclose(operator.matvec(vector), matrix @ vector, atol=1e-11 * size)


@pytest.mark.slow
def test_lists_of_loops_serve_in_dynamics():
    energy_fn = bind(*fitted("whole")[:2])
    system = single(binary(), 0)
    trajectory = dynamics.run(
        energy_fn, system, ensemble=dynamics.nve(timestep=0.25), steps=40, every=10,
        temperature=200.0, key=jax.random.key(1),
    )  # fmt: skip
    frames = np.asarray(trajectory.positions)
    assert np.abs(frames[-1] - frames[0]).max() > 1e-3
    total = np.asarray(trajectory.total_energy)
    assert np.ptp(total) < 0.02 * np.ptp(np.asarray(trajectory.potential_energy))
    last = system.replace(positions=jnp.asarray(frames[-1]))
    expected = run(energy_fn, last, rows(last))
    assert np.isclose(trajectory.potential_energy[-1], expected, rtol=1e-9)


@pytest.mark.slow
def test_variances_see_the_lists():
    posterior = gdml.posterior(*fitted("whole"))
    far = binary(1, seed=9)
    far = far.replace(positions=far.positions.at[0, 0].add(0.6))
    systems = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), binary(), far)
    lists = LISTS.allocate_stack(systems)
    exact = posterior.variance(systems, ("forces",), lists)["forces"]
    assert exact[:4].max() < 1e-6 * exact[4].max()
    bound = posterior.bound(8, ("forces",))
    found = jax.jit(lambda b, s, n: b(s, n))(bound, single(far, 0), rows(single(far, 0)))
    assert np.all(found["forces"] >= exact[4] * (1 - 1e-9))
    with pytest.raises(ValueError, match="images within the cutoff"):
        bound(single(far, 0))


def test_missing_and_unfit_lists_are_refused():
    potential, params, _ = fitted("whole")
    energy_fn, system = bind(potential, params), single(binary(), 0)
    with pytest.raises(ValueError, match=r"needs neighbors within \(3.0,\) Å"):
        energy_fn(system)
    with pytest.raises(ValueError, match=r"within \(3.0,\) Å: pass .*allocate_stack"):
        potential.apply(params, system)
    with pytest.raises(ValueError, match=r"stack of shape \(4,\) needs lists of that shape"):
        energy_fn(binary(), rows(system))
    with pytest.raises(TypeError, match=r"must be made by neighbor_list.*got int"):
        energy_fn(system, 3)
    with pytest.raises(ValueError, match=r"no neighbor list for a cutoff of 3\.0 Å"):
        energy_fn(system, neighbor_list(2.0).allocate(system))
    bigger = System(np.zeros((3, 3)), [6, 8, 8], system.cell)
    with pytest.raises(ValueError, match="allocated for 3 atoms, the system has 2"):
        energy_fn(system, neighbor_list(CUTOFF, capacity=1.0).allocate(bigger))


def test_molecules_need_no_lists():
    kernel = Kernel(RADIAL, matern52)
    potential = gdml.potential(kernel)
    assert potential.cutoffs == (CUTOFF,)
    oxides = water(2).replace(numbers=jnp.asarray([[8, 6, 6]] * 2))
    params = potential.init(jax.random.key(0), oxides, hyper={"lengthscale": 1.0})
    assert "reference_neighbors" not in params
    for whole, own in (
        (potential, params),
        (add(potential, potential), (params, params)),
        (scale_shift(potential, 2.0, 0.0), params),
    ):
        assert bind(whole, own).cutoffs == ()
        assert not whole.padding
        assert bind(whole, own)(single(oxides, 0)) == 0.0
    periodic = fitted("whole").params
    assert bind(add(potential, potential), (params, periodic)).cutoffs == (CUTOFF,)
    # Lists of other parts of a sum do not disturb.
    lists = neighbor_list(1.0).allocate(single(oxides, 0))
    assert bind(potential, params)(single(oxides, 0), lists) == 0.0


def test_baselines_may_need_lists():
    """What a kernel that reproduces the labels leaves of them."""
    potential, params, _ = fitted("atoms")
    labels = lennard_jones_labels()
    rest = gdml.residual_labels(
        bind(potential, params), binary(), labels, LISTS.allocate_stack(binary())
    )
    for name, value in labels.items():
        assert np.abs(rest[name]).max() < 1e-3 * np.abs(value).max()


@pytest.mark.slow
def test_a_primitive_cell_may_hold_one_atom():
    """Its images are its surroundings."""
    rng = np.random.default_rng(4)
    crystals = [
        strain(
            System(np.zeros((1, 3)), [6], 0.7 * CELL), jnp.asarray(0.03 * rng.normal(size=(3, 3)))
        )
        for _ in range(4)
    ]
    systems = stack(crystals)
    energies = np.linspace(0.0, 0.3, 4)
    potential = gdml.potential(AtomicSum(RADIAL, matern72))
    params = potential.init(jax.random.key(0), systems, hyper={"lengthscale": 1.0})
    params, _ = gdml.fit(
        potential, params, {"energy": energies}, solver=solvers.cholesky(), regularization=1e-10
    )
    lists, energy_fn = LISTS.allocate_stack(systems), bind(potential, params)
    found = run(observe(energy_fn, ("energy", "stress")), systems, lists)
    assert np.allclose(found["energy"], energies, rtol=0, atol=1e-6)

    def energy(component):
        return energy_fn(strain(systems, jnp.zeros((3, 3)).at[0, 1].set(component)), lists)[2]

    slope = (energy(1e-5) - energy(-1e-5)) / 2e-5
    volume = abs(np.linalg.det(systems.cell[2]))
    assert np.isclose(found["stress"][2, 0, 1], slope / volume, rtol=1e-6)
