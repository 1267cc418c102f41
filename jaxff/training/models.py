"""Models by name, with arguments that are checked against their builders."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from jaxff import descriptors
from jaxff.potential import Potential
from jaxff.training.optimizers import nearest
from jaxff.training.options import alternatives, typed

__all__ = ["build_model", "model_builders"]


_SCALARS = {int, float, bool, str}  # of other arguments the builders know more than annotations


def model_builders() -> dict[str, Callable[..., Potential]]:
    """Every public function of the room of networks that builds a potential, by name."""
    from jaxff import networks  # slow, and needed by networks alone

    public = {name: getattr(networks, name) for name in networks.__all__ if name != "from_linen"}
    return {
        name: value
        for name, value in public.items()
        if inspect.isfunction(value)
        and inspect.signature(value).return_annotation in (Potential, "Potential")
    }


def build_model(spec: Mapping[str, Any]) -> Potential:
    """The potential of ``{"name": ..., argument: value}``.

    A descriptor among the arguments is a name, or a table of its name and arguments again.

    Raises:
        ValueError: If the name or an argument is unknown, or one is missing or does not suit.
    """
    return _build("model", spec, model_builders())


def _build(kind: str, spec: Any, builders: Mapping[str, Callable[..., Any]]) -> Any:
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise ValueError(f"a {kind} is a table with its name, got {spec!r}")
    arguments = {key: value for key, value in spec.items() if key != "name"}
    name = spec["name"]
    if name not in builders:
        raise ValueError(
            f"unknown {kind} {name!r}{nearest(name, builders)}; known: "
            f"{', '.join(sorted(builders)) or 'none'}"
        )
    if "descriptor" in arguments:
        arguments["descriptor"] = _descriptor(arguments["descriptor"])
    parameters = inspect.signature(builders[name]).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not free:
            raise ValueError(
                f"{kind} {name!r} has no argument {key!r}{nearest(key, parameters)}; it has "
                f"{', '.join(parameters)}"
            )
    hints = get_type_hints(builders[name])
    for key, value in arguments.items():
        if value is not None and set(alternatives(hints.get(key, Any))) <= _SCALARS:
            arguments[key] = typed(hints[key], value, f"{kind} {name!r}: {key}")
    try:
        return builders[name](**arguments)
    except TypeError as error:
        raise ValueError(f"{kind} {name!r}: {error}") from error


def _descriptor(spec: Any) -> Any:
    if isinstance(spec, str) and spec in descriptors.NAMED:
        return descriptors.NAMED[spec]
    builders = {name: build for name, (_, build) in descriptors.BUILDERS.items()}
    return _build("descriptor", spec, builders)
