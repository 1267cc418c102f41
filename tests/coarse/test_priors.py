"""Priors: energies by hand, the published constants, Boltzmann inversion in closed form."""

import jax
import numpy as np
import pytest

from jaxff import add, analysis, bind, energy_and_forces, io, units
from jaxff.coarse import check_units, priors
from jaxff.system import System

KEY = jax.random.key(0)
SIX = System(np.zeros((6, 3)), np.ones(6, int))
KCAL = units.KCAL_PER_MOL

# Six beads of alanine dipeptide, C N CA CB C N, as published with the paper on the kernel approach:
# kcal/mol, Å; turns between successive bonds, the supplements of the angles.
BONDS = [(0, 1), (1, 2), (2, 4), (4, 5), (2, 3)]
LENGTHS = [1.329801, 1.465415, 1.543646, 1.335137, 1.535296]
BOND_STIFFNESS = np.array([952.32, 672.39, 645.06, 949.38, 621.35]) * KCAL
ANGLES = [(0, 1, 2), (1, 2, 4), (2, 4, 5), (1, 2, 3), (3, 2, 4)]
TURNS = np.array([0.968605, 1.176841, 1.098959, 1.245460, 1.190921])
ANGLE_STIFFNESS = np.array([194.25, 176.47, 232.29, 205.20, 171.76]) * KCAL


@pytest.fixture(scope="module")
def alanine():
    """The published prior."""
    bonds, angles = priors.harmonic_bonds(BONDS), priors.harmonic_angles(ANGLES)
    values = (
        bonds.init(KEY, SIX, length=LENGTHS, stiffness=BOND_STIFFNESS),
        angles.init(KEY, SIX, angle=np.pi - TURNS, stiffness=ANGLE_STIFFNESS),
    )
    return bind(add(bonds, angles), values)


def direction(first, angle, second, other):
    """Unit vector at given angles to two others."""
    cosines = np.array([np.cos(angle), np.cos(other)])
    overlap = first @ second
    inner = np.linalg.solve([[1.0, overlap], [overlap, 1.0]], cosines)
    flat = inner[0] * first + inner[1] * second
    normal = np.cross(first, second)
    return flat + np.sqrt(1.0 - flat @ flat) * normal / np.linalg.norm(normal)


@pytest.fixture(scope="module")
def relaxed():
    """All published lengths and angles at once; dihedrals are free."""
    interior = np.pi - TURNS
    z, x = np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])
    at = np.zeros((6, 3))
    to_c = np.cos(interior[1]) * z + np.sin(interior[1]) * x
    at[1], at[4] = LENGTHS[1] * z, LENGTHS[2] * to_c
    at[3] = LENGTHS[4] * direction(z, interior[3], to_c, interior[4])
    sideways = np.array([0.0, 1.0, 0.0])
    back = -z
    at[0] = at[1] + LENGTHS[0] * (np.cos(interior[0]) * back + np.sin(interior[0]) * sideways)
    at[5] = at[4] + LENGTHS[3] * (-np.cos(interior[2]) * to_c + np.sin(interior[2]) * sideways)
    return at


def test_published_alanine(alanine, relaxed):
    """A tetrahedral centre fits all angles as turns; there the prior has no energy and no force."""
    frames = np.stack([relaxed, relaxed])
    frames[1, 5] += 0.02 * (relaxed[5] - relaxed[4]) / LENGTHS[3]  # along its bond
    energy, forces = jax.jit(energy_and_forces(alanine))(System(frames, np.ones(6, int)))
    np.testing.assert_allclose(energy[0], 0.0, atol=1e-20)
    np.testing.assert_allclose(forces[0], 0.0, atol=1e-9)
    np.testing.assert_allclose(energy[1], 0.5 * BOND_STIFFNESS[3] * 0.02**2)
    np.testing.assert_allclose(np.linalg.norm(forces[1, 5]), 0.02 * BOND_STIFFNESS[3])
    np.testing.assert_allclose(forces[1].sum(axis=0), 0.0, atol=1e-9)


