"""Trained networks whose radial filters are looked up rather than computed."""

import importlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.networks.blocks import RadialBasis, Stack
from jaxff.potential import Potential, Spec, scale_shift
from jaxff.types import Array, Float, Params

__all__ = ["tabulated"]

_NETWORKS = ("so3krates", "so3lr")


def tabulated(
    potential: Potential, params: Params, intervals: int = 512, *, tolerance: float = 1e-7
) -> tuple[Potential, Params]:
    """A SO3krates or SO3LR with cubic splines in place of its radial filters.

    The filters of all layers, most of the work, depend on one distance alone, and are so smooth
    that a few functions span them: their singular functions. These are looked up, and the filters
    are one product with them. Second derivatives stay continuous; the error of the splines falls
    with the fourth power of the number of intervals. Such a network is for use, not for training.

    Args:
        potential: The network, perhaps with reference energies (``scale_shift``).
        params: Its trained parameters.
        intervals: Of the grid between zero and the cutoff.
        tolerance: Singular functions smaller than this, relative to the largest, are left out.

    Raises:
        ValueError: If it is another network, or tabulated already, or attends beyond its cutoff,
            or for settings without sense.
    """
    spec = potential.spec
    if spec is None or spec.builder not in (*_NETWORKS, "scale_shift"):
        found = "no spec" if spec is None else repr(spec.builder)
        raise ValueError(f"radial filters of {_NETWORKS} can be tabulated, got {found}")
    if spec.builder == "scale_shift":
        (own,), scale, shift = (spec.arguments[n] for n in ("potentials", "scale", "shift"))
        network, found = tabulated(_built(own), params, intervals, tolerance=tolerance)
        return scale_shift(network, scale, shift if np.ndim(shift) else float(shift)), found
    options = spec.arguments
    if options.get("nonlocal_attention"):
        raise ValueError(
            "tables end at the cutoff, and with nonlocal_attention filters are needed beyond it"
        )
    if options["radial_table"] is not None or intervals < 2 or not 0.0 < tolerance < 1.0:
        raise ValueError(
            "tabulated takes a network without tables, at least 2 intervals and a tolerance "
            f"between 0 and 1; got radial_table={options['radial_table']}, {intervals} and "
            f"{tolerance}"
        )
    network = dict(params["network"] if spec.builder == "so3lr" else params)
    basis = network.pop("radial_basis", {})
    places = [
        (name, part)
        for name in sorted(n for n in network if n.startswith("layer_"))
        for part in ("features", "variables")
    ]
    filters = [network[name]["attention"][part]["radial"] for name, part in places]
    table, maps = _factors(options, basis, filters, intervals, tolerance)
    for (name, part), kernel in zip(places, maps, strict=True):
        attention = network[name]["attention"]
        branch = {**attention[part], "radial": {"kernel": kernel}}
        network[name] = {**network[name], "attention": {**attention, part: branch}}
    network["radial_table"] = {"values": table}
    made = _built(Spec(spec.builder, {**options, "radial_table": (intervals, len(maps[0]))}))
    return made, {**params, "network": network} if spec.builder == "so3lr" else network


def _built(spec: Spec) -> Potential:
    if spec.builder not in _NETWORKS:
        raise ValueError(f"radial filters of {_NETWORKS} can be tabulated, got {spec.builder!r}")
    return getattr(importlib.import_module("jaxff.networks"), spec.builder)(**spec.arguments)


def _factors(
    options: dict[str, Any],
    basis: Params,
    filters: Sequence[Params],
    intervals: int,
    tolerance: float,
) -> tuple[Float[Array, "points _"], list[Float[Array, "functions features"]]]:
    """Values and slopes of the singular functions on the grid, and the maps to the filters."""
    from scipy.interpolate import CubicSpline

    values, ends = _sampled(options, basis, filters, intervals)
    left, sizes, right = np.linalg.svd(values, full_matrices=False)
    count = int(np.sum(sizes > tolerance * sizes[0]))
    functions, right = left[:, :count] * sizes[:count], right[:count]
    ends_of: Any = tuple((1, slope) for slope in ends @ right.T)
    spline = CubicSpline(np.arange(intervals + 1), functions, bc_type=ends_of)
    table = np.concatenate([functions, spline(spline.x, 1)], axis=1)
    dtype = jax.tree.leaves(filters)[0].dtype
    maps = np.split(right, len(filters), axis=1)
    return jnp.asarray(table, dtype), [jnp.asarray(part, dtype) for part in maps]


def _sampled(
    options: dict[str, Any], basis: Params, filters: Sequence[Params], intervals: int
) -> tuple[Float[np.ndarray, "points columns"], Float[np.ndarray, "2 columns"]]:
    """All filters side by side on the grid, and their slopes, per interval, at its ends."""
    size, end = options["features"], options["cutoff"]
    centers, widths = (
        None if options[f"radial_{name}"] is None
        else tuple(np.ravel(options[f"radial_{name}"]).tolist())
        for name in ("centers", "widths")
    )  # fmt: skip
    module = RadialBasis(
        options["radial_basis"],
        options["radial_functions"],
        end,
        options["trainable_basis"],
        centers,
        widths,
        options.get("radial_decay"),
    )

    def values(distances: Array) -> Array:
        functions = module.apply({"params": basis}, distances)
        stack = Stack((size, size), "silu")
        found = [jnp.asarray(stack.apply({"params": f}, functions)) for f in filters]
        return jnp.concatenate(found, axis=1)

    grid = jnp.linspace(0.0, end, intervals + 1, dtype=jnp.result_type(float))
    found, slopes = jax.jit(lambda d: jax.jvp(values, (d,), (jnp.ones_like(d),)))(grid)
    steps = np.asarray(slopes, np.float64)[[0, -1]] * (end / intervals)
    return np.asarray(found, np.float64), steps
