"""Options of a training run that can be judged before anything is read or computed."""

from collections.abc import Mapping

from jaxff.quantities import quantity
from jaxff.training.losses import Loss

__all__ = ["check_course", "check_plan"]

_KINDS = ("mae", "rmse", "max")


def check_course(
    *,
    steps: int | None,
    epochs: int | None,
    seed: int,
    keep: int,
    validate_every: int | None,
    checkpoint_every: int | None,
    patience: int | None,
) -> None:
    """Check the numbers that say how long a run is, and what happens when.

    Raises:
        ValueError: For numbers out of range, or unless there are either steps or epochs.
    """
    if (steps is None) == (epochs is None) or (steps or epochs or 0) < 1:
        raise ValueError(f"give a positive number of steps or epochs, got {steps=} and {epochs=}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    counts = {
        "keep": keep,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
        "patience": patience,
    }
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def check_plan(
    loss: Loss,
    *,
    monitor: str,
    units: Mapping[str, str],
    patience: int | None,
    plateau: object | None,
    has_valid: bool,
) -> None:
    """Check what validation is asked for, which would else be missed after many steps.

    Raises:
        ValueError: If ``monitor`` is nothing that validation gives, a unit does not fit its label,
            or options look at a validation that there is not.
    """
    if not has_valid and (patience is not None or plateau is not None or monitor != "loss"):
        raise ValueError("patience, plateau and monitor look at validation: give batches for it")
    labels = [name for name in loss.labels if name not in ("hessian", "hessian_vector")]
    labels += ["energy_per_atom"] if "energy" in labels else []
    known = ["loss", *(f"{name}/{kind}" for name in labels for kind in _KINDS)]
    if monitor not in known:
        raise ValueError(f"monitor must be one of {', '.join(known)}; got {monitor!r}")
    for name, unit in units.items():
        try:
            quantity(name).factor(unit)
        except ValueError as error:
            raise ValueError(f"units, {name}: {error}") from error
