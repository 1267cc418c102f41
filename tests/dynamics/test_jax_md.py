"""The adapter under jax-md's own simulators, called as its documentation does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import units
from jaxff.derivatives import forces, stress
from jaxff.dynamics import to_jax_md
from jaxff.neighbors import neighbor_list
from jaxff.potential import Potential, bind
from jaxff.system import System, pack, stack

AMU = units.TIME**2  # eV fs²/Å²


def total_energy(energy, state, **kwargs):
    from jax_md import simulate

    return energy(state.position, **kwargs) + simulate.kinetic_energy(state)


@pytest.mark.slow
def test_nve_of_a_molecule(molecule, morse):
    from jax_md import simulate

    _, energy, shift = to_jax_md(morse(), molecule)
    init, apply = simulate.nve(energy, shift, 0.1)
    masses = AMU * units.masses(molecule.numbers)
    state = init(jax.random.key(0), molecule.positions, units.BOLTZMANN * 300, mass=masses)
    before = total_energy(energy, state)
    state = jax.lax.fori_loop(0, 2000, lambda _, s: apply(s), state)
    assert state.position.dtype == jnp.float64
    assert abs(total_energy(energy, state) - before) < 2e-3
    expected = jax.jit(forces(morse()))(molecule.replace(positions=state.position))
    np.testing.assert_allclose(state.force, expected, atol=1e-9)


def test_nvt_nose_hoover_conserves_its_invariant(molecule, morse):
    from jax_md import simulate

    neighbor_fn, energy, shift = to_jax_md(morse(), molecule)
    thermal = units.BOLTZMANN * 300
    init, apply = simulate.nvt_nose_hoover(energy, shift, 0.1, thermal, tau=20.0)
    masses = AMU * units.masses(molecule.numbers)
    state = init(jax.random.key(0), molecule.positions, mass=masses)
    pairs = neighbor_fn.allocate(molecule.positions)  # empty, but there for any loop

    @jax.jit
    def thousand(state, pairs):
        def step(_, both):
            state, pairs = both
            state = apply(state, neighbor=pairs, kT=thermal)
            return state, neighbor_fn.update(state.position, pairs)

        return jax.lax.fori_loop(0, 1000, step, (state, pairs))

    before = simulate.nvt_nose_hoover_invariant(energy, state, thermal)
    state, pairs = thousand(state, pairs)
    after = simulate.nvt_nose_hoover_invariant(energy, state, thermal)
    assert abs(after - before) < 5e-3
    assert not pairs.did_buffer_overflow


def test_minimize_reaches_zero_forces(molecule, morse):
    from jax_md import minimize

    _, energy, shift = to_jax_md(morse(), molecule)
    init, apply = minimize.fire_descent(energy, shift, dt_start=0.02, dt_max=0.1)
    state = init(molecule.positions)
    state = jax.lax.fori_loop(0, 600, lambda _, s: apply(s), state)
    assert jnp.max(jnp.abs(state.force)) < 1e-6
    assert energy(state.position) < energy(molecule.positions)


@pytest.mark.slow
def test_periodic_nve_with_pair_lists(argon, lennard_jones, lennard_jones_images):
    from jax_md import simulate

    builder = neighbor_list(5.0, skin=1.0)
    neighbor_fn, energy, shift = to_jax_md(lennard_jones, argon, neighbor_list=builder)
    exact = to_jax_md(lennard_jones_images, argon)[1]
    init, apply = simulate.nve(energy, shift, 4.0)
    pairs = neighbor_fn.allocate(argon.positions)
    mass = AMU * np.full(32, 39.95)
    state = init(
        jax.random.key(1), argon.positions, units.BOLTZMANN * 300, mass=mass, neighbor=pairs
    )
    before = total_energy(energy, state, neighbor=pairs)

    @jax.jit
    def ten(state, pairs):
        def step(_, both):
            state, pairs = both
            pairs = neighbor_fn.update(state.position, pairs)
            return apply(state, neighbor=pairs), pairs

        return jax.lax.fori_loop(0, 10, step, (state, pairs))

    renewed, chunks = 0, 0
    while chunks < 20:
        new, updated = ten(state, pairs)
        updated = neighbor_fn.update(new.position, updated)
        if updated.did_buffer_overflow:
            pairs = neighbor_fn.allocate(state.position)
            renewed += 1
            continue
        state, pairs, chunks = new, updated, chunks + 1
    assert renewed > 1
    after = total_energy(energy, state, neighbor=pairs)
    assert abs(after - before) < 2e-3
    np.testing.assert_allclose(energy(state.position, pairs), exact(state.position), atol=1e-10)


def test_update_flags_a_moved_atom_and_keeps_the_flag(argon, lennard_jones):
    builder = neighbor_list(5.0, skin=1.0)
    neighbor_fn, energy, _ = to_jax_md(lennard_jones, argon, neighbor_list=builder)
    pairs = neighbor_fn.allocate(argon.positions)
    for distance, flag in ((0.49, False), (0.51, True), (jnp.nan, True)):
        moved = argon.positions.at[3, 1].add(distance)
        assert bool(neighbor_fn.update(moved, pairs).did_buffer_overflow) is flag
    late = neighbor_fn.update(argon.positions.at[3, 1].add(0.6), pairs)
    assert neighbor_fn.update(argon.positions, late).did_buffer_overflow
    plain = builder.allocate(argon)
    assert energy(argon.positions, neighbor=plain) == energy(argon.positions, neighbor=pairs)


def test_pressure_by_perturbation_is_minus_the_mean_stress(argon, lennard_jones):
    from jax_md import quantity

    builder = neighbor_list(5.0, skin=1.0)
    rattled = argon.replace(
        positions=argon.positions + 0.2 * jax.random.normal(jax.random.key(0), (32, 3))
    )
    _, energy, _ = to_jax_md(lennard_jones, rattled, neighbor_list=builder)
    pairs = builder.allocate(rattled)
    ours = jax.jit(stress(lennard_jones))(rattled, pairs)
    # jax-md's box has the lattice vectors as columns; ours are rows.
    box = rattled.cell.T
    volume = jnp.abs(jnp.linalg.det(box))
    by_strain = jax.grad(lambda e: energy(rattled.positions, pairs, perturbation=1.0 + e))(0.0)
    np.testing.assert_allclose(by_strain / (3 * volume), jnp.trace(ours) / 3, rtol=1e-10)
    matrix = jax.grad(
        lambda e: energy(rattled.positions, pairs, perturbation=jnp.eye(3) + e)
    )(jnp.zeros((3, 3)))  # fmt: skip
    np.testing.assert_allclose(matrix / volume, ours, atol=1e-12)
    assert quantity.volume(3, box) == pytest.approx(volume)


def test_refusals(argon, molecule, lennard_jones, morse):
    with pytest.raises(ValueError, match="has cutoffs"):
        to_jax_md(lennard_jones, argon)
    for several in (stack([molecule, molecule]), pack([molecule, molecule])):
        with pytest.raises(ValueError, match="single system"):
            to_jax_md(morse(), several)
    _, energy, _ = to_jax_md(morse(), molecule)
    with pytest.raises(ValueError, match="box= is not supported"):
        energy(molecule.positions, box=jnp.eye(3))


def test_atoms_are_not_wrapped(argon):
    _, _, shift = to_jax_md(lambda s, n=None: 0.0, argon)
    np.testing.assert_array_equal(
        shift(argon.positions, jnp.full((32, 3), 30.0), t=1.0), argon.positions + 30.0
    )


def test_single_precision_is_kept(molecule):
    single = System(np.asarray(molecule.positions, np.float32), molecule.numbers)
    _, energy, shift = to_jax_md(lambda s, n=None: jnp.sum(s.positions**2), single)
    assert energy(single.positions).dtype == jnp.float32
    assert shift(single.positions, single.positions).dtype == jnp.float32


def test_a_potential_that_refuses_its_stress_refuses_a_strain(argon):
    """Forces alone, and a perturbation that is not there, are given all the same."""
    refusing = Potential(
        lambda key, system, **named: jnp.asarray(1.0),
        lambda params, system, neighbors=None: {"energy": params * jnp.sum(system.positions**2)},
        refuses=lambda params: {"stress": "fitted in a single cell"},
    )
    _, energy, _ = to_jax_md(bind(refusing, jnp.asarray(1.0)), argon)
    expected = jnp.sum(argon.positions**2)
    np.testing.assert_allclose(energy(argon.positions, perturbation=None), expected)
    with pytest.raises(ValueError, match="fitted in a single cell"):
        energy(argon.positions, perturbation=1.01)