def test_inversion_gives_the_published_constants(data_dir):
    """Five of the beads, of the same simulation: all but those at CB."""
    with np.load(data_dir / "ala2_cg" / "ala2_cg.npz") as file:
        positions, forces = file["R"], file["F"]
    systems = System(positions, [6, 7, 6, 6, 7])
    ratio, error = check_units(systems, KCAL * forces, 300.0)  # 1.056 ± 0.011
    assert error < 0.02
    assert abs(ratio - 1.0) < 0.1
    with pytest.raises(ValueError, match="kcal/mol"):
        check_units(systems, forces, 300.0)
    bonds = priors.invert_bonds(positions, [(0, 1), (1, 2), (2, 3), (3, 4)], 300.0, volume=False)
    np.testing.assert_allclose(bonds["length"], LENGTHS[:4], rtol=1e-3)
    np.testing.assert_allclose(bonds["stiffness"], BOND_STIFFNESS[:4], rtol=0.03)
    angles = priors.invert_angles(positions, [(0, 1, 2), (1, 2, 3), (2, 3, 4)], 300.0, volume=False)
    np.testing.assert_allclose(angles["angle"], np.pi - TURNS[:3], rtol=5e-3)
    np.testing.assert_allclose(angles["stiffness"], ANGLE_STIFFNESS[:3], rtol=0.06)


def test_frames_of_a_bias_count_with_their_weights():
    """A constant pull shifts the mean of a spring; weights put it back."""
    thermal, stiffness, pull = units.BOLTZMANN * 300.0, 20.0, 1.0
    rng = np.random.default_rng(3)
    tried = rng.uniform(1.0, 2.1, 400_000)
    chance = tried**2 * np.exp(-(10.0 * (tried - 1.5) ** 2 - pull * tried - 1.5) / thermal)
    length = rng.choice(tried, 20_000, p=chance / chance.sum())
    positions = np.stack([np.zeros((len(length), 3)), length[:, None] * np.eye(3)[0]], axis=1)
    weights = np.exp(-pull * length / thermal)
    plain = priors.invert_bonds(positions, [(0, 1)], 300.0)
    found = priors.invert_bonds(positions, [(0, 1)], 300.0, weights=weights)
    np.testing.assert_allclose(plain["length"], 1.5 + pull / stiffness, atol=2e-3)
    np.testing.assert_allclose(found["length"], 1.5, atol=4e-3)
    np.testing.assert_allclose(found["stiffness"], stiffness, rtol=0.1)


@pytest.fixture(scope="module")
def bent():
    """Three beads at equilibrium on two springs and an angle, in space, sampled exactly."""
    rng = np.random.default_rng(0)
    thermal, frames = units.BOLTZMANN * 300.0, 40_000
    length, stiffness, angle, bending = 1.0, 1.0, 1.3, 0.5

    def sample(mean, width, weight, most):
        tries = rng.normal(mean, width, 8 * frames)
        tries = tries[(tries > 0) & (tries < most)]
        return tries[rng.random(len(tries)) < weight(tries)][:frames]

    one, other = (
        sample(length, np.sqrt(thermal / stiffness), lambda b: (b / 2.5) ** 2, 2.5)
        for _ in range(2)
    )
    turn = sample(angle, np.sqrt(thermal / bending), np.sin, np.pi)
    count = min(map(len, (one, other, turn)))
    positions = np.zeros((count, 3, 3))
    positions[:, 0, 0] = one[:count]
    positions[:, 2, 0] = other[:count] * np.cos(turn[:count])
    positions[:, 2, 1] = other[:count] * np.sin(turn[:count])
    return positions


def test_inversion_counts_the_volume_of_space(bent):
    bonds = priors.invert_bonds(bent, [(0, 1), (1, 2)], 300.0)
    np.testing.assert_allclose(bonds["length"], 1.0, atol=0.006)
    np.testing.assert_allclose(bonds["stiffness"], 1.0, rtol=0.05)
    angles = priors.invert_angles(bent, [(0, 1, 2)], 300.0)
    np.testing.assert_allclose(angles["angle"], 1.3, atol=0.01)
    np.testing.assert_allclose(angles["stiffness"], 0.5, rtol=0.05)
    # Without, lengths are those of b² exp(-βU): too long by 2 kT/k in first order.
    plain = priors.invert_bonds(bent, [(0, 1)], 300.0, volume=False)["length"]
    np.testing.assert_allclose(plain - 1.0, 2 * units.BOLTZMANN * 300.0, rtol=0.2)


