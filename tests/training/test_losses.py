"""Losses against sums by hand in NumPy, structure by structure."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, bind
from jaxff.data.batch import Batch
from jaxff.training.batch import leading, present
from jaxff.training.comparison import label_errors, predict_labels
from jaxff.training.losses import Loss, Sums, Term, weighted
from training.batches import NETWORK, SPRING, batch, params

CELL = np.diag([8.0, 9.0, 10.0])
VALUES = {"k": 1.3, "c": 0.2}
DELTA = 0.7
FORMS = {
    "squared": lambda d: d**2,
    "absolute": np.abs,
    "huber": lambda d: np.where(abs(d) < DELTA, d * d / 2, DELTA * (abs(d) - DELTA / 2)),
}
LABELS = ("energy", "forces", "stress", "hessian", "hessian_vector", "hessian_direction")
MISSING = [("energy", 1), ("forces", 0), ("stress", 2), ("hessian", 1), ("hessian_vector", 0)]
TERMS = [
    *(Term(label, 1.0, form, DELTA if form == "huber" else None)
      for label, form in itertools.product(("energy", "forces", "stress"), FORMS)),
    *(Term(label, average="structure") for label in ("energy", "forces", "stress")),
    *(Term(label, per_atom=True) for label in ("energy", "stress")),
    Term("hessian_vector", 1.0, "huber", DELTA),
]  # fmt: skip
MIXED = Loss(
    (Term("energy", 0.5, "huber", DELTA, per_atom=True), Term("forces", 2.0, "absolute"),
     Term("stress", 1.0, average="structure"), Term("hessian_vector", 3.0))
)  # fmt: skip
PROBES = Loss((Term("hessian", probes=2),))
KEY = jax.random.key(4)


@pytest.fixture(scope="module")
def record():
    found = batch(3, (3, 2, 4), labels=LABELS, missing=MISSING, cell=CELL, lists=False)
    hollow = found.system.cell.at[2].set(0.0)  # a molecule among crystals, without a stress
    return found._replace(system=found.system.replace(cell=hollow))


@jax.jit
def everything(values, record):
    """All terms in one program, their counts, and the gradient of a mixture."""
    energy_fn = bind(SPRING, values)
    labels = tuple({term.label: None for term in TERMS if not term.is_curvature})
    predicted = predict_labels(energy_fn, record, labels)
    found = []
    for term in TERMS:
        if term.is_curvature:
            found.append(Loss((term,)).sums(energy_fn, record)[term.name])
        else:
            mask = present(record, term.label)
            error = label_errors(record, term.label, predicted[term.label], mask)
            found.append(term.sums(record, error, mask))
    found.append(PROBES.sums(energy_fn, record, KEY)["hessian"])
    counts = [Loss((term,)).counts(record)[term.name] for term in TERMS]
    slope = jax.grad(lambda values: MIXED(bind(SPRING, values), record))(values)
    return found, [*counts, PROBES.counts(record)["hessian"]], slope


def errors_by_hand(record, label, k, c):
    """Errors of every labelled structure, in NumPy, and its number of atoms."""
    system, found = record.system, []
    for index in np.flatnonzero(np.asarray(system.structure_mask & record.masks[label])):
        atoms = np.asarray(system.structure) == index
        r = np.asarray(system.positions)[atoms]
        x, y, labels = r[:, 0], r[:, 1], {n: np.asarray(v) for n, v in record.labels.items()}
        gradient = k * r + 2 * c * np.stack([x * y * y, x * x * y, 0 * x], -1)
        if label == "energy":
            error = 0.5 * k * np.sum(r**2) + c * np.sum((x * y) ** 2) - labels["energy"][index]
        elif label == "forces":
            error = -gradient - labels["forces"][atoms]
        elif label == "stress":
            strain = gradient.T @ r / np.prod(np.diag(CELL))
            error = 0.5 * (strain + strain.T) - labels["stress"][index]
        else:
            curvature = np.zeros((len(r), 3, len(r), 3))
            for i in range(len(r)):
                curvature[i, :, i] = k * np.eye(3)
                curvature[i, :2, i, :2] += (
                    2 * c * np.array([[y[i] ** 2, 2 * x[i] * y[i]], [2 * x[i] * y[i], x[i] ** 2]])
                )
            if label == "hessian":
                error = curvature - labels["hessian"][atoms][:, :, : len(r)]
            else:
                along = labels["hessian_direction"][atoms]
                error = np.einsum("iajb,jb->ia", curvature, along) - labels[label][atoms]
                error = error / np.sqrt(3 * len(r))
        found.append((np.asarray(error), len(r), atoms))
    return found


def mean_by_hand(record, term, k, c):
    found = errors_by_hand(record, term.label, k, c)
    form = FORMS[term.form]
    parts = [form(d / (n if term.per_atom else 1)).ravel() for d, n, _ in found]
    if term.average == "structure":
        return np.mean([np.mean(part) for part in parts]), len(parts)
    parts = np.concatenate(parts)
    return np.mean(parts), parts.size


def test_terms_and_their_counts_are_those_by_hand(record):
    sums, counts, _ = everything(VALUES, record)
    for term, found, count in zip(TERMS, sums, counts, strict=False):
        mean, components = mean_by_hand(record, term, **VALUES)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-12, err_msg=str(term))
        assert count == found.components == components


def test_gradients_are_differences_of_sums_by_hand(record):
    def total(**values):
        return sum(t.weight * mean_by_hand(record, t, **values)[0] for t in MIXED.terms)

    for name, slope in everything(VALUES, record)[2].items():
        up, down = (total(**{**VALUES, name: VALUES[name] + step}) for step in (1e-6, -1e-6))
        np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-7)


def test_hessians_are_compared_along_the_drawn_directions(record):
    sums, counts, _ = everything(VALUES, record)
    signs = np.asarray(jax.random.rademacher(KEY, (2, *record.system.positions.shape), float))
    assert set(signs.ravel()) == {-1.0, 1.0}
    parts = [
        np.einsum("iajb,jb->ia", error, v[atoms]).ravel() ** 2 / (3 * n)
        for error, n, atoms in errors_by_hand(record, "hessian", **VALUES)
        for v in signs
    ]
    np.testing.assert_allclose(sums[-1].mean, np.mean(np.concatenate(parts)), rtol=1e-12)
    assert counts[-1] == sums[-1].components == 3 * 2 * (3 + 4)


def test_what_is_not_there_has_neither_value_nor_gradient():
    """Padding and missing labels may hold anything finite; no label at all weighs zero."""
    record = batch(6, (3, 2), missing=[("forces", 1), ("energy", 0)])
    loss = weighted(energy=1.0, forces=1.0)
    compiled = jax.jit(jax.value_and_grad(lambda p, b: loss(bind(NETWORK, p), b)))
    energy, forces = (np.array(record.labels[name]) for name in ("energy", "forces"))
    energy[[0, 2]], forces[3:] = 1e9, -1e9
    wild = record._replace(labels={"energy": jnp.asarray(energy), "forces": jnp.asarray(forces)})
    first, second = compiled(params(), record), compiled(params(), wild)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert first[0] > 0
    nothing = record._replace(masks={name: jnp.asarray([False] * 3) for name in record.masks})
    zero, gradient = compiled(params(), nothing)
    assert zero == 0
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(gradient))


def test_stacks_have_whole_hessians():
    rng = np.random.default_rng(2)
    systems = System(rng.normal(size=(2, 2, 3)), [1, 1])
    label = rng.normal(size=(2, 2, 3, 2, 3))
    record = Batch(systems, None, {"hessian": jnp.asarray(label)}, {})
    loss = weighted(hessian=1.0)
    found = jax.jit(lambda r: loss(bind(SPRING, {"k": 1.3, "c": 0.0}), r, key=KEY))(record)
    signs = np.asarray(jax.random.rademacher(KEY, (1, 2, 2, 3), float))[0]
    exact = 1.3 * np.einsum("ij,ab->iajb", np.eye(2), np.eye(3))
    error = np.einsum("siajb,sjb->sia", exact - label, signs)
    np.testing.assert_allclose(found, np.mean(error**2 / 6), rtol=1e-12)


def test_weights_follow_their_schedule():
    loss = weighted(energy=lambda step: 1.0 + step, forces=0.5)
    sums = {"energy": Sums(np.array(6.0), np.array(2.0)), "forces": Sums(np.ones(()), np.ones(()))}
    assert [float(loss.total(sums, step)) for step in (0, 3)] == [3.5, 12.5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: weighted(energie=1.0), "unknown quantity 'energie'; known: energy"),
        (lambda: weighted(energy=-1.0), "must not be negative"),
        (lambda: weighted(), "needs terms"),
        (lambda: weighted(energy=Term("forces")), "'forces' is given under the name 'energy'"),
        (lambda: Term("energy", form="cubic"), "form of energy must be one of .*'squared'"),
        (lambda: Term("energy", average="all"), "average of energy must be one of"),
        (lambda: Term("energy", form="huber"), "delta belongs to form='huber'"),
        (lambda: Term("energy", form="huber", delta=-1.0), "delta must be positive"),
        (lambda: Term("forces", per_atom=True), "label of atoms"),
        (lambda: Term("hessian", probes=0), "probes must be at least 1"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_batches_that_do_not_fit_are_refused():
    record, energy_fn = batch(3, (2, 2), labels=("energy",), lists=False), bind(SPRING, VALUES)

    def refused(loss, record, message):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda r: loss(energy_fn, r), record)

    refused(weighted(forces=1.0), record, r"needs labels of 'forces', the batch has \['energy'\]")
    short = record._replace(labels={"energy": record.labels["energy"][:2]})
    refused(weighted(energy=1.0), short, r"shape of the predictions, \(3,\); got \(2,\)")
    stress = record._replace(labels={"stress": np.zeros((3, 3, 3))})
    refused(weighted(stress=1.0), stress, "stress, but the systems have no cell")
    given = record._replace(labels={"hessian": np.zeros((6, 3, 6))})
    refused(weighted(hessian=1.0), given, "give a key")
    masks = {"energy": np.ones(2, bool)}
    refused(weighted(energy=1.0), record._replace(masks=masks), r"mask of 'energy' must have")
    with pytest.raises(TypeError, match=r"expected a jaxff.training.Batch, got tuple: make"):
        leading(())
