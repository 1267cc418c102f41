"""Recovery of the permutation group of a molecule or crystal from its geometries alone."""

import numpy as np

from jaxff.kernels.groups import closure, compose, inverse, is_group, verify
from jaxff.kernels.matching import (
    anchored_match,
    distance_matrices,
    match,
    match_costs,
    match_pairs,
)
from jaxff.system import System
from jaxff.types import Bool, Float, Int

__all__ = ["closure", "compose", "inverse", "is_group", "match", "recover", "verify"]

_NEIGHBORS = 5  # frames matched with each frame; twice as many find the same groups in MD17
_FEWEST, _BUDGET = 24, 10**9  # proposals tried on all pairs: at least, and by distances compared
_ATTEMPTS = 128  # random anchored matches; a few of them generate even a large group


def recover(
    systems: System,
    *,
    max_geometries: int = 1000,
    seed: int = 0,
    tolerance: float = 0.1,
    max_order: int | None = 10_000,
) -> Int[np.ndarray, "perms atoms"]:
    """The group of atom permutations that the geometries themselves show.

    Frames of similar shape are matched, the minimum spanning tree of the costs keeps the most
    reliable matches, and these generate the group.  Only frames that can be neighbours are matched:
    no permutation brings two frames closer than their sorted distances.  A permutation counts only
    if each interatomic distance and its image have sampled ranges that meet, which refuses
    accidents (an exchange that would break bonds) and needs no notion of a bond.

    What the data does not visit is not found: a few frames of one well give a subgroup.  In a
    periodic cell of two or three lattice constants minimum-image distances can have more symmetries
    than the crystal.

    Args:
        systems: Stacked systems, the same atoms in the same order; a cell means minimum images.
            One geometry gives the identity.
        max_geometries: A random subset of this size is used of more.
        seed: Seed of the subset and of the random proposals; results are reproducible.
        tolerance: Allowed gap between two ranges, relative to the distance.
        max_order: Largest group to return; ``None`` for no limit.

    Returns:
        All elements of the group, identity first, rows in lexicographic order.

    Raises:
        ValueError: If frames differ in their atoms, are not finite or are padded, or the group is
            larger than ``max_order``.

    Reference:
        Chmiela et al., Nat. Commun. 9, 3887 (2018), doi:10.1038/s41467-018-06169-2.
    """
    if max_geometries < 1:
        raise ValueError(f"max_geometries must be at least 1, got {max_geometries}")
    positions, numbers, cell, pbc = _geometries(systems)
    rng = np.random.default_rng(seed)
    if len(positions) > max_geometries:
        index = np.sort(rng.choice(len(positions), max_geometries, replace=False))
        positions = positions[index]
        cell, pbc = (None if x is None else x[index] for x in (cell, pbc))
    if len(positions) == 1 or len(np.unique(numbers)) == len(numbers):
        return np.arange(len(numbers))[None]
    distances = distance_matrices(positions, cell, pbc)
    pairs = _neighbor_pairs(distances, numbers)
    permutations, costs = match_pairs(distances, numbers, pairs)
    _refuse(distances, pairs, permutations, costs, tolerance)
    group = closure(_spanning_tree(pairs, permutations, costs), max_order=max_order)
    extra = _proposals(distances, numbers, pairs, group, tolerance, rng)
    if len(extra) == 0:
        return group
    extra = rng.permutation(np.concatenate([extra, inverse(extra)]))
    limit = max(_FEWEST, _BUDGET // (len(pairs) * len(numbers) ** 2))
    for proposal in extra[:limit]:
        cost = match_costs(distances, pairs, proposal[None])
        better = cost < costs
        permutations[better], costs[better] = proposal, cost[better]
    return closure(_spanning_tree(pairs, permutations, costs), max_order=max_order)


def _geometries(
    systems: System,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Positions, atomic numbers, cells and periodic directions as checked NumPy arrays."""
    if systems.is_packed:
        raise ValueError("recover needs stacked systems (one molecule, many frames), got a pack")
    positions, numbers = np.asarray(systems.positions, float), np.asarray(systems.numbers)
    if positions.ndim not in (2, 3) or positions.size == 0:
        raise ValueError(f"positions must have shape (frames, atoms, 3), got {positions.shape}")
    positions = positions.reshape(-1, *positions.shape[-2:])
    frames, atoms, _ = positions.shape
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=(1, 2)))
    if len(bad):
        raise ValueError(
            f"positions must be finite; frame {bad[0]} is not ({len(bad)} such frames): remove them"
        )
    numbers = np.broadcast_to(numbers, (frames, atoms))
    other = np.flatnonzero((numbers != numbers[0]).any(axis=1))
    if len(other):
        raise ValueError(
            f"frame {other[0]} has other atoms than frame 0, or another order of them: recover "
            "takes frames of one molecule, so split the data by composition"
        )
    if (numbers[0] == 0).any():
        raise ValueError("atomic number 0 marks padding: remove the padded atoms first")
    cell = systems.cell
    if cell is None:
        return positions, numbers[0], None, None
    cell = np.broadcast_to(np.asarray(cell, float), (frames, 3, 3))
    return positions, numbers[0], cell, np.broadcast_to(np.asarray(systems.pbc), (frames, 3))


def _neighbor_pairs(
    distances: Float[np.ndarray, "frames atoms atoms"], numbers: Int[np.ndarray, " atoms"]
) -> Int[np.ndarray, "pairs 2"]:
    """Pairs i < j of frames that may be close, up to a permutation or as they are, sorted."""
    a, b = np.triu_indices(len(numbers), 1)
    flat = np.take(distances.reshape(len(distances), -1), a * len(numbers) + b, axis=1)
    elements = np.sort(numbers[np.stack([a, b])], axis=0)
    kinds = np.unique(elements, axis=1, return_inverse=True)[1].ravel()
    # The best that any permutation can do: distances sorted within each pair of elements.
    ordered = np.concatenate([np.sort(flat[:, kinds == k], axis=1) for k in set(kinds)], axis=1)
    pairs = np.concatenate([_nearest(ordered, _NEIGHBORS), _nearest(flat, _NEIGHBORS // 2)])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _nearest(
    features: Float[np.ndarray, "frames features"], count: int
) -> Int[np.ndarray, "pairs 2"]:
    """Each row with the rows nearest to it."""
    centred = features - features.mean(axis=0)
    squares = np.einsum("nd,nd->n", centred, centred)
    distance = squares[:, None] + squares - 2.0 * centred @ centred.T
    np.fill_diagonal(distance, np.inf)
    count = min(count, len(features) - 1)
    others = np.argpartition(distance, count - 1, axis=1)[:, :count]
    return np.stack([np.repeat(np.arange(len(features)), count), others.ravel()], axis=1)


def _ranges_meet(
    distances: Float[np.ndarray, "frames atoms atoms"],
    permutations: Int[np.ndarray, "perms atoms"],
    tolerance: float,
) -> Bool[np.ndarray, " perms"]:
    """Whether each distance and its image have sampled ranges that overlap."""
    a, b = np.triu_indices(distances.shape[1], 1)
    low, high = distances.min(axis=0), distances.max(axis=0) * (1.0 + tolerance)

    def meet(p):
        there = low[p[a], p[b]] <= high[a, b]
        return bool((there & (low[a, b] <= high[p[a], p[b]])).all())

    return np.array([meet(p) for p in permutations], bool)


def _refuse(
    distances: Float[np.ndarray, "frames atoms atoms"],
    pairs: Int[np.ndarray, "pairs 2"],
    permutations: Int[np.ndarray, "pairs atoms"],
    costs: Float[np.ndarray, " pairs"],
    tolerance: float,
) -> None:
    """Put the identity, in place, where a match exchanges distances that never meet."""
    unique, where = np.unique(permutations, axis=0, return_inverse=True)
    wrong = ~_ranges_meet(distances, unique, tolerance)[where.ravel()]
    identity = np.arange(permutations.shape[1])
    permutations[wrong] = identity
    costs[wrong] = match_costs(distances, pairs[wrong], identity[None])


def _spanning_tree(
    pairs: Int[np.ndarray, "pairs 2"],
    permutations: Int[np.ndarray, "pairs atoms"],
    costs: Float[np.ndarray, " pairs"],
) -> Int[np.ndarray, "edges atoms"]:
    """The permutations on the edges of the minimum spanning tree, each once."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    size = int(pairs.max()) + 1
    # A zero is no edge to scipy, so equal geometries get the smallest positive cost.
    weights = np.maximum(costs, np.finfo(float).tiny)
    index = tuple(pairs.T.astype(np.int32))  # older scipy takes no wider ones here
    tree = minimum_spanning_tree(csr_array((weights, index), shape=(size, size))).tocoo()
    edges = np.searchsorted(pairs @ [size, 1], tree.row * size + tree.col)
    return np.unique(permutations[edges], axis=0)


def _proposals(
    distances: Float[np.ndarray, "frames atoms atoms"],
    numbers: Int[np.ndarray, " atoms"],
    pairs: Int[np.ndarray, "pairs 2"],
    group: Int[np.ndarray, "perms atoms"],
    tolerance: float,
    rng: np.random.Generator,
) -> Int[np.ndarray, "candidates atoms"]:
    """Permutations outside the group that random anchored matches find and the ranges allow."""
    known = {row.tobytes() for row in group}
    picked = pairs[rng.integers(len(pairs), size=_ATTEMPTS)]
    found = np.array([anchored_match(distances, numbers, pair, rng) for pair in picked])
    new = np.array([row.tobytes() not in known for row in found])
    identity = np.arange(len(numbers))[None]
    lower = match_costs(distances, picked, found) < match_costs(distances, picked, identity)
    candidates = np.unique(found[new & lower], axis=0)
    return candidates[_ranges_meet(distances, candidates, tolerance)]
