import dataclasses

import jax.numpy as jnp
import numpy as np
from test_neighbors import SKEW, points

from jaxff.dynamics.neighbor_update import allocate
from jaxff.neighbors import neighbor_list
from jaxff.networks.graph import graph
from jaxff.system import System


def test_edges_are_the_pairs_once_in_the_room_that_the_list_promises():
    """Of a cell so small that atoms are neighbours of their own images."""
    system = System(points(7), [1] * 7, SKEW)
    (pairs,) = allocate(neighbor_list(4.0), system).pairs
    real = np.asarray(pairs.others) < pairs.atoms
    assert np.any(real & (pairs.others == pairs.centers))
    assert np.sum(real) < pairs.room < len(real)
    exact = dataclasses.replace(pairs, most=int(np.sum(real)))
    for own in (pairs, exact, dataclasses.replace(pairs, most=None)):
        found = graph(system, own, jnp.float64)
        edges = found.edges
        assert len(edges.mask) == own.room // 2
        assert 2 * np.sum(edges.mask) == np.sum(real)
        first = np.asarray(edges.first)[edges.mask]
        assert np.all(np.diff(first) >= 0)
        # Both directions of all edges are the pairs.
        both = np.concatenate([edges.vectors, -edges.vectors])[np.tile(edges.mask, 2)]
        ends = np.concatenate([edges.first, edges.second])[np.tile(edges.mask, 2)]
        expected = np.column_stack([pairs.centers, found.vectors])[real]
        seen = np.column_stack([ends, both])
        expected, seen = (np.round(x, 9) + 0.0 for x in (expected, seen))
        np.testing.assert_array_equal(expected[np.lexsort(expected.T)], seen[np.lexsort(seen.T)])
