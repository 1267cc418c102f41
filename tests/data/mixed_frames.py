"""Frames of mixed sizes, cells and labels for the tests of this room."""

import numpy as np

from jaxff.data.frame import Frame

KINDS = ([8, 1, 1], [6, 1, 1, 1, 1], [1], [7, 7])


def mixed(count=11, *, cells=False, seed=0):
    """Small structures: a third have no energy, a fourth have a dipole."""
    rng = np.random.default_rng(seed)
    return [_frame(index, rng, cells) for index in range(count)]


def _frame(index, rng, cells):
    numbers = np.array(KINDS[index % len(KINDS)])
    atoms = len(numbers)
    labels = {"forces": rng.normal(size=(atoms, 3))}
    if index % 3:
        labels["energy"] = np.asarray(rng.normal() - 10.0 * atoms)
    if index % 4 == 3:
        labels["dipole"] = rng.normal(size=3)
    repeats = cells and index % 2 == 0
    return Frame(
        numbers,
        np.arange(atoms)[:, None] * [0.9, 0.3, 0.1] + 0.05 * rng.normal(size=(atoms, 3)),
        labels,
        cell=np.diag([3.0, 4.0, 2.3]) + 0.1 * rng.normal(size=(3, 3)) if repeats else None,
        pbc=np.array([True, True, index % 4 == 0]) if repeats else None,
        charge=float(index % 3 - 1),
        group=f"kind {index % len(KINDS)}",
    )


def assert_same(one, other, *, tolerance=0.0):
    """Two frames hold the same."""
    np.testing.assert_array_equal(one.numbers, other.numbers)
    np.testing.assert_allclose(one.positions, other.positions, rtol=0, atol=tolerance)
    assert set(one.labels) == set(other.labels)
    for name, value in one.labels.items():
        np.testing.assert_allclose(other.labels[name], value, rtol=0, atol=tolerance, err_msg=name)
    for name in ("cell", "pbc"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance)
    assert (one.charge, one.spin, one.group) == (other.charge, other.spin, other.group)
