"""Optimisers and schedules of optax, by name or as they are."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Schedule",
    "is_optimizer",
    "named_optimizer",
    "named_schedule",
]

Schedule = Callable[[Any], Any]
"""A number as a function of the step."""

OPTIMIZERS = (
    "adabelief", "adagrad", "adam", "adamax", "adamw", "adan", "amsgrad", "lamb", "lion", "nadam",
    "nadamw", "novograd", "radam", "rmsprop", "sgd", "yogi",
)  # fmt: skip
"""Names of optimisers, those of optax."""

SCHEDULES = (
    "constant", "cosine_decay", "cosine_onecycle", "exponential_decay", "linear",
    "linear_onecycle", "piecewise_constant", "polynomial", "warmup_constant",
    "warmup_cosine_decay", "warmup_exponential_decay",
)  # fmt: skip
"""Names of schedules: those of optax, with or without its ending ``_schedule``."""


def is_optimizer(value: Any) -> bool:
    """Whether it is an optimiser of optax, not the name of one."""
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))


def named_schedule(spec: float | str | Mapping[str, Any] | Schedule) -> Schedule:
    """A schedule of a number, of ``{"name": ..., option: value}``, or of itself.

    Raises:
        ValueError: If the name or an option is unknown, or an option is missing.
    """
    import optax  # slow, and needed by training alone

    if callable(spec):
        return spec
    if isinstance(spec, int | float) and not isinstance(spec, bool):
        if not 0 <= spec < float("inf"):
            raise ValueError(f"a constant schedule must not be negative, got {spec}")
        return optax.constant_schedule(float(spec))
    name, options = _split(spec, "schedule")
    known = {n: getattr(optax, f"{n}_schedule", getattr(optax, n, None)) for n in SCHEDULES}
    if isinstance(steps := options.get("boundaries_and_scales"), Mapping):
        # Keys of a file are texts.
        options["boundaries_and_scales"] = {int(step): scale for step, scale in steps.items()}
    schedule = _call("schedule", known, name.removesuffix("_schedule"), options)
    try:
        float(schedule(0))
    except (TypeError, ValueError) as error:
        raise ValueError(f"schedule {name!r} of {options} gives no number: {error}") from error
    return schedule


def named_optimizer(spec: str | Mapping[str, Any] | Any, learning_rate: Schedule) -> Any:
    """An optimiser of a name, of ``{"name": ..., option: value}``, or as it is.

    Args:
        spec: Which; an object of optax has a learning rate of its own.
        learning_rate: For those given by name.

    Raises:
        ValueError: If the name or an option is unknown.
    """
    import optax

    if is_optimizer(spec):
        return spec
    name, options = _split(spec, "optimizer")
    if "learning_rate" in options:
        raise ValueError(
            "the learning rate of an optimizer by name is given apart, not among its options"
        )
    known = {name: getattr(optax, name) for name in OPTIMIZERS if hasattr(optax, name)}
    return _call("optimizer", known, name, {"learning_rate": learning_rate, **options})


def _split(spec: Any, kind: str) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise ValueError(
            f'{kind} must be a name, {{"name": ..., option: value}} or an object of optax, got '
            f"{spec!r}"
        )
    return spec["name"], {key: value for key, value in spec.items() if key != "name"}


def _call(kind: str, known: Mapping[str, Any], name: str, options: dict[str, Any]) -> Any:
    if name not in known:
        raise ValueError(
            f"unknown {kind} {name!r}{nearest(name, known)}; known: {', '.join(sorted(known))}"
        )
    parameters = inspect.signature(known[name]).parameters
    unknown = sorted(set(options) - set(parameters))
    if unknown:
        raise ValueError(
            f"{kind} {name!r} has no option {unknown[0]!r}{nearest(unknown[0], parameters)}; it "
            f"has {', '.join(p for p in parameters if p != 'learning_rate')}"
        )
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and key not in options
    ]
    if missing:
        raise ValueError(f"{kind} {name!r} needs {', '.join(missing)}")
    try:
        return known[name](**options)
    except TypeError as error:
        raise ValueError(f"{kind} {name!r}: {error}") from error


def nearest(name: str, known: Any) -> str:
    """The known name most like this one, as an aside; nothing if none is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
