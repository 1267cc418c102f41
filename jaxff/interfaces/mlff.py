"""Trained SO3krates models of the mlff package (the dense variant), given as plain arrays.

Their parameters by name, ``{"layers_0/FeatureBlock_0/...": array}``, and the content of
``hyperparameters.json`` are all that is read: no pickle is opened here. With flax at hand,
``flax.traverse_util.flatten_dict(params, sep="/")`` makes the names.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxff.interfaces.arrays import Reader, require, to_params
from jaxff.potential import Potential
from jaxff.types import Params

__all__ = ["from_arrays"]

_CUTOFF_FUNCTIONS = {"cosine_cutoff_fn": "cosine"}
_LAYER = {
    "chi_cut": None,
    "chi_cut_dynamic": False,
    "fast_attention_kwargs": None,
    "fb_attention": "conv_att",
    "fb_filter": "radial_spherical",
    "gb_attention": "conv_att",
    "gb_filter": "radial_spherical",
    "neighborhood_normalization": False,
    "non_local_feature": False,
    "non_local_sphc": False,
    "parity": True,
    "sphc_normalization": False,
}
_GEOMETRY = {"radial_basis_function": "phys", "solid_harmonic": False, "sphc": True}
_ENERGY = {"per_atom_scale": None, "per_atom_shift": None, "zbl_repulsion": False}


def from_arrays(
    arrays: Mapping[str, np.ndarray], hyperparameters: Mapping[str, Any], *, dtype: Any = "float32"
) -> tuple[Potential, Params]:
    """Potential and parameters of a SO3krates of mlff 0.x, energies in the unit it was trained in.

    Its shift of energies stands elsewhere: add it by :func:`jaxff.scale_shift`.

    Args:
        arrays: Parameters by name.
        hyperparameters: What ``hyperparameters.json`` holds.
        dtype: Precision of the network.

    Raises:
        ValueError: If arrays are missing or unknown, or the model does what is not known here.
    Reference:
        Frank, Unke, Müller & Chmiela, Nat. Commun. 15, 6539 (2024),
        doi:10.1038/s41467-024-50620-6.
    """
    from jaxff import networks

    options = _options(hyperparameters.get("stack_net", hyperparameters))
    names = {name.removeprefix("params/"): value for name, value in arrays.items()}
    reader = Reader(names, "SO3krates of mlff 0.x")
    embedding = reader.take("feature_embeddings_0/Embed_0/embedding")
    options |= {"features": embedding.shape[1], "max_number": len(embedding) - 1, "dtype": dtype}
    params: dict[str, Any] = {"embedding": {"elements": {"table": embedding}}}
    for index in range(options["layers"]):
        params[f"layer_{index}"] = _layer(reader, f"layers_{index}", options)
    if options["layer_norm"] == "pre":
        params["norm"] = reader.group(f"layers_{options['layers'] - 1}/LayerNorm_2")
    params["energy"] = {"stack": _stack(reader, "observables_0/MLP_0")}
    reader.finish("energies by the local layers")
    return networks.so3krates(**options), to_params(params, dtype)


def _options(net: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network; what it does not know is refused."""
    try:
        geometry = net["geometry_embeddings"][0]["geometry_embed"]
        layers = [layer["so3krates_layer"] for layer in net["layers"]]
        energy = net["observables"][0]["energy"]
        first = layers[0]
        for index, layer in enumerate(layers):
            require(f"layer {index}", layer, _LAYER)
            require(f"layer {index}", layer, {k: first.get(k) for k in ("degrees", "n_heads")})
        require("the geometry", geometry, _GEOMETRY)
        require("the energy", energy, _ENERGY)
        norm = bool(first.get("layer_normalization", False))
        if norm and not layers[-1].get("final_layer", False):
            raise ValueError("layer normalisation without one at the end is not known here")
        return {
            "cutoff": float(geometry["r_cut"]),
            "layers": len(layers),
            "heads": first["n_heads"],
            "degrees": tuple(first["degrees"]),
            "radial_functions": geometry["n_rbf"],
            "radial_basis": "physnet",
            "cutoff_function": _CUTOFF_FUNCTIONS[geometry["radial_cutoff_fn"]],
            "layer_norm": "pre" if norm else "none",
            "residual_mlps": tuple(
                "projected" if first.get(f"residual_mlp_{k}", False) else "none" for k in (1, 2)
            ),
            "initial_norm": geometry.get("sphc_normalization"),
        }
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"these are no hyperparameters of a SO3krates of mlff 0.x: {error!r}"
        ) from error


def _layer(reader: Reader, name: str, options: dict[str, Any]) -> dict[str, Any]:
    feature, geometric = f"{name}/FeatureBlock_0", f"{name}/GeometricBlock_0"
    value = reader.take(f"{feature}/attention_fn/VmapAttentionAggregation_0/Dense_0/kernel")
    layer: dict[str, Any] = {
        "attention": {
            "features": _coefficients(reader, feature),
            "variables": _coefficients(reader, geometric),
            "value": {"kernel": value},
        },
        "exchange": {"mix": _exchange(reader, f"{name}/InteractionBlock_0/MLP_0", options)},
    }
    if options["layer_norm"] == "pre":
        layer |= {f"norm_{k + 1}": reader.group(f"{name}/LayerNorm_{k}") for k in (0, 1)}
    present = [k for k in (1, 2) if options["residual_mlps"][k - 1] == "projected"]
    for place, number in enumerate(present):
        own = f"{name}/ResidualMLP_{place}"
        layer[f"mlp_{number}"] = {
            "inner": reader.group(f"{own}/Residual_0/layers_0"),
            "outer": reader.group(f"{own}/Residual_0/layers_1"),
            "projection": reader.group(f"{own}/Dense_0"),
        }
    return layer


def _coefficients(reader: Reader, name: str) -> dict[str, Any]:
    maps = f"{name}/attention_fn/VmapConvAttentionCoefficients_0"
    return {
        "query": {"kernel": reader.take(f"{maps}/Dense_0/kernel")},
        "key": {"kernel": reader.take(f"{maps}/Dense_1/kernel")},
        **{
            part: {
                layer: {k: v[0] for k, v in weights.items()}
                for layer, weights in _stack(reader, f"{name}/filter_fn/VmapMLP_{k}").items()
            }
            for k, part in enumerate(("radial", "spherical"))
        },
    }


def _exchange(reader: Reader, name: str, options: dict[str, Any]) -> dict[str, np.ndarray]:
    """Weights by which scalars of single precision, as they are there, become those of ours."""
    mix = reader.group(f"{name}/layers_0")
    exact = 1.0 / np.sqrt(2.0 * np.asarray(options["degrees"]) + 1.0)
    rounded = exact.astype(np.float32).astype(np.float64)
    kernel = np.array(mix["kernel"], np.float64)
    kernel[options["features"] :] *= (rounded / exact)[:, None]
    return {**mix, "kernel": kernel}


def _stack(reader: Reader, name: str) -> dict[str, Any]:
    return {f"dense_{k}": reader.group(f"{name}/layers_{k}") for k in (0, 1)}
