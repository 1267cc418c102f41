"""Options of SpookyNet, checked where a potential is built."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxff import physics
from jaxff.networks.blocks import require_choice, require_positive
from jaxff.networks.spookynet_layers import ATTENTION, directions

__all__ = ["check_range", "directions_of", "require_probability", "tables_of"]


def require_probability(**values: float) -> None:
    """Refuse what is no probability, and zero.

    Raises:
        ValueError: Naming the number.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= 1.0:
            raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")


def directions_of(
    attention: str,
    modules: int,
    features: int,
    count: int | None,
    seed: int,
    given: Any,
) -> tuple[np.ndarray, ...] | None:
    """Directions of the random features of each module, if there are such.

    Raises:
        ValueError: For options that do not belong together.
    """
    require_choice("nonlocal_attention", attention, ATTENTION)
    if attention != "features":
        if count is not None or given is not None:
            raise ValueError(
                "random_features and directions belong to nonlocal_attention='features', got "
                f"{attention!r}"
            )
        return None
    if given is None:
        count = features if count is None else count
        require_positive(random_features=count)
        return tuple(directions(features, count, seed + k) for k in range(modules))
    given = np.asarray(given)
    if given.ndim != 3 or given.shape[:2] != (modules, features) or count not in (
        None, given.shape[2]
    ):  # fmt: skip
        raise ValueError(
            f"directions must have shape (modules, features, random_features), here "
            f"({modules}, {features}, {'any' if count is None else count}), got {given.shape}"
        )
    return tuple(given)


def check_range(
    cutoff: float,
    far: float | None,
    electrostatics: bool,
    dispersion: bool,
    ewald: physics.EwaldPlan | None,
) -> None:
    """See that the ranges of the terms fit each other.

    Raises:
        ValueError: If they do not.
    """
    if far is not None and not (electrostatics or dispersion):
        raise ValueError(
            f"long_range_cutoff is that of electrostatics and dispersion, and neither is there: "
            f"leave it out, got {far}"
        )
    if far is not None and not cutoff <= far < float("inf"):
        raise ValueError(f"long_range_cutoff must be at least the cutoff, {cutoff} Å; got {far} Å")
    if ewald is None:
        return
    if not electrostatics or far is None:
        raise ValueError("an Ewald plan needs electrostatics and a long_range_cutoff in Å")
    if far < 4.0 * ewald.smearing:
        raise ValueError(
            f"charges of width {ewald.smearing:.3g} Å are not points at {far} Å: make the plan by "
            f"ewald_plan(cell, cutoff={far})"
        )


def tables_of(dispersion: bool, given: Any) -> physics.D4Tables | None:
    """Reference data of D4; a mapping when it comes from a file.

    Raises:
        ValueError: If they are given without dispersion.
    """
    if not dispersion:
        if given is not None:
            raise ValueError("dispersion_tables are those of dispersion, which is switched off")
        return None
    if given is None:
        return physics.d4_tables()
    return physics.D4Tables(**given) if isinstance(given, Mapping) else given