def test_a_prior_is_subtracted_and_restored(bent, tmp_path):
    systems = System(bent[:50], [1, 1, 1])
    prior = priors.fit_prior(
        systems, 300.0, bonds=[(0, 1), (1, 2)], angles=[(0, 1, 2)], repulsive=[(0, 2)]
    )
    forces = np.asarray(energy_and_forces(prior)(systems)[1])
    np.testing.assert_allclose(priors.subtract(prior, systems, forces), 0.0, atol=1e-12)
    np.testing.assert_array_equal(priors.subtract(None, systems, forces), forces)
    for wrong in (None, forces[:5], np.full_like(forces, np.nan)):
        with pytest.raises(ValueError, match="shape of the positions"):
            priors.subtract(prior, systems, wrong)
    bonds, angles, _ = prior.params
    lengths = analysis.distances(bent[:50], [(0, 1), (1, 2)])
    turn = np.radians(analysis.angles(bent[:50], [(0, 1, 2)]))
    by_hand = 0.5 * np.sum(bonds["stiffness"] * (lengths - bonds["length"]) ** 2, axis=1)
    by_hand += 0.5 * np.sum(angles["stiffness"] * (turn - angles["angle"]) ** 2, axis=1)
    far = analysis.distances(bent[:50], [(0, 2)])
    by_hand += units.BOLTZMANN * 300.0 * np.sum((far.min() / far) ** 6, axis=1)
    np.testing.assert_allclose(prior(systems), by_hand)
    nearest = np.linalg.norm(bent[:50, 2] - bent[:50, 0], axis=-1).min()
    thermal = units.BOLTZMANN * 300.0
    np.testing.assert_allclose(prior.params[2]["diameter"], nearest)
    pair = priors.repulsion([(0, 1)])
    close = System([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [1, 1])
    values = pair.init(KEY, close, diameter=2.0, strength=0.5)
    np.testing.assert_allclose(bind(pair, values)(close), 0.5 * 2.0**6)
    np.testing.assert_allclose(prior.params[2]["strength"], thermal)
    again = priors.restore(prior, pair, values)
    np.testing.assert_allclose(again(systems), prior(systems) + bind(pair, values)(systems))
    io.save(tmp_path / "prior.safetensors", again.potential, again.params)
    loaded = bind(*io.load(tmp_path / "prior.safetensors"))
    np.testing.assert_allclose(loaded(systems), again(systems))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: priors.harmonic_bonds([(0, 0)]), "different beads"),
        (lambda: priors.harmonic_angles([(0, 1)]), "rows of 3 beads"),
        (lambda: priors.repulsion([(0, 1)], power=0), "power"),
        (lambda: priors.invert_bonds(np.ones((5, 2, 3)) * [[[1], [2]]], [(0, 1)], 300.0), "move"),
        (lambda: priors.fit_prior(System(np.zeros((2, 2, 3)), [1, 1]), 300.0), "got none"),
        (lambda: bind(priors.harmonic_bonds([(0, 3)]), {})(System(np.zeros((2, 3)), [1, 1])),
         "at least 4 beads"),
    ],
)  # fmt: skip
def test_priors_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_torsions_are_the_series_of_the_dihedrals():
    """Values by numpy, forces by differences of energies, no force where the angle is straight."""
    rng = np.random.default_rng(3)
    frames, rows = rng.normal(size=(5, 6, 3)), [(0, 1, 2, 4), (1, 2, 4, 5)]
    cosine, sine = rng.normal(size=(2, 2, 3))
    series = priors.torsions(rows, 3)
    model = bind(series, series.init(KEY, SIX, cosine=cosine, sine=sine))
    angles = np.radians(analysis.dihedrals(frames, rows))[..., None] * np.arange(1, 4)
    wanted = np.sum(cosine * np.cos(angles) + sine * np.sin(angles), axis=(1, 2))
    energy, forces = energy_and_forces(model)(System(frames, np.ones(6, int)))
    np.testing.assert_allclose(energy, wanted, rtol=1e-12)
    way, step = rng.normal(size=frames.shape), 1e-6
    ends = [model(System(frames + sign * step * way, np.ones(6, int))) for sign in (1, -1)]
    slope = np.sum(way * forces, axis=(1, 2))
    np.testing.assert_allclose((ends[1] - ends[0]) / (2 * step), slope, rtol=1e-6, atol=1e-7)
    straight = np.zeros((6, 3))
    straight[:, 0] = np.arange(6.0)
    assert np.isfinite(energy_and_forces(model)(System(straight, np.ones(6, int)))[1]).all()
    with pytest.raises(ValueError, match="order"):
        priors.torsions(rows, 0)
    with pytest.raises(ValueError, match="4"):
        priors.torsions([(0, 1, 2)], 3)
