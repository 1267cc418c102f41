"""Sums over triples against plain loops over atoms."""

import itertools

import numpy as np
from descriptor_checks import evaluate, padded
from models import molecule

from jaxff.descriptors import acsf, ani, fchl19

ELEMENTS, CUTOFF = (1, 6, 8), 3.0


def cosine_cutoff(d):
    return 0.5 * (1 + np.cos(np.pi * d / CUTOFF)) * (d < CUTOFF)


def triples(center: int):
    """Pair of elements, sides and cosines of the triangle of a centre and two other atoms."""
    system = molecule(0)
    r, numbers = np.asarray(system.positions), np.asarray(system.numbers)
    others = [a for a in range(len(r)) if a != center]
    for j, k in itertools.combinations(others, 2):
        corners = r[[center, j, k]]
        sides, angles = [], []
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            first, second = corners[b] - corners[a], corners[c] - corners[a]
            lengths = np.linalg.norm(first), np.linalg.norm(second)
            sides.append(lengths[0])
            angles.append(first @ second / np.prod(lengths))
        # sides come as (ij, jk, ki)
        pair = tuple(sorted(ELEMENTS.index(numbers[a]) for a in (j, k)))
        yield pair, (sides[0], sides[2], sides[1]), angles


def summed(terms, pairs):
    """Features of all atoms: blocks of pairs of elements in the given order."""
    rows = []
    for center in range(5):
        blocks = dict.fromkeys(pairs, 0.0)
        for pair, sides, angles in triples(center):
            blocks[pair] = blocks[pair] + terms(sides, angles)
        size = max(np.size(b) for b in blocks.values())
        rows.append(np.concatenate([np.broadcast_to(blocks[p], size) for p in pairs]))
    return np.array(rows)


LOWER = [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
UPPER = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]


def test_symmetry_functions():
    descriptor = acsf(
        ELEMENTS, CUTOFF, g4=[(0.1, 2, -1)], g5=[(0.2, 3, 1)], cutoff_function="cosine"
    )

    def terms(sides, angles):
        ij, ik, jk = sides
        both = cosine_cutoff(ij) * cosine_cutoff(ik)
        closed = np.exp(-0.1 * (ij**2 + ik**2 + jk**2)) * both * cosine_cutoff(jk)
        opened = np.exp(-0.2 * (ij**2 + ik**2)) * both
        bends = 0.5 * (1 - angles[0]) ** 2, 0.25 * (1 + angles[0]) ** 3
        return np.array([bends[0] * closed, bends[1] * opened])

    found = evaluate(descriptor, padded(molecule(0), 6))[:5, 3:]
    np.testing.assert_allclose(found, summed(terms, LOWER), atol=1e-13)


def test_environment_vectors():
    shifts, sections = [1.1, 1.6], [0.4, 1.5, 2.2]
    descriptor = ani(
        ELEMENTS, radial_cutoff=CUTOFF, radial_width=4.0, radial_shifts=[1.0],
        angular_cutoff=CUTOFF, angular_width=3.0, zeta=5.5, angular_shifts=shifts,
        sections=sections, cutoff_function="cosine",
    )  # fmt: skip

    def terms(sides, angles):
        theta = np.arccos(0.95 * angles[0])
        mean = 0.5 * (sides[0] + sides[1])
        bells = np.exp(-3.0 * (mean - np.array(shifts)) ** 2)
        peaks = 2 * (0.5 * (1 + np.cos(theta - np.array(sections)))) ** 5.5
        both = cosine_cutoff(sides[0]) * cosine_cutoff(sides[1])
        return np.outer(bells, peaks).ravel() * both

    found = evaluate(descriptor, padded(molecule(0), 6))[:5, 3:]
    np.testing.assert_allclose(found, summed(terms, UPPER), atol=1e-13)


def test_fchl19():
    descriptor = fchl19(
        ELEMENTS, radial_cutoff=CUTOFF, radial_functions=1, angular_cutoff=CUTOFF,
        angular_functions=3, orders=2, angular_width=1.0, cutoff_function="cosine", softening=0.0,
    )  # fmt: skip

    def terms(sides, angles):
        theta = np.arccos(angles[0])
        mean = 0.5 * (sides[0] + sides[1])
        height = 13.4 * np.sqrt(2.7 / np.pi) * (1 + 3 * np.prod(angles)) / np.prod(sides) ** 0.57
        height = height * cosine_cutoff(sides[0]) * cosine_cutoff(sides[1])
        bells = np.exp(-2.7 * (mean - np.array([1.0, 2.0, 3.0])) ** 2)
        waves = [
            2 * np.exp(-0.5 * order**2) * wave(order * theta)
            for order in (1, 3)
            for wave in (np.cos, np.sin)
        ]
        return height * np.outer(bells, waves).ravel()

    found = evaluate(descriptor, padded(molecule(0), 6))[:5, 3:]
    np.testing.assert_allclose(found, summed(terms, UPPER), atol=1e-12)
