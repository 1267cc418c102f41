"""A training run as a TOML file; every key is checked.

::

    [data]
    path = "ethanol.npz"
    train = 1000
    valid = 200
    test = 1000
    batch_size = 10

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

``jaxff train --template`` prints every option with its meaning.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import jax

from jaxff.potential import Potential
from jaxff.training.checks import check_plan
from jaxff.training.fit import fit
from jaxff.training.loop import trainer
from jaxff.training.losses import Loss, Term, weighted
from jaxff.training.models import build_model
from jaxff.training.optimizers import named_optimizer, named_schedule
from jaxff.training.options import check_names, read_toml, record, typed
from jaxff.training.run import Result
from jaxff.training.sections import Data, Training

__all__ = ["Config", "read_config"]

_FREE = ("steps", "epochs", "patience", "checkpoints", "checkpoint_every", "keep", "log")
"""Options of ``[training]`` that a run may change when it goes on."""


@dataclass(frozen=True)
class Config:
    """A complete training run.

    Attributes:
        model: Name of the model and its arguments.
        loss: Weight, or options of :class:`jaxff.training.Term`, by name of the term.
        training: Everything else.
        data: Where frames come from; ``None`` for a caller with batches of his own.
        optimizer: Name and options, see :func:`jaxff.training.fit`.
        learning_rate: Number, or name and options of a schedule.
        folder: To which paths are relative.
        content: What the file says.
    """

    model: dict[str, Any]
    loss: dict[str, Any]
    training: Training
    data: Data | None = None
    optimizer: str | dict[str, Any] = "adam"
    learning_rate: float | dict[str, Any] = 1e-3
    folder: Path = Path()
    content: Mapping[str, Any] = field(default_factory=dict)

    def with_training(self, **options: Any) -> "Config":
        """With other options of ``[training]``; steps take the place of epochs, or the reverse."""
        if {"steps", "epochs"} & set(options):
            options = {"steps": None, "epochs": None, **options}
        return replace(self, training=replace(self.training, **options))

    @property
    def settings(self) -> dict[str, Any]:
        """What must stay the same when a run goes on, as ``{"section.option": value}``."""
        found = {}
        for section, content in self.content.items():
            table = content if isinstance(content, Mapping) else {"": content}
            for name, value in table.items():
                if section != "training" or name not in _FREE:
                    found[f"{section}.{name}".rstrip(".")] = value
        return json.loads(json.dumps(found, default=str))

    def potential(self) -> Potential:
        """The model."""
        return build_model(self.model)

    def terms(self) -> Loss:
        """The loss."""
        return weighted(**{name: _term(name, value) for name, value in self.loss.items()})

    def devices(self) -> list[Any] | None:
        """Devices to train on; ``None`` for the default one.

        Raises:
            ValueError: If this machine has fewer.
        """
        count, present = self.training.devices, jax.devices()
        if not 1 <= count <= len(present):
            raise ValueError(f"[training] devices must be 1 to {len(present)}, got {count}")
        return None if count == 1 else present[:count]

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
        chosen["devices"] = self.devices()
        for name in ("checkpoints", "log"):
            if chosen[name] is not None:
                chosen[name] = self.folder / chosen[name]
        return fit(
            self.potential() if potential is None else potential, train, valid, loss=self.terms(),
            optimizer=self.optimizer, learning_rate=self.learning_rate, settings=self.settings,
            **{**chosen, **options},
        )  # fmt: skip


def read_config(path: str | os.PathLike) -> Config:
    """Read and check a configuration; models are built once, to see that they can be.

    Raises:
        ValueError: If the file is no TOML, a key is unknown (the message names the nearest known
            one), a value has the wrong type, or something named there does not exist.
        FileNotFoundError: If there is no such file.
    """
    return read_toml(path, _config)


def _config(content: dict[str, Any], folder: Path) -> Config:
    known = [each.name for each in fields(Config) if each.name not in ("folder", "content")]
    check_names("section", content, known)
    for name in ("model", "loss", "training"):
        if not isinstance(content.get(name), dict):
            raise ValueError(f"a section [{name}] is needed")
    made = {**content, "training": record(Training, content["training"], "[training]")}
    if "data" in content:
        made["data"] = _data(content["data"])
    config = Config(**made, folder=folder, content=content)
    _check_training(config)
    return config


def _check_training(config: Config) -> None:
    """Make what a run is made of, once: whatever is wrong with it is found before data are read."""
    own, loss = config.training, config.terms()
    optimizer = named_optimizer(config.optimizer, named_schedule(config.learning_rate))
    trainer(
        config.potential(), loss, optimizer, ema=own.ema or None, clip=own.clip,
        accumulate=own.accumulate,
    )  # fmt: skip
    check_plan(
        loss, monitor=own.monitor, units=own.units, patience=own.patience, plateau=own.plateau,
        has_valid=config.data is None or config.data.valid is not None,
    )  # fmt: skip


def _data(content: Any) -> Data:
    """The section, with its parts in their short forms."""
    if not isinstance(content, Mapping):
        raise ValueError(f"a section [data] must be a table, got {content!r}")
    if "train" not in content:
        raise ValueError("[data] needs train: a count, a fraction, a path, or a table")
    parts = {name: _part(content[name]) for name in ("train", "valid", "test") if name in content}
    return record(Data, {**content, **parts}, "[data]")


def _part(value: Any) -> Any:
    short = {int: "count", float: "fraction", str: "path"}
    return {short[type(value)]: value} if type(value) in short else value


def _term(name: str, value: Any) -> float | Term:
    if not isinstance(value, Mapping):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"[loss] {name} must be a weight or a table, got {value!r}")
        return value
    hints = get_type_hints(Term)
    known = [each.name for each in fields(Term) if each.name not in ("label", "per_atom")]
    check_names(f"[loss] {name}: option", value, known)
    options: dict[str, Any] = {
        key: named_schedule(own)
        if key == "weight" and isinstance(own, Mapping)
        else typed(hints[key], own, f"[loss] {name} {key}")
        for key, own in value.items()
    }
    per_atom = name.endswith("_per_atom")
    return Term(name.removesuffix("_per_atom"), per_atom=per_atom, **options)
