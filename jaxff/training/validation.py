"""Losses and errors of many batches, added up exactly."""

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.data.batch import Batch
from jaxff.potential import Potential, bind
from jaxff.quantities import QUANTITIES, quantity
from jaxff.training.batch import leading, present
from jaxff.training.comparison import atom_counts, label_errors, predict_labels
from jaxff.training.losses import Loss, Sums
from jaxff.types import Array, Params

__all__ = ["Measured", "validate"]


class Measured(NamedTuple):
    """What validation finds.

    Attributes:
        loss: Weighted sum of the terms.
        terms: Every term over all batches together, unweighted.
        errors: As :func:`jaxff.training.errors` reports them, for the labels of the loss that are
            compared as they are; with ``energy_per_atom`` where there is an energy.
    """

    loss: float
    terms: dict[str, float]
    errors: dict[str, dict[str, Any]]


class _Moments(NamedTuple):
    """Errors of a label, before any division."""

    absolute: Array
    square: Array
    largest: Array
    components: Array
    frames: Array


def validate(
    potential: Potential,
    loss: Loss,
    params: Params,
    batches: Iterable[Any],
    *,
    step: int = 0,
    key: Array | None = None,
    units: Mapping[str, str] | None = None,
) -> Measured:
    """Loss and errors over all batches.

    Means are over all components of all batches, whatever their sizes: batches are no unit here.

    Args:
        potential: What is validated.
        loss: Its labels are compared, and its terms computed.
        params: Of the potential.
        batches: Of :class:`jaxff.training.Batch`.
        step: For the weights of the loss.
        key: For the random directions of curvature terms; by default always the same.
        units: Unit to report the errors of a label in.

    Raises:
        ValueError: If a label of the loss is in none of the batches, or there are none.
    """
    key = jax.random.key(0) if key is None else key
    found = [
        _validation(potential, loss, params, batch, jax.random.fold_in(key, index))
        for index, batch in enumerate(batches)
    ]
    if not found:
        raise ValueError("validation needs at least one batch, got none")
    parts = jax.device_get(found)  # once, so that the device need not wait in between
    terms = {name: _added([part[0][name] for part in parts]) for name in parts[0][0]}
    empty = sorted(name for name, sums in terms.items() if not sums.components > 0)
    if empty:
        raise ValueError(
            f"no structure of the validation data has a label for {', '.join(empty)}: drop the "
            "term, or give labelled data"
        )
    errors = {}
    for name in parts[0][1]:
        moments = [part[1][name] for part in parts]
        errors[name] = _report(name, moments, units or {})
    return Measured(
        float(loss.total(terms, step)), {n: float(s.mean) for n, s in terms.items()}, errors
    )


def _added(parts: list[Sums]) -> Sums:
    added: list[Any] = [np.sum([part[i] for part in parts], dtype=np.float64) for i in range(2)]
    return Sums(*added)


def _report(name: str, parts: list[_Moments], units: Mapping[str, str]) -> dict[str, Any]:
    whole = name.removesuffix("_per_atom")
    unit = units.get(whole, quantity(whole).unit)
    factor = quantity(whole).factor(unit)
    sums = [np.sum([part[i] for part in parts], dtype=np.float64) for i in (0, 1, 3, 4)]
    absolute, square, components, frames = sums
    return {
        "mae": float(absolute / components / factor),
        "rmse": float(np.sqrt(square / components) / factor),
        "max": float(np.max([part.largest for part in parts]) / factor),
        "unit": unit if whole == name else f"{unit}/atom",
        "frames": int(frames),
    }


@partial(jax.jit, static_argnums=(0, 1))
def _validation(
    potential: Potential, loss: Loss, params: Params, batch: Batch, key: Array
) -> tuple[dict[str, Sums], dict[str, _Moments]]:
    if not (count := leading(batch)):
        return _measure_one(potential, loss, params, batch, key)
    keys = jax.random.split(key, count)
    sums, moments = jax.vmap(partial(_measure_one, potential, loss, params))(batch, keys)
    moments = {
        name: _Moments(*(jnp.max(v) if i == 2 else jnp.sum(v) for i, v in enumerate(value)))
        for name, value in moments.items()
    }
    return jax.tree.map(jnp.sum, sums), moments


def _measure_one(
    potential: Potential, loss: Loss, params: Params, batch: Batch, key: Array
) -> tuple[dict[str, Sums], dict[str, _Moments]]:
    energy_fn = bind(potential, params)
    predicted = predict_labels(energy_fn, batch, loss.labels)
    moments = {}
    for name, value in predicted.items():
        mask = present(batch, name)
        error = jnp.abs(label_errors(batch, name, value, mask))
        moments[name] = _moments(batch, name, error, mask)
        if name == "energy":
            atoms = jnp.maximum(atom_counts(batch.system), 1)
            moments["energy_per_atom"] = _moments(batch, name, error / atoms, mask)
    return loss.sums(energy_fn, batch, key, predicted), moments


def _moments(batch: Batch, name: str, error: Array, mask: Array) -> _Moments:
    """``error`` is zero where there is no label."""
    of_atoms = QUANTITIES[name].per_atom
    lead = batch.system.numbers.ndim if of_atoms else mask.ndim
    each = math.prod(error.shape[lead:])
    count = jnp.where(mask, atom_counts(batch.system) if of_atoms else 1, 0)
    return _Moments(
        jnp.sum(error), jnp.sum(error**2), jnp.max(error), each * jnp.sum(count), jnp.sum(mask)
    )
