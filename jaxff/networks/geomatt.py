"""Geometric attention as a potential: builder, analysis, and what to freeze for transfer."""

import functools
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.elements import distinct_numbers
from jaxff.networks.geometric_attention import GeometricAttention
from jaxff.networks.linen import from_linen
from jaxff.potential import Potential, Spec
from jaxff.system import System
from jaxff.types import Array, Float, Outputs, Params, PyTree

__all__ = ["ATTENTION_PATHS", "attention", "attention_mask", "geomatt", "vertex_features"]

ATTENTION_PATHS = r"(.*/)?order_\d+/attention/.*"
"""Regular expression for the paths ``a/b/c`` of the parameters that the attention depends on."""

ORDERS = (2, 3, 4, 5)


def geomatt(
    elements: Sequence[str | int] = ("H", "Li", "C", "N", "O"),
    *,
    orders: Sequence[int] = (2, 3, 4),
    features: int = 128,
    filters: int = 128,
    layers: int = 3,
    shared: bool = False,
    gamma: float = 20.0,
    spacing: float = 0.05,
    extent: float = 5.0,
    dtype: Any = jnp.float32,
) -> Potential:
    r"""Geometric attention, a network for molecules that couples all atoms without a cutoff.

    Each order k is a stream of its own. In a layer, atom n attends to atom j through the sum over
    all paths of k - 1 steps, :math:`\alpha_{nj} = \frac{\Delta}{S} \sum_f \sum_{i_1 \dots i_{k-2}}
    u^1_{n i_1 f}\, u^2_{i_1 i_2 f} \cdots u^{k-1}_{i_{k-2} j f}`, with filters u that are functions
    of one distance (S streams, centres of the Gaussians Δ apart): order 2 sees distances, 3 angles,
    4 dihedrals. Steps from an atom to itself count. The features of the atoms change linearly,
    :math:`v_n \leftarrow v_n + \sum_j \alpha_{nj} (W v_j + b)`; the streams meet in the readout.

    Cells and packs are refused; molecules of different sizes are stacked with padding.

    Args:
        elements: Those it knows; others raise, or give NaN where numbers are traced.
        orders: Streams, each from 2 to 5.
        features: Length of the vectors of the atoms.
        filters: Length of the filters of order 2, halved with each further order.
        layers: Number of layers.
        shared: Whether all steps of a path have the same filter.
        gamma: Of the Gaussians :math:`\exp[-\gamma (d - \mu)^2]`, in 1/Å².
        spacing: Distance Δ between their centres, in Å.
        extent: Centres run from 0 to below this, in Å.
        dtype: Precision of the network.

    Raises:
        ValueError: For orders, elements or sizes that make no network.
    Reference:
        Frank & Chmiela, Detect the Interactions that Matter in Matter: Geometric Attention for
        Many-Body Systems (2021), arXiv:2106.02549.
    """
    orders = tuple(int(order) for order in orders)
    if not orders or len(set(orders)) < len(orders) or not set(orders) <= set(ORDERS):
        raise ValueError(f"orders must be some of {ORDERS}, each once, got {orders}")
    if filters % 2 ** (max(orders) - 2) or min(filters, features, layers) < 1:
        raise ValueError(
            f"filters must be divisible by {2 ** (max(orders) - 2)} for order {max(orders)} and "
            f"all sizes positive, got filters={filters}, features={features}, layers={layers}"
        )
    if not (gamma > 0.0 and 0.0 < spacing <= extent):
        raise ValueError(
            "gamma and spacing must be positive and the extent at least one spacing, got "
            f"gamma={gamma} 1/Å², spacing={spacing} Å, extent={extent} Å"
        )
    arguments = {
        "elements": distinct_numbers(elements), "orders": orders, "features": features,
        "filters": filters, "layers": layers, "shared": bool(shared), "gamma": float(gamma),
        "spacing": float(spacing), "extent": float(extent),
    }  # fmt: skip
    return _potential(tuple(arguments.items()), jnp.dtype(dtype).name)


# Equal arguments give the same object, so that equal potentials share compiled code.
@functools.lru_cache(maxsize=64)
def _potential(arguments: tuple, dtype: str, analysis: bool = False) -> Potential:
    known = dict(arguments)
    module = GeometricAttention(**known, analysis=analysis)
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in known.items()}
    return from_linen(
        module, dtype=jnp.dtype(dtype), spec=Spec("geomatt", {**lists, "dtype": dtype})
    )


def attention(
    potential: Potential, params: Params, system: System
) -> dict[int, Float[Array, "*batch layers atoms atoms"]]:
    """Attention of every layer, by the order of the stream, as it enters the sum over atoms.

    Row n holds the weights that atom n gives to all others; they do not depend on the elements.
    Rows and columns of padding are zero.

    Args:
        potential: Made by :func:`geomatt`, with scale and shift or without.
        params: Its parameters.
        system: A molecule, or a stack.

    Raises:
        ValueError: If the potential is no geometric attention.
    """
    outputs = _analysis(potential, params, system)
    prefix = "attention_"
    return {int(k.removeprefix(prefix)): v for k, v in outputs.items() if k.startswith(prefix)}


def vertex_features(
    potential: Potential, params: Params, system: System
) -> Float[Array, "*batch atoms features"]:
    """Features of the atoms before the readout, stream after stream; zero for padding.

    Raises:
        ValueError: If the potential is no geometric attention.
    """
    return _analysis(potential, params, system)["features"]


def _analysis(potential: Potential, params: Params, system: System) -> Outputs:
    spec = potential.spec
    while spec is not None and spec.builder == "scale_shift":  # its parameters are its part's
        spec = spec.arguments["potentials"][0]
    if spec is None or spec.builder != "geomatt":
        raise ValueError(
            "attention is that of a potential made by geomatt, with scale_shift or without; got "
            f"{'one without a spec' if spec is None else spec.builder}: of a sum, take the part"
        )
    known = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.arguments.items()}
    dtype = known.pop("dtype")
    return _potential(tuple(known.items()), dtype, analysis=True).apply(params, system)


def attention_mask(params: Params) -> PyTree:
    """True for every parameter that the attention depends on: what transfer learning freezes.

    With it, ``optax.masked(optax.set_to_zero(), attention_mask(params))`` at the end of a chain
    keeps the attention as it is. By path these are :data:`ATTENTION_PATHS`.

    Raises:
        ValueError: If there are none.
    """

    def matches(path: Any, leaf: Any) -> bool:
        del leaf
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return re.fullmatch(ATTENTION_PATHS, name) is not None

    mask = jax.tree_util.tree_map_with_path(matches, params)
    if not any(jax.tree.leaves(mask)):
        raise ValueError(f"no parameter is of an attention: no path matches {ATTENTION_PATHS!r}")
    return mask
