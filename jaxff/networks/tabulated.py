"""Trained networks whose radial filters are looked up rather than computed."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.networks.blocks import RadialBasis, Stack
from jaxff.potential import Potential
from jaxff.types import Array, Params

__all__ = ["tabulated"]


def tabulated(
    potential: Potential, params: Params, intervals: int = 512
) -> tuple[Potential, Params]:
    """A SO3krates or SO3LR with cubic splines in place of its radial filters.

    The filters depend on one distance alone, and are most of the work. Second derivatives stay
    continuous; the error falls with the fourth power of the number of intervals. Such a network is
    for use, not for training.

    Args:
        potential: The network.
        params: Its trained parameters.
        intervals: Of the grid between zero and the cutoff.

    Raises:
        ValueError: If it is another network, or tabulated already.
    """
    spec = potential.spec
    if spec is None or spec.builder not in ("so3krates", "so3lr"):
        found = "no spec" if spec is None else repr(spec.builder)
        raise ValueError(f"radial filters of so3krates and so3lr can be tabulated, got {found}")
    options = spec.arguments
    if options["radial_table"] is not None or intervals < 2:
        raise ValueError(
            f"tabulated takes a network without tables and at least 2 intervals, got "
            f"radial_table={options['radial_table']} and {intervals}"
        )
    build = getattr(importlib.import_module("jaxff.networks"), spec.builder)
    made = build(**{**options, "radial_table": intervals})
    inner = params["network"] if spec.builder == "so3lr" else params
    network = dict(inner)
    basis = network.pop("radial_basis", {})
    for name in [n for n in network if n.startswith("layer_")]:
        attention = dict(network[name]["attention"])
        for part in ("features", "variables"):
            own = dict(attention[part])
            own["table"] = {"values": _table(options, basis, own.pop("radial"), intervals)}
            attention[part] = own
        network[name] = {**network[name], "attention": attention}
    new = {**params, "network": network} if spec.builder == "so3lr" else network
    return made, new


def _table(options: dict[str, Any], basis: Params, filters: Params, intervals: int) -> Array:
    from scipy.interpolate import CubicSpline

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
        return jnp.asarray(Stack((size, size), "silu").apply({"params": filters}, functions))

    grid = jnp.linspace(0.0, end, intervals + 1, dtype=jnp.result_type(float))
    found, slopes = jax.jit(lambda d: jax.jvp(values, (d,), (jnp.ones_like(d),)))(grid)
    exact = np.asarray(found, np.float64)
    ends = np.asarray(slopes, np.float64)[[0, -1]] * (end / intervals)
    slopes_at_ends: Any = tuple((1, slope) for slope in ends)
    spline = CubicSpline(np.arange(intervals + 1), exact, bc_type=slopes_at_ends)
    slopes = spline(spline.x, 1)
    dtype = jax.tree.leaves(filters)[0].dtype
    return jnp.asarray(np.concatenate([exact, slopes], axis=1), dtype)
