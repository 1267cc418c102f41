"""Whether a descriptor is one: shape, values, derivatives, invariance."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.system import System
from jaxff.types import Array

__all__ = ["check"]

_MOTIONS = ("rotation", "translation")


def check(
    descriptor: Callable[..., Array],
    system: System,
    hyper: Mapping[str, Any] | None = None,
    neighbors: Any = None,
) -> None:
    """Try a descriptor on one geometry: refuse what cannot work, warn of what will mislead.

    It is compiled once, for the geometry, a rotated and a shifted one, and two that are displaced
    along a fixed random direction; meant to be called once, where references are placed.
    Derivatives of forward mode are compared with central differences: a kink exactly here passes
    for an error, one elsewhere is not found.

    Args:
        descriptor: Function of ``(system, neighbors=None, **hyper)``.
        system: Single system with generic positions.
        hyper: Hyperparameters of the descriptor by name.
        neighbors: Lists, if it takes any.

    Raises:
        TypeError: If it cannot be traced, or does not return one floating-point array.
        ValueError: If features have another shape than ``(features,)`` or ``(atoms, features)``,
            are not finite, do not change as atoms move, or have wrong derivatives.

    Warns:
        UserWarning: If rotation or translation of the whole system changes the features: forces
            would have a torque or a sum.
    """
    function = _traceable(descriptor, dict(hyper or {}), neighbors)
    _check_shape(function, system)
    values, slopes = (np.asarray(x) for x in _evaluate(function, _variants(system)))
    _check_finite(values, slopes)
    step = _step(system)
    numeric = (values[4] - values[3]) / (2 * step)
    size = max(np.abs(numeric).max(), np.abs(slopes[0]).max())
    if size == 0.0:
        raise ValueError(
            "no feature changes when the atoms move, so that there would be no forces: look for "
            "rounding, integer types, stop_gradient, or a cutoff that reaches no other atom"
        )
    noise = np.finfo(values.dtype).eps * np.abs(values[0]).max() / step
    worst = int(np.argmax(np.abs(numeric - slopes[0])))
    if np.abs(numeric - slopes[0])[worst] > 1e-3 * size + 10 * noise:
        raise ValueError(
            f"the descriptor is not differentiable as computed: along one direction feature {worst}"
            f" changes by {numeric[worst]:.6g} per Å, its derivative says {slopes[0][worst]:.6g}. "
            "Look for rounding, sorting, integer types or stop_gradient; or for two atoms exactly "
            "at a kink"
        )
    scale = np.abs(values[0]).max()
    for motion, moved in zip(_MOTIONS, values[1:3], strict=True):
        change = np.abs(moved - values[0]).max()
        if change > 1e3 * np.finfo(values.dtype).eps ** 0.75 * max(scale, 1e-300):
            warnings.warn(
                f"the descriptor is not invariant to {motion}: features change by up to "
                f"{change:.3g} (the largest is {scale:.3g}), so that energies depend on where the "
                "system is and how it lies. Build it from distances, angles or other invariants",
                UserWarning,
                stacklevel=2,
            )


def _traceable(
    descriptor: Callable[..., Array], hyper: dict[str, Any], neighbors: Any
) -> Callable[[System], Any]:
    lists = (neighbors,) if _takes_neighbors(descriptor, hyper) else ()

    def function(system: System) -> Any:
        try:
            return descriptor(system, *lists, **hyper)
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
            raise TypeError(
                "the descriptor cannot be differentiated: write it with jax.numpy and without "
                f"branches on values. JAX says: {str(error).splitlines()[0]}"
            ) from error

    return function


def _takes_neighbors(descriptor: Callable[..., Array], hyper: Mapping[str, Any]) -> bool:
    """Whether there is a second argument that is no hyperparameter."""
    second = [*inspect.signature(descriptor).parameters.values()][1:2]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.name not in hyper for p in second)


def _check_shape(function: Callable[[System], Any], system: System) -> None:
    found = jax.eval_shape(function, system)
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise TypeError(
            f"a descriptor must return one array of features, got {type(found).__name__}"
        )
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(
            f"features must be floating point, got {found.dtype}: they have no derivatives"
        )
    atoms = system.atom_count
    good = found.ndim == 1 or (found.ndim == 2 and found.shape[0] == atoms)
    if not good or 0 in found.shape:
        raise ValueError(
            f"features must have shape (features,), or ({atoms}, features) for one row per atom; "
            f"got {found.shape}"
        )


def _check_finite(values: np.ndarray, slopes: np.ndarray) -> None:
    for what, array in (("value", values), ("derivative", slopes)):
        bad = np.flatnonzero(~np.isfinite(array[0]))
        if len(bad):
            raise ValueError(
                f"the {what} of feature {bad[0]} is not finite ({len(bad)} such features): look "
                "for atoms in the same place, roots or norms of zero (use jaxff.numerics.safe_norm "
                "or jnp.where on the argument), and unlisted elements"
            )


def _step(system: System) -> float:
    """Displacement in Å whose difference is as exact as the precision allows."""
    return 1e-4 if system.positions.dtype == jnp.float64 else 1e-2


def _direction(system: System) -> np.ndarray:
    direction = np.random.default_rng(0).normal(size=system.positions.shape)
    return direction / np.linalg.norm(direction)


def _variants(system: System) -> System:
    """Stack of the system: as it is, rotated, shifted, displaced back and forth."""
    rotation = jnp.asarray(_rotation(), system.positions.dtype)
    shift = jnp.asarray([1.3, -0.7, 2.1], system.positions.dtype)
    along = jnp.asarray(_step(system) * _direction(system), system.positions.dtype)
    r = system.positions
    positions = jnp.stack([r, r @ rotation.T, r + shift, r - along, r + along])
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 5), system).replace(positions=positions)
    turned = {
        name: getattr(stacked, name).at[1].set(getattr(system, name) @ rotation.T)
        for name in ("cell", "electric_field")
        if getattr(system, name) is not None
    }
    return stacked.replace(**turned)


def _rotation() -> np.ndarray:
    """A proper rotation about no particular axis."""
    matrix = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    return matrix * np.linalg.det(matrix)


def _evaluate(function: Callable[[System], Any], systems: System) -> tuple[Array, Array]:
    """Flat features of each variant, and their derivatives along the direction."""
    direction = jnp.asarray(
        _direction(jax.tree.map(lambda leaf: leaf[0], systems)), systems.positions.dtype
    )

    def both(system: System) -> tuple[Array, Array]:
        def features(positions: Array) -> Array:
            return jnp.ravel(function(system.replace(positions=positions)))

        return jax.jvp(features, (system.positions,), (direction,))

    return jax.jit(jax.vmap(both))(systems)
