"""Models on disk: safetensors for arrays, JSON for structure; nothing is ever unpickled.

A file holds the parameters and the recipe of the potential, so that ``load`` rebuilds both.
"""

import importlib
import json
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import descriptors, kernels, physics
from jaxff.coarse import priors
from jaxff.data.archive import write_atomic
from jaxff.gdml.potential import KernelPotential
from jaxff.gdml.potential import potential as gdml_potential
from jaxff.kernels.protocol import SystemKernel
from jaxff.neighbors import Neighbors, Pairs
from jaxff.numerics import require_float64
from jaxff.potential import Potential, Spec, add, scale_shift
from jaxff.system import System
from jaxff.types import Params

__all__ = ["load", "save"]

_FORMAT = "jaxff-1"
_DAMAGE = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


def _leaf(kind: Any, *, descriptor: Any, base: Any, **others: Any) -> Any:
    """A kernel on the features of a descriptor; names stand for what jaxff knows."""
    function: Any = descriptor if callable(descriptor) else descriptors.NAMED[descriptor]
    return kind(function, getattr(kernels, base) if isinstance(base, str) else base, **others)


def _composite(kind: Any, kernels: Any, names: Any) -> Any:
    return kind(tuple(kernels), tuple(names))


_KERNELS = {
    "Kernel": partial(_leaf, kernels.Kernel),
    "AtomicSum": partial(_leaf, kernels.AtomicSum),
    "Sum": partial(_composite, kernels.Sum),
    "Product": partial(_composite, kernels.Product),
    "Scaled": kernels.Scaled,
    "GlobalSymmetry": kernels.GlobalSymmetry,
}
_BASES = {
    "rational_quadratic": kernels.rational_quadratic,
    "polynomial": kernels.polynomial,
    "periodic": lambda period, radial: kernels.periodic(
        period, getattr(kernels, radial) if isinstance(radial, str) else radial
    ),
}
_NAMED_BASES = {"matern32", "matern52", "matern72", "matern92", "rbf"}
_NETWORKS = ("descriptor_mlp", "geomatt", "painn", "schnet", "so3krates", "so3lr", "spookynet")


def _network(name: str, **arguments: Any) -> Potential:
    """A network; flax is imported only for those who use one."""
    return getattr(importlib.import_module("jaxff.networks"), name)(**arguments)


_BUILDERS = {
    **{name: partial(_network, name) for name in _NETWORKS},
    "gdml": lambda **arguments: gdml_potential(_leaf(kernels.Kernel, **arguments)),
    "kernel_potential": lambda kernel: gdml_potential(kernel),
    **_KERNELS,
    **_BASES,
    **{name: build for name, (_, build) in descriptors.BUILDERS.items()},
    "d3": physics.d3,
    "d4": physics.d4,
    "electrostatics": physics.electrostatics,
    "ewald_plan": physics.EwaldPlan,
    "fixed_charges": physics.fixed_charges,
    "harmonic_angles": priors.harmonic_angles,
    "harmonic_bonds": priors.harmonic_bonds,
    "lennard_jones": physics.lennard_jones,
    "morse": physics.morse,
    "repulsion": priors.repulsion,
    "trainable_zbl": physics.trainable_zbl,
    "zbl": physics.zbl,
    "add": lambda potentials: add(*potentials),
    "scale_shift": lambda potentials, scale, shift: scale_shift(
        potentials[0], scale, shift if np.ndim(shift) else float(shift)
    ),
}


