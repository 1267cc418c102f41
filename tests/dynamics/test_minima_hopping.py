"""Minima hopping on clusters whose minima are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, dynamics
from jaxff.dynamics.minima_hopping import minima_hopping, sorted_distances


def lennard_jones(system, neighbors=None):
    """All pairs, 1 eV and 1 Å."""
    i, j = np.triu_indices(system.positions.shape[0], 1)
    vectors = system.positions[i] - system.positions[j]
    inverse = 1.0 / jnp.sum(vectors**2, axis=-1) ** 3
    return jnp.sum(4.0 * (inverse**2 - inverse))


ENERGY = jax.tree_util.Partial(lennard_jones)
SETTINGS = {
    "temperature": 5000.0,
    "threshold": 0.4,
    "timestep": 2.0,
    "turns": 3,
    "energy_tolerance": 1e-4,
}


def cluster(atoms, seed):
    """Argon atoms at random, no two closer than 0.9 Å."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < atoms:
        point = rng.uniform(-1.4, 1.4, 3)
        if all(np.linalg.norm(point - other) > 0.9 for other in found):
            found.append(point)
    return System(np.array(found), np.full(atoms, 18))


@pytest.fixture(scope="module")
def six():
    """A search among the two minima of six atoms, cut in two."""
    start = cluster(6, seed=1)
    first = minima_hopping(ENERGY, start, hops=8, key=jax.random.key(0), **SETTINGS)
    seen = []
    whole = minima_hopping(
        ENERGY, start, hops=8, key=jax.random.key(1), previous=first, progress=seen.append,
        **SETTINGS,
    )  # fmt: skip
    return first, whole, seen


def test_the_two_minima_of_six_atoms(six):
    """The octahedron and the capped trigonal bipyramid (Hoare & Pal, Adv. Phys. 20, 161 (1971))."""
    _, whole, _ = six
    energies = [one.energy for one in whole.ranked]
    np.testing.assert_allclose(energies, [-12.712062, -12.302927], atol=1e-5)
    for one in whole.minima:
        forces = -jax.grad(lambda x, s=one.system: ENERGY(s.replace(positions=x)))(
            one.system.positions
        )
        assert np.abs(forces).max() < 1e-3


def test_feedback_follows_its_rules(six):
    first, whole, seen = six
    assert whole.hops[:8] == first.hops
    assert whole.hops[8:] == seen
    assert len(first.minima) <= len(whole.minima)
    current, known = 0, {0}
    for hop, after in zip(whole.hops, [*whole.hops[1:], None], strict=True):
        assert hop.new == (hop.minimum not in known)
        known.add(hop.minimum)
        rise = hop.energy - whole.minima[current].energy
        assert hop.accepted == (hop.minimum != current and rise < hop.threshold)
        factor = 1.0 if hop.minimum == current else 1 / 1.02 if hop.accepted else 1.02
        warmer = 1 / 1.1 if hop.new else 1.1
        following = after or whole
        assert following.temperature == pytest.approx(warmer * hop.temperature)
        assert following.threshold == pytest.approx(factor * hop.threshold)
        current = hop.minimum if hop.accepted else current
    assert current == whole.current
    assert sum(one.visits for one in whole.minima) == 1 + len(whole.hops)
    outcomes = {(hop.new, hop.accepted) for hop in whole.hops}
    assert len(outcomes) > 1  # or the rules above were hardly asked


@pytest.mark.slow
def test_the_icosahedron_of_thirteen_atoms():
    """-44.326801 (Wales & Doye, J. Phys. Chem. A 101, 5111 (1997)), from two random starts."""
    for seed in (0, 1):
        found = minima_hopping(
            ENERGY, cluster(13, seed), hops=150, key=jax.random.key(seed),
            **SETTINGS | {"threshold": 1.0},
        )  # fmt: skip
        assert found.ranked[0].energy == pytest.approx(-44.326801, abs=1e-4)


def test_unsound_geometries_are_refused(six):
    lowest = six[1].ranked[0].energy

    def not_the_lowest(system):
        return float(ENERGY(system)) > lowest + 0.1

    high = six[1].ranked[1].system
    found = minima_hopping(
        ENERGY, high, hops=6, key=jax.random.key(4), sound=not_the_lowest, **SETTINGS
    )
    refused = [hop for hop in found.hops if hop.minimum is None]
    assert refused
    assert all(np.isnan(hop.energy) and not hop.accepted for hop in refused)
    assert min(one.energy for one in found.minima) > lowest + 0.1
    with pytest.raises(ValueError, match="no sound minimum"):
        minima_hopping(
            ENERGY, six[1].ranked[0].system, hops=1, key=jax.random.key(0), sound=not_the_lowest
        )


def test_sorted_distances_do_not_see_motion_mirrors_or_names():
    rng = np.random.default_rng(0)
    positions, numbers = rng.normal(size=(5, 3)), np.array([6, 1, 1, 8, 1])
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [1, 1, -1]
    order = np.array([3, 4, 0, 1, 2])
    moved = System((positions @ rotation + 1.0)[order], numbers[order])
    trace = sorted_distances(System(positions, numbers))
    np.testing.assert_allclose(sorted_distances(moved), trace, atol=1e-12)
    changed = System(positions, numbers[::-1].copy())
    assert np.abs(sorted_distances(changed) - trace).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hops": 0}, "hops must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"heating": 1.0}, "heating must be larger than 1"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        minima_hopping(ENERGY, cluster(2, 0), **{"hops": 1, "key": jax.random.key(0), **options})


def test_refuses_cells():
    crystal = System(np.eye(3), np.full(3, 18), cell=10 * np.eye(3))
    with pytest.raises(ValueError, match="without a cell"):
        dynamics.minima_hopping(ENERGY, crystal, hops=1, key=jax.random.key(0))
