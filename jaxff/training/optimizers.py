"""Optimisers and schedules of optax, by name or as they are."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.types import Array, Params

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

_BY_LAYER = ("lamb", "novograd")
"""Those that do not treat every number by itself."""

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

    Optimisers by name see one vector of all parameters of a type, unless they treat layers apart.

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
    made = _call("optimizer", known, name, {"learning_rate": learning_rate, **options})
    by_leaf = name in _BY_LAYER or any("mask" in option for option in options)
    return made if by_leaf else _joined(made)


def _joined(inner: Any) -> Any:
    """The same optimiser on one vector of all parameters of a type.

    Some hundred small arrays, each with moments of its own, take longer than the numbers in them.
    """
    import optax

    def init(params: Params) -> Any:
        return inner.init(_join(params))

    def update(updates: Params, state: Any, params: Params = None, **_: Any) -> Any:
        own = None if params is None else _join(params)
        changes, state = inner.update(_join(updates), state, own)
        return _cut(changes, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _join(tree: Params) -> dict[str, Array]:
    """Vectors of all leaves of a type."""
    groups: dict[str, list[Array]] = {}
    for leaf in map(jnp.asarray, jax.tree.leaves(tree)):
        groups.setdefault(str(leaf.dtype), []).append(leaf.ravel())
    return {name: jnp.concatenate(leaves) for name, leaves in sorted(groups.items())}


def _cut(vectors: dict[str, Array], like: Params) -> Params:
    """A tree like another of what :func:`_join` put together."""
    starts = dict.fromkeys(vectors, 0)

    def take(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        name = str(leaf.dtype)
        start = starts[name]
        starts[name] = end = start + leaf.size
        return vectors[name][start:end].reshape(leaf.shape)

    return jax.tree.map(take, like)


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