def _lists(kind: Any, **fields: Any) -> Any:
    return kind(
        **{k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    )


_RECORDS = {
    "dict": dict,
    "system": System,
    "neighbors": partial(_lists, Neighbors),
    "pairs": partial(_lists, Pairs),
}
_CHOICES = {
    "descriptor": set(descriptors.NAMED),
    "base": _NAMED_BASES,
    "radial": _NAMED_BASES,
}
_BUILT = (
    kernels.BaseKernel,
    kernels.DotProductKernel,
    kernels.PeriodicKernel,
    *(kind for kind, _ in descriptors.BUILDERS.values()),
)


def save(path: str | os.PathLike, potential: Potential, params: Params) -> None:
    """Write a potential and its parameters, atomically.

    Raises:
        ValueError: If the potential has no recipe: one of its parts is a function that files do not
            know.
    """
    from safetensors.numpy import save as to_bytes

    if potential.spec is None:
        raise ValueError(
            "this potential cannot be rebuilt from a file: it, or a part of it, was made by a "
            "function without a spec; give the descriptor a `name` attribute, or keep the script"
        )
    arrays: dict[str, np.ndarray] = {}
    structure = {
        "format": _FORMAT,
        "spec": _encode(potential.spec, arrays),
        "params": _encode(params, arrays),
    }
    content = to_bytes(arrays, metadata={"jaxff": json.dumps(structure)})
    write_atomic(path, lambda stream: stream.write(content))


def load(
    path: str | os.PathLike,
    *,
    descriptors: Mapping[str, Any] | None = None,
    dtype: str | None = None,
) -> tuple[Potential, Params]:
    """Read a potential and its parameters.

    Args:
        path: A file written by :func:`save`.
        descriptors: Functions for descriptor names that jaxff does not know.
        dtype: Precision in which its networks run instead of their own, ``"float64"`` for instance
            for Hessians and relaxations to tight tolerances.

    Raises:
        ValueError: If the file is damaged, of another format, or names an unknown part, or a
            precision is given and it holds no network.
        FileNotFoundError: If there is no such file.
        RuntimeError: If it holds 64-bit floats and they are not enabled.
    """
    from safetensors import SafetensorError, safe_open

    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        structure = json.loads(metadata["jaxff"])
        if structure["format"] != _FORMAT:
            raise ValueError(f"format {structure['format']!r}, expected {_FORMAT!r}")
        if dtype == "float64" or any(array.dtype == np.float64 for array in arrays.values()):
            require_float64(f"{path}")
        if dtype is not None and not _set_precision(structure["spec"], dtype):
            raise ValueError(f"dtype {dtype!r} is that of networks, and it holds none")
        potential = _decode(structure["spec"], arrays, descriptors or {})
        if not isinstance(potential, Potential):
            raise ValueError("it describes no potential")
        params = jax.tree.map(jnp.asarray, _decode(structure["params"], arrays, {}))
        if isinstance(potential, KernelPotential):
            _check_kernel(potential, params)
    except (SafetensorError, *_DAMAGE) as error:
        raise ValueError(f"{path}: not a model of jaxff, or damaged: {error}") from error
    return potential, params


def _set_precision(node: Any, dtype: str) -> int:
    """Write a precision into the recipe of every network, and count them."""
    if isinstance(node, list):
        return sum(_set_precision(item, dtype) for item in node)
    if not isinstance(node, dict):
        return 0
    if node.get("spec") in _NETWORKS:
        node["arguments"]["dtype"] = {"value": dtype}
        return 1
    return sum(_set_precision(item, dtype) for item in node.values())


def _check_kernel(potential: KernelPotential, params: Params) -> None:
    """Parameters must be those of the kernel: an altered group or array would predict nonsense."""
    numbers = np.asarray(params["numbers"])
    if isinstance(potential.kernel, SystemKernel):
        potential.kernel.check_numbers(numbers)
    if potential.uses:
        return  # what else the system must hold is not in the file
    positions = jax.ShapeDtypeStruct((len(numbers), 3), jnp.float64)
    cell = jax.ShapeDtypeStruct((3, 3), jnp.float64) if "cell" in params else None
    lists = jax.tree.map(lambda leaf: leaf[0], params.get("reference_neighbors"))
    jax.eval_shape(
        lambda r, c: potential.apply(params, System(r, numbers, c), lists), positions, cell
    )


def _encode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """JSON for a tree; arrays move to ``arrays`` and are named by their order."""
    if isinstance(node, Spec):
        return {"spec": node.builder, "arguments": _encode(node.arguments, arrays)["dict"]}
    if isinstance(node, System):
        present = {k: v for k, v in vars(node).items() if v is not None}
        return {"system": _encode(present, arrays)["dict"]}
    if isinstance(node, Neighbors | Pairs):
        kind = "neighbors" if isinstance(node, Neighbors) else "pairs"
        return {kind: _encode(vars(node), arrays)["dict"]}
    if isinstance(node, Mapping):
        return {"dict": {str(key): _encode(value, arrays) for key, value in node.items()}}
    if isinstance(node, tuple | list):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_encode(value, arrays) for value in node]}
    if isinstance(node, np.ndarray | jax.Array):
        name = str(len(arrays))
        # Not ascontiguousarray, which gives scalars an axis.
        arrays[name] = np.asarray(node, order="C")
        return {"array": name}
    if node is None or isinstance(node, str | int | float | bool):
        return {"value": node}
    raise ValueError(f"a model file cannot hold {type(node).__name__}")


def _decode(node: Any, arrays: Mapping[str, np.ndarray], custom: Mapping[str, Any]) -> Any:
    (kind, content), *rest = node.items()
    if kind == "spec":
        arguments = {k: _decode(v, arrays, custom) for k, v in node["arguments"].items()}
        return _build(content, arguments, custom)
    if rest:
        raise ValueError(f"unexpected entries {sorted(node)}")
    if kind == "array":
        return arrays[content]
    if kind == "value":
        return content
    if kind in ("tuple", "list"):
        parts = [_decode(value, arrays, custom) for value in content]
        return tuple(parts) if kind == "tuple" else parts
    if kind in _RECORDS:
        return _RECORDS[kind](
            **{key: _decode(value, arrays, custom) for key, value in content.items()}
        )
    raise ValueError(f"unknown kind of entry {kind!r}")


def _build(builder: str, arguments: dict[str, Any], custom: Mapping[str, Any]) -> Any:
    if builder not in _BUILDERS:
        raise ValueError(f"unknown potential {builder!r}; known: {sorted(_BUILDERS)}")
    for name, known in _CHOICES.items():
        value = arguments.get(name)
        if name == "descriptor" and isinstance(value, str) and value in custom:
            arguments[name] = custom[value]
        elif value is not None and not isinstance(value, _BUILT) and value not in known:
            raise ValueError(f"unknown {name} {value!r}; known: {sorted(known)}; pass it to load")
    return _BUILDERS[builder](**arguments)
