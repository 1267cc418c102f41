"""Trained SchNet and PaiNN models of SchNetPack, given as plain arrays.

Their state dictionary, ``{name: array}``, is all that is read: no pickle is opened here. With
PyTorch at hand, ``{k: v.numpy() for k, v in model.state_dict().items()}`` makes it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxff import units
from jaxff.interfaces.arrays import Reader, to_params
from jaxff.potential import Potential, scale_shift
from jaxff.types import Params

__all__ = ["from_state_dict"]

_Arrays = Mapping[str, np.ndarray]


def from_state_dict(
    arrays: _Arrays,
    *,
    energy_unit: str,
    cutoff_function: str = "cosine",
    head_activation: str = "silu",
    dtype: Any = "float32",
) -> tuple[Potential, Params]:
    """Potential and parameters of a SchNet or PaiNN with an ``Atomwise`` head of two layers.

    The mean energy per atom of an ``AddOffsets`` postprocessor becomes a :func:`scale_shift`.

    Args:
        arrays: State dictionary as NumPy arrays.
        energy_unit: Unit of the model's energies, such as ``"eV"`` or ``"kcal/mol"``; lengths are
            in Å.
        cutoff_function: Name of its cutoff function, which the arrays do not tell.
        head_activation: Activation of its head, likewise.
        dtype: Precision of the network.

    Raises:
        ValueError: If arrays are missing, or belong to something else than such a model.
    Reference:
        Schütt et al., J. Chem. Theory Comput. 15, 448 (2019), doi:10.1021/acs.jctc.8b00908;
        Schütt et al., J. Chem. Phys. 158, 144801 (2023), doi:10.1063/5.0138367.
    """
    from jaxff import networks

    reader = Reader(arrays, "state dictionary of a SchNet or PaiNN of SchNetPack 2")
    is_painn = "representation.filter_net.weight" in reader
    embedding = reader.take("representation.embedding.weight")
    basis = _basis(reader)
    options = {
        "cutoff": float(np.ravel(reader.take("representation.cutoff_fn.cutoff"))[0]),
        "features": embedding.shape[1],
        "interactions": reader.count(r"representation\.interactions\.(\d+)\."),
        "max_number": len(embedding) - 1,
        "cutoff_function": cutoff_function,
        "head_activation": head_activation,
        "dtype": dtype,
        **basis,
    }
    if is_painn:
        potential, params = networks.painn(**options), _painn(reader, options)
    else:
        filters = len(reader.take("representation.interactions.0.in2f.weight"))
        potential = networks.schnet(filters=filters, filter_nodes=None, **options)
        params = _schnet(reader, options["interactions"])
    params["embedding"] = {"elements": {"table": embedding}}
    params["energy"] = {"stack": _stack(reader, "output_modules.0.outnet")}
    params = to_params(params, dtype)
    mean = _mean(reader)
    reader.finish("energies of a two-layer Atomwise head")
    scale = units.factor(energy_unit, energy=1)
    if mean is None and scale == 1.0:
        return potential, params
    return scale_shift(potential, scale, scale * (0.0 if mean is None else mean)), params


def _basis(arrays: Reader) -> dict[str, Any]:
    if "representation.radial_basis.freqs" in arrays:
        table = arrays.take("representation.radial_basis.freqs")
        return {"radial_basis": "bessel", "radial_functions": table.size, "radial_centers": table}
    centers = arrays.take("representation.radial_basis.offsets")
    return {
        "radial_basis": "gaussian",
        "radial_functions": centers.size,
        "radial_centers": centers,
        "radial_widths": arrays.take("representation.radial_basis.widths"),
    }


def _dense(arrays: Reader, name: str) -> dict[str, np.ndarray]:
    """Weights of a layer; there they stand as (out, in)."""
    layer = {"kernel": arrays.take(f"{name}.weight").T}
    if f"{name}.bias" in arrays:
        layer["bias"] = arrays.take(f"{name}.bias")
    return layer


def _stack(arrays: Reader, name: str) -> dict[str, Any]:
    return {f"dense_{k}": _dense(arrays, f"{name}.{k}") for k in (0, 1)}


def _schnet(arrays: Reader, interactions: int) -> dict[str, Any]:
    params = {}
    for index in range(interactions):
        name = f"representation.interactions.{index}"
        params[f"interaction_{index}"] = {
            "inward": _dense(arrays, f"{name}.in2f"),
            **{f"filter_{k}": _dense(arrays, f"{name}.filter_network.{k}") for k in (0, 1)},
            **{f"outward_{k}": _dense(arrays, f"{name}.f2out.{k}") for k in (0, 1)},
        }
    return params


def _painn(arrays: Reader, options: dict[str, Any]) -> dict[str, Any]:
    params = {}
    size = 3 * options["features"]
    filters = _dense(arrays, "representation.filter_net")
    if len(filters["bias"]) != size * options["interactions"]:
        raise ValueError(
            f"filter_net has {len(filters['bias'])} channels, expected "
            f"{size * options['interactions']}: filters shared by all interactions are not read"
        )
    for index in range(options["interactions"]):
        own = slice(index * size, (index + 1) * size)
        name = f"representation.interactions.{index}.interatomic_context_net"
        # Here the bias is the weight of the cutoff function itself.
        rows = np.vstack([filters["kernel"], filters["bias"]])[:, own]
        params[f"message_{index}"] = {
            "context": _stack(arrays, name),
            "filter": {"kernel": rows},
        }
        name = f"representation.mixing.{index}"
        params[f"update_{index}"] = {
            "context": _stack(arrays, f"{name}.intraatomic_context_net"),
            "mix": _dense(arrays, f"{name}.mu_channel_mix"),
        }
    return params


def _mean(arrays: Reader) -> float | None:
    """Energy per atom that is added at the end."""
    found = None
    for name in sorted(arrays.left):
        if re.fullmatch(r"postprocessors\.\d+\.mean", name):
            found = float(arrays.take(name))
        elif re.fullmatch(r"postprocessors\.\d+\.atomref", name) and arrays.take(name).any():
            raise ValueError(
                f"{name} holds energies of atoms, and the arrays do not tell whether they are "
                "added: set them to zero and use scale_shift"
            )
    return found
