"""Coarse graining as a TOML file; every key is checked.

::

    temperature = 300.0
    output = "alanine"

    [data]
    path = "run/chain*.npz"
    weights_key = "weights"

    [map]
    atoms = [4, 6, 8, 10, 14, 16]

    [prior]
    bonds = [[0, 1], [1, 2], [2, 3], [2, 4], [4, 5]]
    angles = [[0, 1, 2], [1, 2, 4], [2, 4, 5], [1, 2, 3], [3, 2, 4]]

    [variables]
    dihedrals = [[0, 1, 2, 4], [1, 2, 4, 5]]
    names = ["φ", "ψ"]

    [models.kernel]
    kind = "two_layers"
    batches = 100

    [models.baseline]
    kind = "single"

    [models.painn]
    kind = "network"
    network = { name = "painn", cutoff = 8.0 }
    epochs = 50

    [simulate]
    steps = 100_000

    [compare]
    center = [2, 1, 4, 3]
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaxff.analysis import populations
from jaxff.coarse.sections import (
    Compare,
    Folds,
    Inducing,
    Map,
    Network,
    Prior,
    Rows,
    Simulate,
    Single,
    Trajectory,
    TwoLayers,
    Variables,
)
from jaxff.training.models import build_model
from jaxff.training.options import check_names, read_toml, record

__all__ = ["KINDS", "SECTIONS", "Config", "check_beads", "read_config"]

KINDS = {"two_layers": TwoLayers, "single": Single, "inducing": Inducing, "network": Network}
"""Sections of models by their kind."""

SECTIONS = {
    "data": Trajectory, "variables": Variables, "map": Map, "prior": Prior, "folds": Folds,
    "simulate": Simulate, "compare": Compare,
}  # fmt: skip
"""Sections by their names, but for models."""

AnyModel = TwoLayers | Single | Inducing | Network


@dataclass(frozen=True)
class Config:
    """A trajectory, how it is mapped, and the models of it.

    Attributes:
        temperature: Of the trajectory, K.
        data: Where it is.
        variables: Dihedrals.
        models: By name.
        output: Folder of the results; by default that of the configuration, under its name.
        seed: Of all draws.
        map: From atoms to beads.
        prior: Energies that models are added to.
        folds: What is held out.
        simulate: Dynamics, if any.
        compare: How surfaces are compared.
        folder: To which paths are relative.
    """

    temperature: float
    data: Trajectory
    variables: Variables
    models: Mapping[str, AnyModel]
    output: str | None = None
    seed: int = 0
    map: Map | None = None
    prior: Prior | None = None
    folds: Folds = field(default_factory=Folds)
    simulate: Simulate | None = None
    compare: Compare = field(default_factory=Compare)
    folder: Path = Path()

    def settings_of_map(self) -> dict[str, Any]:
        """What the beads follow from."""
        named = {"temperature": self.temperature, "data": asdict(self.data)}
        return {**named, "map": None if self.map is None else asdict(self.map)}

    def settings_of_model(self, name: str) -> dict[str, Any]:
        """What a model follows from, beside the beads."""
        return {
            "temperature": self.temperature,
            "seed": self.seed,
            "prior": None if self.prior is None else asdict(self.prior),
            "variables": {k: v for k, v in asdict(self.variables).items() if k != "names"},
            "folds": asdict(self.folds),
            f"models.{name}": asdict(self.models[name]),
        }


def read_config(path: str | os.PathLike) -> Config:
    """Read and check a configuration.

    Raises:
        ValueError: If the file is no TOML, a key is unknown (the message names the nearest known
            one), is missing, or has a value of the wrong type.
        FileNotFoundError: If there is no such file.
    """
    stem = Path(path).stem
    return read_toml(path, lambda content, folder: _config({"output": stem, **content}, folder))


def check_beads(config: Config, count: int) -> None:
    """Refuse a configuration that names beads which do not exist, or states that are none.

    Raises:
        ValueError: Naming the section and the row or state.
    """
    prior = config.prior
    named: dict[str, Rows] = {"[variables] dihedrals": config.variables.dihedrals}
    if prior is not None:
        for name in ("bonds", "angles", "repulsive"):
            named[f"[prior] {name}"] = getattr(prior, name)
    if config.compare.center:
        named["[compare] center"] = (config.compare.center,)
    for where, rows in named.items():
        for row in rows:
            if not all(0 <= bead < count for bead in row):
                raise ValueError(
                    f"{where}: beads are counted from 0 to {count - 1}, got {list(row)}"
                )
    still = np.zeros((1, len(config.variables.dihedrals)))
    try:
        populations(still, config.compare.intervals, blocks=1)
    except ValueError as error:
        raise ValueError(f"[compare] states: {error}") from error


def _config(content: dict[str, Any], folder: Path) -> Config:
    check_names("section", content, [e.name for e in fields(Config) if e.name != "folder"])
    for name in ("temperature", "data", "variables", "models"):
        if name not in content:
            raise ValueError(f"{'' if name == 'temperature' else 'a section '}{name} is needed")
    temperature, seed = content["temperature"], content.get("seed", 0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise ValueError(f"temperature must be a number in K, got {temperature!r}")
    fine = 0 < temperature < float("inf") and type(seed) is int and seed >= 0
    if not fine or not isinstance(content["output"], str):
        raise ValueError(
            "temperature must be positive (K), seed an integer from 0 on and output text, got "
            f"{temperature}, {seed!r} and {content['output']!r}"
        )
    made = {
        name: record(kind, content[name], f"[{name}]")
        for name, kind in SECTIONS.items()
        if name in content
    }
    models = content["models"]
    if not isinstance(models, Mapping) or not models:
        raise ValueError("[models] must have a table for each model, such as [models.kernel]")
    found = {name: _model(name, table) for name, table in models.items()}
    return Config(
        **{**content, **made, "models": found, "temperature": float(temperature)}, folder=folder
    )


_TAKEN = ("map", "beads", "comparison", "surfaces", "trajectory")


def _model(name: str, content: Any) -> AnyModel:
    where = f"[models.{name}]"
    kind = content.get("kind") if isinstance(content, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{where} needs a kind, one of {', '.join(KINDS)}, got {kind!r}")
    if "/" in name or name.startswith(".") or name in _TAKEN or name.endswith("_samples"):
        raise ValueError(f"{where}: files are named after the model, which {name!r} cannot be")
    model = record(KINDS[kind], content, where)
    if isinstance(model, Network):
        try:
            build_model(model.network)  # to see that it can be built
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where} network: {error}") from error
    return model
