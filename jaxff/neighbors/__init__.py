"""Neighbour lists: which atoms, and which of their periodic images, lie within a cutoff.

A list is built on the host by vesin and handed to compiled code as integers: both directions of
every pair, and the whole number of lattice vectors to the image. Distances are computed anew from
positions and cell, so that forces and stress flow through them. The number of pairs is padded to a
bucket, so that similar systems share compiled code.

Lists that are made inside compiled code (:mod:`jaxff.dynamics.neighbor_update`) have *rows*: each
atom has the same number of slots, so that a sum over neighbours is a plain reduction. On a CPU that
is several times faster than adding up scattered pairs; :func:`sum_pairs` takes what there is.
"""

from jaxff.neighbors.lists import NeighborListFns, lists_to_keep, neighbor_list
from jaxff.neighbors.pairs import Neighbors, Pairs, displacements, sum_pairs

__all__ = [
    "NeighborListFns",
    "Neighbors",
    "Pairs",
    "displacements",
    "lists_to_keep",
    "neighbor_list",
    "sum_pairs",
]
