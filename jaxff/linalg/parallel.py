"""What the processes of a mesh of devices must share: sums, decisions and copies.

Vectors are held whole by every process; only what is large is spread over the devices. Decisions
that rest on clocks, on free memory or on rounding must be the same everywhere, as all processes
have to call the same collective operations in the same order: they are taken from the first one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxff.types import Array

__all__ = [
    "agree",
    "axis",
    "check_mesh",
    "is_first",
    "least",
    "local",
    "mesh_of",
    "own_devices",
    "process_count",
    "replicate",
    "spread",
    "total",
]


def check_mesh(mesh: Mesh, count: int) -> None:
    """Refuse what references cannot be shared out over.

    Raises:
        ValueError: For a mesh of several axes, of more devices than references, or of devices of
            other processes only.
    """
    if len(mesh.axis_names) != 1:
        raise ValueError(
            f"mesh must have one axis, got {mesh.axis_names}: references are shared out along it; "
            'for instance jax.make_mesh((jax.device_count(),), ("references",))'
        )
    if mesh.size > count:
        raise ValueError(
            f"mesh has {mesh.size} devices for {count} references: every device needs one; make a "
            "mesh of fewer devices"
        )
    if not own_devices(mesh):
        raise ValueError(
            f"mesh holds no device of process {jax.process_index()}: only processes whose devices "
            "are part of it may take part in the fit"
        )


def mesh_of(operator: Any) -> Mesh | None:
    """The mesh over which an operator works; ``None`` if it is on one device."""
    return getattr(operator, "mesh", None)


def axis(mesh: Mesh) -> str:
    """Name of the axis."""
    return mesh.axis_names[0]


def own_devices(mesh: Mesh) -> list[int]:
    """Places on the mesh of the devices that belong to this process."""
    here = jax.process_index()
    return [i for i, device in enumerate(mesh.devices.flat) if device.process_index == here]


def process_count(mesh: Mesh | None) -> int:
    """Number of processes that own devices of the mesh."""
    return 1 if mesh is None else _leaders(mesh).size


def _leaders(mesh: Mesh) -> Mesh:
    """One device of each process."""
    first: dict[int, Any] = {}
    for device in mesh.devices.flat:
        first.setdefault(device.process_index, device)
    return Mesh(np.array(list(first.values())), ("processes",))


def total(mesh: Mesh | None, array: np.ndarray) -> np.ndarray:
    """Sum of an array over the processes, on each of them."""
    if mesh is None or process_count(mesh) == 1:
        return array
    return _reduce(mesh, "sum", array)


def least(mesh: Mesh | None, value: float) -> float:
    """Smallest of the processes' numbers."""
    if mesh is None or process_count(mesh) == 1:
        return value
    return float(_reduce(mesh, "min", np.asarray(value)))


def agree(mesh: Mesh | None, value: Any) -> np.ndarray:
    """The array of the first process, on all of them."""
    array = np.asarray(value)
    if mesh is None or process_count(mesh) == 1:
        return array
    return _reduce(mesh, "sum", array if is_first(mesh) else np.zeros_like(array))


def is_first(mesh: Mesh | None) -> bool:
    """Whether this process is the one that decides and writes files."""
    return mesh is None or mesh.devices.flat[0].process_index == jax.process_index()


def _reduce(mesh: Mesh, how: str, array: np.ndarray) -> np.ndarray:
    leaders = _leaders(mesh)
    sharding = NamedSharding(leaders, P("processes"))
    joined = jax.make_array_from_process_local_data(sharding, array[None])
    return np.array(local(_reduce_on(leaders, how, joined)))


@partial(jax.jit, static_argnums=(0, 1))
def _reduce_on(mesh: Mesh, how: str, joined: Array) -> Array:
    found = jnp.sum(joined, axis=0) if how == "sum" else jnp.min(joined, axis=0)
    return jax.lax.with_sharding_constraint(found, NamedSharding(mesh, P()))


def replicate(mesh: Mesh, array: Array) -> Array:
    """An array that every process holds, as a copy on each of its devices."""
    copies = [jax.device_put(array, device) for device in mesh.local_devices]
    sharding = NamedSharding(mesh, P())
    return jax.make_array_from_single_device_arrays(array.shape, sharding, copies)


def spread(mesh: Mesh, parts: Sequence[np.ndarray], along: int = 0) -> Array:
    """Parts of one shape, one per device of this process in the order of the mesh, as an array."""
    if not parts:
        raise ValueError("a process needs at least one device of the mesh")
    shape = list(parts[0].shape)
    shape[along] *= mesh.size
    placed = [jax.device_put(p, d) for p, d in zip(parts, mesh.local_devices, strict=True)]
    sharding = NamedSharding(mesh, P(*(None,) * along, axis(mesh)))
    return jax.make_array_from_single_device_arrays(tuple(shape), sharding, placed)


def local(array: Array) -> Array:
    """This process's copy of a replicated array.

    Waits for it: collective operations of two programs in flight may block each other.
    """
    return jax.block_until_ready(array).addressable_data(0)
