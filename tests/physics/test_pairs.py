"""What all classical pair potentials share."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import crystal, difference, molecule, run

from jaxff import physics
from jaxff.derivatives import energy_and_forces, forces, hessian, stress
from jaxff.dynamics.neighbor_update import allocate
from jaxff.neighbors import neighbor_list
from jaxff.physics import pairs
from jaxff.physics.lennard_jones import _function, _parameters
from jaxff.potential import bind
from jaxff.system import System, strain

ELEMENTS = ["H", "C", "O"]
EPSILON, SIGMA = np.array([0.1, 0.2, 0.3]), np.array([1.0, 1.3, 1.5])


def bound(truncation="switched", cutoff=3.5, **named):
    potential = physics.lennard_jones(ELEMENTS, cutoff, truncation=truncation, **named)
    return bind(potential, potential.init(epsilon=EPSILON, sigma=SIGMA))


def lists(system, energy_fn, rows):
    made = neighbor_list(energy_fn.cutoffs, skin=0.1)
    return allocate(made, system) if rows else made.allocate(system)


@pytest.mark.parametrize("system", [crystal(), molecule(atoms=4)])
def test_rows_and_flat_lists_agree(system):
    energy_fn = bound()
    many = jax.jit(
        lambda s, n: (
            energy_and_forces(energy_fn)(s, n),
            hessian(energy_fn)(s, n),
            None if s.cell is None else stress(energy_fn)(s, n),
        )
    )
    found = [many(system, lists(system, energy_fn, rows)) for rows in (True, False)]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_hessian_is_the_derivative_of_the_forces():
    system, energy_fn = crystal(), bound()
    neighbors = lists(system, energy_fn, True)
    expected = -difference(
        lambda r: forces(energy_fn)(system.replace(positions=r), neighbors), system.positions
    )
    found = np.asarray(run(hessian(energy_fn), system, neighbors))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found, found.transpose(2, 3, 0, 1), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=2), 0.0, atol=1e-9)


def test_forces_of_the_rule_are_those_of_differentiation():
    # The same sum, written down without the rule.
    system, energy_fn = crystal(), bound("force_shifted")
    neighbors = lists(system, energy_fn, True)

    parameters = functools.partial(_parameters, (1, 6, 8))
    term = pairs.PairTerm(3.5, parameters, _function, "force_shifted", 0.0, (1, 6, 8))

    def plain(positions):
        moved = system.replace(positions=positions)
        return pairs._Sums(term, energy_fn.params, moved, neighbors.within(3.5)).energy

    expected = -jax.jit(jax.grad(plain))(system.positions)
    np.testing.assert_allclose(
        run(forces(energy_fn), system, neighbors), expected, rtol=0, atol=1e-11
    )


def test_derivatives_by_parameters_and_forward_mode():
    system, energy_fn = crystal(), bound()
    neighbors = lists(system, energy_fn, True)

    def energy(params, positions):
        return bind(energy_fn.potential, params)(system.replace(positions=positions), neighbors)

    by_params = jax.jit(jax.grad(energy))(energy_fn.params, system.positions)
    for name in ("epsilon", "sigma"):
        expected = difference(
            lambda v, name=name: energy({**energy_fn.params, name: v}, system.positions),
            energy_fn.params[name],
            1e-4,
        )
        np.testing.assert_allclose(by_params[name], expected, rtol=1e-7, atol=1e-10)
    along = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    _, slope = jax.jit(lambda r: jax.jvp(lambda r: energy(energy_fn.params, r), (r,), (along,)))(
        system.positions
    )
    force = run(forces(energy_fn), system, neighbors)
    np.testing.assert_allclose(slope, -jnp.sum(force * along), rtol=1e-10)
    # Forces by parameters, as a fit to forces needs them.
    mixed = jax.jit(jax.jacobian(jax.grad(energy, 1)))(energy_fn.params, system.positions)
    expected = difference(
        lambda v: jax.grad(energy, 1)({**energy_fn.params, "sigma": v}, system.positions),
        energy_fn.params["sigma"],
        1e-4,
    )
    np.testing.assert_allclose(mixed["sigma"], expected, atol=1e-6)


def test_stress_of_rows_is_the_derivative_by_strain():
    system, energy_fn = crystal(), bound()
    neighbors = lists(system, energy_fn, True)
    expected = difference(lambda e: energy_fn(strain(system, e), neighbors), np.zeros((3, 3)))
    found = run(stress(energy_fn), system, neighbors) * abs(np.linalg.det(system.cell))
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("kind", ["cut", "shifted", "force_shifted", "switched"])
def test_truncations(kind):
    epsilon, sigma, cutoff, onset = 0.2, 1.3, 3.0, 2.0
    potential = physics.lennard_jones(
        "C", cutoff, truncation=kind, onset=onset if kind == "switched" else None
    )
    energy_fn = bind(potential, potential.init(epsilon=epsilon, sigma=sigma))

    def bare(r):
        return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)

    slope = 4 * epsilon * (-12 * (sigma / cutoff) ** 12 + 6 * (sigma / cutoff) ** 6) / cutoff

    def expected(r):
        if r >= cutoff:
            return 0.0
        if kind == "shifted":
            return bare(r) - bare(cutoff)
        if kind == "force_shifted":
            return bare(r) - bare(cutoff) - (r - cutoff) * slope
        if kind == "switched" and r > onset:
            t = (r - onset) / (cutoff - onset)
            return bare(r) * (1 - 10 * t**3 + 15 * t**4 - 6 * t**5)
        return bare(r)

    def pair(r):
        return System(np.array([[0.3, 0.1, 0.0], [0.3 + r, 0.1, 0.0]]), [6, 6])

    neighbors = neighbor_list(cutoff, skin=1.0).allocate(pair(2.9))
    evaluate = jax.jit(lambda s: energy_and_forces(energy_fn)(s, neighbors))
    for r in (0.9, 1.3, 1.999, 2.4, 3.0 - 1e-9, 3.0 + 1e-9):
        energy, force = evaluate(pair(r))
        np.testing.assert_allclose(energy, expected(r), rtol=1e-10, atol=1e-15)
        if abs(r - cutoff) > 1e-3:
            slope_here = (expected(r + 1e-6) - expected(r - 1e-6)) / 2e-6
            np.testing.assert_allclose(force[0, 0], slope_here, rtol=1e-7, atol=1e-9)
    inside = evaluate(pair(3.0 - 1e-9))
    assert (abs(inside[0]) > 1e-4) == (kind == "cut")
    assert (np.abs(inside[1]).max() > 1e-4) == (kind in ("cut", "shifted"))


def test_unknown_elements_give_nan():
    system, energy_fn = molecule(atoms=3), bound()
    system = system.replace(numbers=jnp.asarray([6, 8, 9]))
    energy, force = run(energy_and_forces(energy_fn), system, lists(system, energy_fn, True))
    assert np.isnan(energy)
    assert np.isnan(force).all()
    # Padding is no unknown element.
    padded = system.replace(numbers=jnp.asarray([6, 8, 0]))
    assert np.isfinite(run(energy_fn, padded, lists(padded, energy_fn, True)))


def test_equal_arguments_share_compiled_code():
    assert physics.zbl(2.0) is physics.zbl(2)
    assert physics.lennard_jones("Ar", 8.5) is physics.lennard_jones([18], 8.5)
    assert physics.lennard_jones("Ar", 8.5) is not physics.lennard_jones(
        "Ar", 8.5, truncation="cut"
    )
    assert physics.morse("Ar", 8.5) is not physics.lennard_jones("Ar", 8.5)


def test_float32():
    system = crystal()
    single = System(
        *[np.asarray(x, np.float32) for x in (system.positions,)],
        [6, 8, 8],
        np.asarray(system.cell, np.float32),
    )
    for energy_fn in (bound("force_shifted"), bind(physics.zbl(2.5), {})):
        energy, force = run(energy_and_forces(energy_fn), single, lists(single, energy_fn, True))
        assert energy.dtype == force.dtype == np.float32
        _, expected = run(energy_and_forces(energy_fn), system, lists(system, energy_fn, True))
        np.testing.assert_allclose(force, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("make", [physics.lennard_jones, physics.morse])
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="truncation must be one of"):
        make("Ar", 5.0, truncation="soft")
    with pytest.raises(ValueError, match="onset belongs to truncation='switched'"):
        make("Ar", 5.0, onset=4.0)
    for onset in (-1.0, 5.0):
        with pytest.raises(ValueError, match="onset must be from 0"):
            make("Ar", 5.0, truncation="switched", onset=onset)
    for cutoff in (0.0, np.inf):
        with pytest.raises(ValueError, match="cutoff must be a positive number"):
            make("Ar", cutoff)
    for elements in ("Xx", "X", [], ["Ar", 18], 0):
        with pytest.raises(ValueError, match="elements must be"):
            make(elements, 5.0)


def test_bad_parameters():
    lj, morse = physics.lennard_jones(ELEMENTS, 4.0), physics.morse(ELEMENTS, 4.0)
    good = np.ones(3)
    for bad in (1.0, np.ones(2), np.ones((3, 2)), -good, good * np.nan, np.triu(np.ones((3, 3)))):
        with pytest.raises(ValueError, match="epsilon must be"):
            lj.init(epsilon=bad, sigma=good)
    with pytest.raises(ValueError, match=r"width must be a table of pairs \(3, 3\)"):
        morse.init(depth=np.ones((3, 3)), width=good, length=np.ones((3, 3)))
    with pytest.raises(TypeError, match=r"takes by name \['epsilon', 'sigma'\], got \['epsilon'\]"):
        lj.init(epsilon=good)
    with pytest.raises(TypeError, match=r"by name .*, got .*'widht'"):
        morse.init(depth=1.0, widht=1.0, length=1.0)
    with pytest.raises(TypeError, match=r"got .'sigma'"):
        physics.zbl(2.0).init(sigma=1.0)


def test_all_pairs_of_a_table():
    tables = {
        "epsilon": np.array([[0.1, 0.3], [0.3, 0.2]]),
        "sigma": np.array([[1, 1.4], [1.4, 2]]),
    }
    potential = physics.lennard_jones(["H", "O"], 5.0, truncation="cut")
    energy_fn = bind(potential, potential.init(**tables))
    system = System(np.eye(3) * [2.0, 1.1, 2.5], [1, 8, 8])
    expected = 0.0
    for i, j in itertools.combinations(range(3), 2):
        r = np.linalg.norm(system.positions[i] - system.positions[j])
        a, b = (int(system.numbers[k] == 8) for k in (i, j))
        ratio = (tables["sigma"][a, b] / r) ** 6
        expected += 4 * tables["epsilon"][a, b] * (ratio**2 - ratio)
    found = run(energy_fn, system, lists(system, energy_fn, True))
    np.testing.assert_allclose(found, expected)
