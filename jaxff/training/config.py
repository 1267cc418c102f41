"""A training run as a TOML file; every key is checked.

::

    [model]
    name = "schnet"
    cutoff = 5.0

    [loss]
    energy = 1.0
    forces = { weight = 10.0, form = "huber", delta = 0.1 }

    [optimizer]
    name = "adamw"
    weight_decay = 1e-4

    [learning_rate]
    name = "cosine_decay"
    init_value = 1e-3
    decay_steps = 100_000

    [training]
    steps = 100_000
    ema = 0.999

    [training.plateau]
    patience = 20
"""

import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Union

from jaxff.potential import Potential
from jaxff.training.fit import fit
from jaxff.training.journal import Plateau
from jaxff.training.losses import Loss, Term, weighted
from jaxff.training.models import build_model
from jaxff.training.optimizers import named_optimizer, named_schedule, nearest
from jaxff.training.run import Result

__all__ = ["Config", "Training", "read_config"]


@dataclass(frozen=True)
class Training:
    """The section ``[training]``: options of :func:`jaxff.training.fit`, with the same meaning."""

    steps: int | None = None
    """Steps in all; this or epochs."""
    epochs: int | None = None
    """Passes over the data in all."""
    seed: int = 0
    """Of the parameters, of random directions and of the order of the data."""
    ema: float | None = 0.999
    """Decay of the moving average of the parameters; 0 for none."""
    debias: bool = True
    """Whether the average begins with the first step instead of the first parameters."""
    clip: float | None = None
    """Largest norm of the gradient."""
    frozen: tuple[str, ...] = ()
    """Regular expressions of whole paths of parameters that are kept."""
    accumulate: int = 1
    """Parts in which batches that are stacked are done one after the other."""
    validate_every: int | None = None
    """Steps between validations; an epoch unless said otherwise."""
    monitor: str = "loss"
    """What is to become small: loss, or an error such as forces/mae."""
    patience: int | None = None
    """Stop after this many validations without a new best."""
    plateau: Plateau | None = None
    """When the learning rate falls: factor, patience, cooldown, minimum."""
    checkpoints: str | None = None
    """Folder for checkpoints, relative to the file; a run that was stopped goes on from there."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; after every validation unless said otherwise."""
    keep: int = 3
    """Checkpoints that are kept."""
    log: str | None = None
    """File for one line of JSON per validation, relative to the configuration."""
    units: dict[str, str] = field(default_factory=dict)
    """Units to report errors in, by label."""


@dataclass(frozen=True)
class Config:
    """A complete training run, but for the data.

    Attributes:
        model: Name of the model and its arguments.
        loss: Weight, or options of :class:`jaxff.training.Term`, by name of the term.
        training: Everything else.
        optimizer: Name and options, see :func:`jaxff.training.fit`.
        learning_rate: Number, or name and options of a schedule.
        folder: To which paths are relative.
    """

    model: dict[str, Any]
    loss: dict[str, Any]
    training: Training
    optimizer: str | dict[str, Any] = "adam"
    learning_rate: float | dict[str, Any] = 1e-3
    folder: Path = Path()

    def potential(self) -> Potential:
        """The model."""
        return build_model(self.model)

    def terms(self) -> Loss:
        """The loss."""
        return weighted(**{name: _term(name, value) for name, value in self.loss.items()})

    def fit(
        self, train: Any, valid: Any = None, *, potential: Any = None, **options: Any
    ) -> Result:
        """Train as the file says.

        Args:
            train: As for :func:`jaxff.training.fit`.
            valid: As for :func:`jaxff.training.fit`.
            potential: In the place of the model alone, for instance with reference energies.
            **options: Others of :func:`jaxff.training.fit`.
        """
        chosen = {each.name: getattr(self.training, each.name) for each in fields(Training)}
        chosen["ema"] = chosen["ema"] or None
        for name in ("checkpoints", "log"):
            if chosen[name] is not None:
                chosen[name] = self.folder / chosen[name]
        return fit(
            self.potential() if potential is None else potential, train, valid, loss=self.terms(),
            optimizer=self.optimizer, learning_rate=self.learning_rate, **{**chosen, **options},
        )  # fmt: skip


def read_config(path: str | os.PathLike) -> Config:
    """Read and check a configuration; models are built once, to see that they can be.

    Raises:
        ValueError: If the file is no TOML, a key is unknown (the message names the nearest known
            one), a value has the wrong type, or something named there does not exist.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from error
    try:
        return _config(content, path.resolve().parent)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _config(content: dict[str, Any], folder: Path) -> Config:
    known = [each.name for each in fields(Config) if each.name != "folder"]
    _check_names("section", content, known)
    for name in ("model", "loss", "training"):
        if not isinstance(content.get(name), dict):
            raise ValueError(f"a section [{name}] is needed")
    made = {**content, "training": _record(Training, content["training"], "[training]")}
    config = Config(**made, folder=folder)
    named_optimizer(config.optimizer, named_schedule(config.learning_rate))
    config.terms()
    config.potential()
    return config


def _term(name: str, value: Any) -> float | Term:
    if not isinstance(value, Mapping):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"[loss] {name} must be a weight or a table, got {value!r}")
        return value
    known = [each.name for each in fields(Term) if each.name not in ("label", "per_atom")]
    _check_names(f"[loss] {name}: option", value, known)
    options = dict(value)
    if isinstance(options.get("weight"), Mapping):
        options["weight"] = named_schedule(options["weight"])
    per_atom = name.endswith("_per_atom")
    return Term(name.removesuffix("_per_atom"), per_atom=per_atom, **options)


def _record(kind: Any, content: Any, where: str) -> Any:
    """A dataclass of a table, with types checked."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must be a table, got {content!r}")
    hints = typing.get_type_hints(kind)
    _check_names(f"{where}: option", content, [each.name for each in fields(kind)])
    needed = [e for e in fields(kind) if e.default is MISSING and e.default_factory is MISSING]
    missing = [each.name for each in needed if each.name not in content]
    if missing:
        raise ValueError(f"{where} needs {', '.join(missing)}")
    return kind(**{k: _value(hints[k], v, f"{where} {k}") for k, v in content.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """The value in the type of the option."""
    choices = typing.get_args(hint) if _is_union(hint) else (hint,)
    for choice in choices:
        if isinstance(choice, type) and hasattr(choice, "__dataclass_fields__"):
            return _record(choice, value, where)
        origin = typing.get_origin(choice) or choice
        if origin is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
        if origin is dict and isinstance(value, dict):
            return value
        if origin is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if origin in (int, str, bool) and type(value) is origin:
            return value
    words = " or ".join(_word(c) for c in choices if c is not type(None))
    raise ValueError(f"{where} must be {words}, got {value!r}")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)


def _word(kind: Any) -> str:
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return words.get(kind, "a list of texts" if typing.get_origin(kind) is tuple else "a table")


def _check_names(what: str, content: Mapping[str, Any], known: list[str]) -> None:
    for name in content:
        if name not in known:
            raise ValueError(
                f"unknown {what} {name!r}{nearest(name, known)}; known: {', '.join(known)}"
            )
