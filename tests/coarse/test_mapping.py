"""Maps of positions and forces, against a chain of springs whose mean force is known."""

import numpy as np
import pytest

from jaxff.coarse import force_maps, mapping
from jaxff.units import BOLTZMANN

MASSES = np.array([12.0, 1.0, 1.0, 14.0, 1.0, 16.0])
THERMAL = 300.0 * BOLTZMANN


@pytest.fixture(scope="module")
def chain():
    """Six atoms on springs to each other and to places of their own, sampled exactly."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6))
    springs = 2.0 * factor @ factor.T + np.eye(6)
    spread = np.linalg.cholesky(np.linalg.inv(springs) * THERMAL)
    moved = np.einsum("ij,fjx->fix", spread, rng.normal(size=(4000, 6, 3)))
    return springs, moved, -np.einsum("ij,fjx->fix", springs, moved)


GROUPS = mapping.centers_of_mass([[0, 1, 2], [3, 4], [5]], MASSES)
SLICES = mapping.slices(6, [0, 3, 5])


@pytest.mark.parametrize("matrix", [GROUPS, SLICES])
def test_mapped_forces_average_to_the_mean_force(chain, matrix):
    springs, moved, forces = chain
    exact = np.linalg.inv(matrix @ np.linalg.inv(springs) @ matrix.T)  # of the free energy
    basic = mapping.linear_map(matrix, [1, 2, 3])
    best = mapping.linear_map(
        matrix, [1, 2, 3], forces=force_maps.optimal_force_map(matrix, forces[:500])
    )
    left = []
    for found in (basic, best):
        systems, mapped = found(moved, forces)
        beads = np.asarray(systems.positions)
        np.testing.assert_allclose(beads, np.einsum("Ii,fix->fIx", matrix, moved))
        slope = np.linalg.lstsq(
            beads.swapaxes(1, 2).reshape(-1, 3), mapped.swapaxes(1, 2).reshape(-1, 3), rcond=None
        )[0]
        np.testing.assert_allclose(slope.T, -exact, rtol=0.05, atol=0.05 * np.abs(exact).max())
        left.append(np.std(mapped + np.einsum("IJ,fJx->fIx", exact, beads)))
    # Springs alone leave a map without noise, which 500 frames find to their statistical error.
    assert left[0] > 0.1 * np.std(basic(moved, forces)[1])
    assert left[1] < 0.05 * left[0]


def test_basic_maps_are_the_forces_that_one_would_add_up():
    np.testing.assert_allclose(force_maps.basic_force_map(SLICES), SLICES, atol=1e-14)
    np.testing.assert_allclose(force_maps.basic_force_map(GROUPS), GROUPS > 0, atol=1e-14)
    rigid = force_maps.basic_force_map(SLICES, [(0, 1), (1, 2), (3, 4)])
    np.testing.assert_allclose(rigid, GROUPS > 0, atol=1e-14)
    # Beads that share an atom: what is left of the sums is consistent.
    shared = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    np.testing.assert_allclose(force_maps.basic_force_map(shared) @ shared.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(mapping.linear_map(GROUPS, [1, 1, 1]).masses(MASSES), [14, 15, 16])


def test_rigid_bonds_are_found_and_not_cut(chain):
    _, moved, forces = chain
    frames = moved[:50] + np.arange(6)[:, None] * 0.6
    direction = frames[:, 1] - frames[:, 0]
    frames[:, 1] = frames[:, 0] + direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    pairs = force_maps.rigid_pairs(frames)
    assert pairs.tolist() == [[0, 1]]
    best = force_maps.optimal_force_map(SLICES, forces[:100], pairs)
    np.testing.assert_allclose(best[:, 0], best[:, 1])
    found = mapping.linear_map(SLICES, [6, 7, 8], forces=best, constraints=pairs)
    assert found.constraints.tolist() == [[0, 1]]
    far = force_maps.optimal_force_map(SLICES, forces[:100], pairs, ridge=1e6)
    np.testing.assert_allclose(far, force_maps.basic_force_map(SLICES, pairs), atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mapping.linear_map(SLICES, [1, 1, 1], constraints=[(0, 3)]), "joins atoms"),
        (lambda: mapping.linear_map(SLICES, [1, 1, 1], forces=SLICES, constraints=[(0, 1)]),
         "cuts the rigid bond of atoms 0 and 1"),
        (lambda: mapping.linear_map(GROUPS, [1, 1, 1], forces=SLICES[[1, 0, 2]]), "orthogonal"),
        (lambda: mapping.linear_map(2 * SLICES, [1, 1, 1]), "add up to 2"),
        (lambda: mapping.linear_map(SLICES[[0, 0]], [1, 1]), "rank 1, expected 2"),
        (lambda: mapping.linear_map(SLICES, [1, 0, 1]), "positive integers"),
        (lambda: mapping.linear_map(SLICES, [1, 1, 1], constraints=[(0, 6)]), "from 0 to 5"),
        (lambda: mapping.linear_map(SLICES, [1, 1, 1]).systems(np.zeros((2, 5, 3))), "6 atoms"),
        (lambda: mapping.slices(6, [0, 0]), "different"),
        (lambda: mapping.centers_of_mass([[7]], MASSES), "from 0 to 5"),
        (lambda: force_maps.optimal_force_map(SLICES, np.zeros((0, 6, 3))), "give more frames"),
    ],
)  # fmt: skip
def test_inconsistent_maps_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_forces_of_few_frames_keep_the_mean_force_by_the_map_of_the_others():
    """Of as many frames as free coefficients ask twice, a map found from them takes half away."""
    rng = np.random.default_rng(5)
    atoms, frames, trials = 42, 60, 40
    spread = rng.normal(size=(atoms, atoms)) / np.sqrt(atoms)
    stiff = spread @ spread.T + 0.3 * np.eye(atoms)
    root = np.linalg.cholesky(np.linalg.inv(stiff))
    matrix = np.eye(atoms)[:2]
    mean = np.linalg.inv(np.linalg.inv(stiff)[:2, :2])
    slopes = {"own": [], "crossed": []}
    for _ in range(trials):
        moved = np.einsum("ij,fjx->fix", root, rng.normal(size=(frames, atoms, 3)))
        forces = -np.einsum("ij,fjx->fix", stiff, moved)
        exact = -np.einsum("ij,fjx->fix", mean, moved[:, :2])
        own = np.einsum("bi,fix->fbx", force_maps.optimal_force_map(matrix, forces), forces)
        for name, found in (("own", own), ("crossed", force_maps.crossed_forces(matrix, forces))):
            slopes[name].append(np.sum(found * exact) / np.sum(exact**2))
    error = np.std(slopes["crossed"], ddof=1) / np.sqrt(trials)
    assert abs(np.mean(slopes["crossed"]) - 1.0) < 4 * error < 0.2
    expected = 1.0 - (atoms - 2) / (3 * frames)
    np.testing.assert_allclose(np.mean(slopes["own"]), expected, atol=0.05)
    with pytest.raises(ValueError, match="more frames"):
        force_maps.crossed_forces(matrix, forces[:20])
