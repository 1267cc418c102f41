r"""Losses: weighted sums of terms, each the mean of a function of the errors of one label.

A term over labels :math:`y` of structures :math:`s` with components :math:`c` is

.. math:: L = \frac{\sum_s m_s \sum_c \ell(\hat y_{sc} - y_{sc})}{\sum_s m_s C_s},

a mean over the components of all structures that have the label (:math:`m_s = 1`). For forces these
are three times the atoms, so that large structures count more; ``average="structure"`` takes the
mean within each structure first. Padding never counts. The loss is kept as pairs of sum and count
until the end, so that parts of a batch, wherever they are computed, add up to the whole.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from jaxff.data.batch import Batch
from jaxff.potential import EnergyFn
from jaxff.quantities import QUANTITIES, quantity
from jaxff.system import sum_atoms
from jaxff.training.batch import present
from jaxff.training.comparison import (
    atom_counts,
    label_errors,
    predict_labels,
    with_sound_cells,
)
from jaxff.training.curvature import curvature_errors
from jaxff.types import Array, Float

__all__ = ["AVERAGES", "FORMS", "Loss", "Sums", "Term", "weighted"]

FORMS = ("squared", "absolute", "huber")
AVERAGES = ("component", "structure")


class Sums(NamedTuple):
    """A term before the division: its mean is ``total / components``."""

    total: Float[Array, ""]
    components: Float[Array, ""]

    @property
    def mean(self) -> Float[Array, ""]:
        """The term; zero if nothing had the label."""
        return self.total / jnp.maximum(self.components, 1)


@dataclass(frozen=True)
class Term:
    r"""One label's part of a loss.

    Attributes:
        label: Name of the label: one of :data:`jaxff.quantities.QUANTITIES`. ``"hessian"`` and
            ``"hessian_vector"`` are compared along random directions, see
            :mod:`jaxff.training.curvature`.
        weight: Factor, or a function of the step that gives it (a schedule of optax).
        form: :math:`\ell(d)` of an error d: ``"squared"`` is :math:`d^2`, ``"absolute"`` is
            :math:`|d|`, ``"huber"`` is :math:`d^2/2` up to ``delta`` and :math:`\delta(|d| -
            \delta/2)` beyond.
        delta: Where the Huber form becomes linear, in the unit of the label.
        per_atom: Divide errors of a structure by its number of atoms first.
        average: Mean over all ``"component"`` of all structures, or over each ``"structure"``
            first.
        probes: Random directions per structure and step, for ``"hessian"``.

    Raises:
        ValueError: For an unknown label or form, or options that do not belong together.
    """

    label: str
    weight: float | Callable[..., Array] = 1.0
    form: str = "squared"
    delta: float | None = None
    per_atom: bool = False
    average: str = "component"
    probes: int = 1

    def __post_init__(self) -> None:
        if self.label != "hessian_vector":
            quantity(self.label)
        for name, value, known in (
            ("form", self.form, FORMS),
            ("average", self.average, AVERAGES),
        ):
            if value not in known:
                raise ValueError(f"{name} of {self.label} must be one of {known}, got {value!r}")
        if (self.form == "huber") != (self.delta is not None):
            raise ValueError(
                f"delta belongs to form='huber', got {self.form!r} with delta={self.delta}"
            )
        if self.delta is not None and not 0 < self.delta < float("inf"):
            raise ValueError(f"delta must be positive, got {self.delta}")
        if not callable(self.weight) and not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight of {self.label} must not be negative, got {self.weight}")
        if self.per_atom and self._is_per_atom:
            raise ValueError(f"{self.label} is a label of atoms: per_atom=True has no meaning")
        if self.probes < 1:
            raise ValueError(f"probes must be at least 1, got {self.probes}")

    @property
    def name(self) -> str:
        """Under which the term is reported."""
        return f"{self.label}_per_atom" if self.per_atom else self.label

    @property
    def is_curvature(self) -> bool:
        """Whether it compares products with the Hessian."""
        return self.label in ("hessian", "hessian_vector")

    @property
    def _is_per_atom(self) -> bool:
        return self.is_curvature or QUANTITIES[self.label].per_atom

    def apply(self, error: Array) -> Array:
        """The form, elementwise."""
        if self.form == "squared":
            return error**2
        size = jnp.abs(error)
        if self.delta is None:
            return size
        near = jnp.minimum(size, self.delta)  # the larger branch has no gradient into this one
        return near * (size - 0.5 * near)

    def count(self, batch: Batch, mask: Array) -> Float[Array, "*structures"]:
        """Components that each structure adds to the mean; nothing in it depends on a model."""
        system, dtype = batch.system, batch.system.positions.dtype
        if self.is_curvature:
            components = 3 * (self.probes if self.label == "hessian" else 1)
        else:
            lead = system.numbers.ndim if self._is_per_atom else mask.ndim
            components = math.prod(batch.labels[self.label].shape[lead:])
        count = jnp.where(mask, components, 0).astype(dtype)
        return count * atom_counts(system) if self._is_per_atom else count

    def sums(self, batch: Batch, error: Array, mask: Array) -> Sums:
        """Sum and count over the structures that have the label; ``error`` is zero elsewhere."""
        system = batch.system
        lead = system.numbers.ndim if self._is_per_atom else mask.ndim
        if self.per_atom:
            atoms = jnp.maximum(atom_counts(system), 1)
            error = error / atoms.reshape(atoms.shape + (1,) * (error.ndim - lead))
        values = self.apply(error)
        values = jnp.sum(values, axis=tuple(range(lead, values.ndim)))
        if self._is_per_atom:
            values = sum_atoms(system, values)
        count = self.count(batch, mask)
        if self.average == "structure":
            values, count = values / jnp.maximum(count, 1), jnp.sign(count)
        return Sums(jnp.sum(values), jnp.sum(count))


@dataclass(frozen=True)
class Loss:
    """A weighted sum of terms.

    Attributes:
        terms: Its terms, of different names.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a loss needs terms of different names, got {names}")
        if not any(callable(term.weight) or term.weight > 0 for term in self.terms):
            raise ValueError(f"a loss needs a weight above zero, got zero for {', '.join(names)}")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels it needs."""
        return tuple(dict.fromkeys(term.label for term in self.terms))

    def weights(self, step: Array | int) -> dict[str, Array]:
        """Weight of every term at a step."""
        return {
            term.name: jnp.asarray(term.weight(step) if callable(term.weight) else term.weight)
            for term in self.terms
        }

    def sums(
        self,
        energy_fn: EnergyFn,
        batch: Batch,
        key: Array | None = None,
        predicted: Mapping[str, Array] | None = None,
    ) -> dict[str, Sums]:
        """Sum and count of every term over a single batch.

        Args:
            energy_fn: Energy function.
            batch: Without a leading axis.
            key: For random directions; needed by ``"hessian"`` only.
            predicted: From :func:`predict_labels`, where it is known already.

        Raises:
            ValueError: If a label is missing, or has the wrong shape.
        """
        masks = {label: present(batch, label) for label in self.labels}
        if predicted is None:
            predicted = predict_labels(energy_fn, batch, self.labels)
        found = {}
        for term in self.terms:
            mask = masks[term.label]
            if term.is_curvature:
                sound = batch._replace(system=with_sound_cells(batch.system))
                error = curvature_errors(energy_fn, sound, term.label, mask, term.probes, key)
            else:
                error = label_errors(batch, term.label, predicted[term.label], mask)
            found[term.name] = term.sums(batch, error, mask)
        return found

    def counts(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        """The counts that :meth:`sums` gives, from the labels alone."""
        found = {}
        for term in self.terms:
            count = term.count(batch, present(batch, term.label))
            found[term.name] = jnp.sum(jnp.sign(count) if term.average == "structure" else count)
        return found

    def total(self, sums: Mapping[str, Sums], step: Array | int = 0) -> Float[Array, ""]:
        """The loss of sums that belong together."""
        weights = self.weights(step)
        return sum((weights[n] * sums[n].mean for n in weights), start=jnp.zeros(()))

    def __call__(
        self,
        energy_fn: EnergyFn,
        batch: Batch,
        *,
        step: Array | int = 0,
        key: Array | None = None,
    ) -> Float[Array, ""]:
        """The loss of a single batch."""
        return self.total(self.sums(energy_fn, batch, key), step)


def weighted(**terms: float | Callable[..., Array] | Term) -> Loss:
    """A loss of squared errors by the names of labels, ``weighted(energy=1.0, forces=10.0)``.

    Args:
        terms: Weight, schedule of the weight, or whole :class:`Term` of each label;
            ``energy_per_atom`` is the energy divided by the number of atoms.

    Raises:
        ValueError: For an unknown label, or a term under another name than its own.
    """
    made = []
    for name, value in terms.items():
        per_atom = name.endswith("_per_atom")
        if not isinstance(value, Term):
            value = Term(name.removesuffix("_per_atom"), value, per_atom=per_atom)
        if value.name != name:
            raise ValueError(f"the term of {value.name!r} is given under the name {name!r}")
        made.append(value)
    return Loss(tuple(made))
