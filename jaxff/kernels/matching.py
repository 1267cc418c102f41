r"""Which atom of one geometry plays the part of which atom of another, by distance matrices.

A permutation ``p`` reorders atoms as ``positions[p]``.  It matches geometry *i* to geometry *j* at
the cost :math:`\lVert A_i[p][:, p] - A_j\rVert_F` in Å, where *A* holds all interatomic distances:
rotations, translations and reflections do not matter.  All of it runs on the host, in float64.

Reference:
    Umeyama, IEEE Trans. Pattern Anal. Mach. Intell. 10, 695 (1988), doi:10.1109/34.6778, for the
    spectral assignment; Chmiela et al., Nat. Commun. 9, 3887 (2018),
    doi:10.1038/s41467-018-06169-2, for its use in force fields.
"""

import numpy as np

from jaxff.kernels.images import lattice_of, nearest_distances
from jaxff.types import Bool, Float, Int

__all__ = ["anchored_match", "distance_matrices", "match", "match_costs", "match_pairs"]

_CHUNK = 2**20  # array elements worked on at once: 8 MB a temporary


def distance_matrices(
    positions: Float[np.ndarray, "frames atoms 3"],
    cell: Float[np.ndarray, "*frames 3 3"] | None = None,
    pbc: Bool[np.ndarray, "*frames 3"] | None = None,
) -> Float[np.ndarray, "frames atoms atoms"]:
    """All interatomic distances in Å, of the nearest image where there is a cell of any shape.

    Args:
        positions: Cartesian coordinates in Å.
        cell: Lattice vectors as rows in Å, one cell for all frames or one for each.
        pbc: Periodic directions; ``None`` with a cell means all three.

    Raises:
        ValueError: If a periodic direction has no lattice vector of its own.
    """
    positions = np.asarray(positions, float)
    frames, atoms, _ = positions.shape
    result = np.empty((frames, atoms, atoms))
    if cell is not None and (pbc is None or np.any(pbc)):
        cells = np.broadcast_to(np.asarray(cell, float), (frames, 3, 3))
        periodic = np.broadcast_to(True if pbc is None else np.asarray(pbc, bool), (frames, 3))
        for frame, here in enumerate(positions):
            try:
                lattice = lattice_of(cells[frame], periodic[frame])
            except ValueError as error:
                raise ValueError(f"frame {frame}: {error}") from error
            result[frame] = nearest_distances(here, here, lattice)
        return result
    step = max(1, _CHUNK // (3 * atoms**2))
    for start in range(0, frames, step):
        part = slice(start, start + step)
        difference = positions[part, :, None] - positions[part, None, :]
        result[part] = np.sqrt(np.einsum("nabx,nabx->nab", difference, difference))
    return result


def match(
    first: Float[np.ndarray, "pairs atoms 3"],
    second: Float[np.ndarray, "pairs atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "3 3"] | None = None,
    pbc: Bool[np.ndarray, " 3"] | None = None,
) -> tuple[Int[np.ndarray, "pairs atoms"], Float[np.ndarray, " pairs"]]:
    """Permutations that bring the first geometries close to the second, and what stays between.

    Only atoms of one element change places.  The identity is returned where nothing better is
    found; the problem is hard and the search a heuristic, so there may be a better match.

    Args:
        first: Coordinates to be reordered in Å.
        second: Coordinates to be reached in Å.
        numbers: Atomic numbers.
        cell: Lattice vectors as rows in Å, for all pairs.
        pbc: Periodic directions; ``None`` with a cell means all three.

    Returns:
        Permutations ``p``, with ``first[p]`` like ``second``, and their costs in Å.
    """
    distances = distance_matrices(np.concatenate([first, second]), cell, pbc)
    pairs = np.arange(2 * len(first)).reshape(2, -1).T
    return match_pairs(distances, np.asarray(numbers), pairs)


def match_costs(
    distances: Float[np.ndarray, "frames atoms atoms"],
    pairs: Int[np.ndarray, "pairs 2"],
    permutations: Int[np.ndarray, "#pairs atoms"],
) -> Float[np.ndarray, " pairs"]:
    """Frobenius norm in Å between two distance matrices, the first of each pair permuted."""
    frames, atoms, _ = distances.shape
    a, b = np.triu_indices(atoms, 1)
    flat = distances.reshape(frames, -1)
    images = permutations[:, a] * atoms + permutations[:, b]
    second = np.take(flat, a * atoms + b, axis=1)  # rows stay contiguous, unlike by indexing
    # One permutation for all pairs: reorder each frame once instead of once per pair.
    moved = np.take(flat, images[0], axis=1) if len(permutations) == 1 else None
    result = np.empty(len(pairs))
    step = max(1, _CHUNK // (8 * atoms**2))  # these fit a cache
    for start in range(0, len(pairs), step):
        part = slice(start, start + step)
        i, j = pairs[part].T
        first = np.take_along_axis(flat[i], images[part], axis=1) if moved is None else moved[i]
        change = np.subtract(first, second[j], out=first)
        result[part] = np.sqrt(2.0 * np.einsum("pd,pd->p", change, change))
    return result


def match_pairs(
    distances: Float[np.ndarray, "frames atoms atoms"],
    numbers: Int[np.ndarray, " atoms"],
    pairs: Int[np.ndarray, "pairs 2"],
) -> tuple[Int[np.ndarray, "pairs atoms"], Float[np.ndarray, " pairs"]]:
    """Match frames pair by pair, as :func:`match` does.

    The absolute eigenvectors of both matrices, in the order of the eigenvalues, give a first
    assignment; one step on the linearised cost improves it.

    Args:
        distances: Distance matrices of all frames in Å.
        numbers: Atomic numbers.
        pairs: Indices of the frame to be reordered and of the frame to be reached.

    Returns:
        Permutations and costs in Å.
    """
    atoms = distances.shape[1]
    different = numbers[:, None] != numbers[None, :]
    vectors = np.abs(np.linalg.eigh(distances)[1][:, :, ::-1])
    permutations = np.tile(np.arange(atoms), (len(pairs), 1))
    costs = match_costs(distances, pairs, permutations[:1])
    step = max(1, _CHUNK // atoms**2)
    for start in range(0, len(pairs), step):
        part = slice(start, start + step)
        i, j = pairs[part].T
        spectral = _assign(vectors[j] @ vectors[i].transpose(0, 2, 1), different)
        for proposal in (spectral, _improve(distances, pairs[part], spectral, different)):
            cost = match_costs(distances, pairs[part], proposal)
            better = cost < costs[part] - 1e-8 * (1.0 + costs[part])  # beyond rounding
            permutations[part][better], costs[part][better] = proposal[better], cost[better]
    return permutations, costs


def _assign(
    similarity: Float[np.ndarray, "pairs atoms atoms"], different: Bool[np.ndarray, "atoms atoms"]
) -> Int[np.ndarray, "pairs atoms"]:
    """The element-preserving assignment of largest total similarity; overwrites its argument."""
    from scipy.optimize import linear_sum_assignment

    # One wrong element must cost more than any assignment can gain.
    similarity -= different * (2.0 * len(different) * (np.abs(similarity).max() + 1.0))
    return np.array([linear_sum_assignment(one, maximize=True)[1] for one in similarity])


def _improve(
    distances: Float[np.ndarray, "frames atoms atoms"],
    pairs: Int[np.ndarray, "pairs 2"],
    permutations: Int[np.ndarray, "pairs atoms"],
    different: Bool[np.ndarray, "atoms atoms"],
) -> Int[np.ndarray, "pairs atoms"]:
    """The assignment b → a of largest Σ_c A_j[b, c] A_i[a, p(c)]: one linearised step.

    For Euclidean distances the overlap is a convex function of the relaxed permutation, so a whole
    step does not go down.
    """
    i, j = pairs.T
    moved = np.take_along_axis(distances[i], permutations[:, None, :], axis=2)
    return _assign(distances[j] @ moved.transpose(0, 2, 1), different)


def anchored_match(
    distances: Float[np.ndarray, "frames atoms atoms"],
    numbers: Int[np.ndarray, " atoms"],
    pair: Int[np.ndarray, " 2"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " atoms"]:
    """One random match, grown from the images of four anchor atoms; it need not lower the cost.

    It serves symmetric structures (crystals, clusters, cages), whose degenerate eigenvectors say
    nothing: repeated, it proposes one symmetry after the other.
    """
    first, second = distances[pair]
    different = numbers[:, None] != numbers[None, :]
    anchors = rng.permutation(len(numbers))[:4]
    images = [rng.choice(np.flatnonzero(~different[anchors[0]]))]
    for n in range(1, len(anchors)):
        misfit = np.sum((second[:, images] - first[anchors[n], anchors[:n]]) ** 2, axis=1)
        misfit[different[anchors[n]]] = np.inf
        misfit[images] = np.inf
        images.append(np.argmin(misfit))
    misfit = np.sum((second[:, None, images] - first[None, :, anchors]) ** 2, axis=-1)
    permutation = _assign(-misfit[None], different)
    for _ in range(3):
        improved = _improve(distances, pair[None], permutation, different)
        if np.array_equal(improved, permutation):
            break
        permutation = improved
    return permutation[0]
