"""What a training run remembers and reports: the record of its course, its log and its bar."""

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxff.training.loop import Info

__all__ = ["Compilations", "Course", "Log", "Plateau", "bar"]


@dataclass(frozen=True)
class Plateau:
    """How the learning rate falls when validation no longer improves.

    Attributes:
        factor: By which it is multiplied.
        patience: Validations without a new best that are borne.
        cooldown: Validations after a fall during which none are counted.
        minimum: Smallest product of all factors.

    Raises:
        ValueError: For numbers out of range.
    """

    factor: float = 0.5
    patience: int = 10
    cooldown: int = 0
    minimum: float = 1e-4

    def __post_init__(self) -> None:
        if not (0 < self.factor < 1 and 0 <= self.minimum < 1):
            raise ValueError(f"factor and minimum of a plateau lie between 0 and 1, got {self}")
        if self.patience < 0 or self.cooldown < 0:
            raise ValueError(f"patience and cooldown must not be negative, got {self}")


@dataclass
class Course:
    """All that the host knows of a run; what JSON holds of it is enough to go on.

    Attributes:
        epoch: Passes over the data that are complete.
        position: Steps of the present pass.
        step: Steps in all.
        seconds: Time they took, with validation.
        best: Lowest monitored value.
        best_step: When it was found.
        waited: Validations since then.
        plateau: Validations without a new best since the learning rate last fell.
        cooling: Validations during which none are counted.
        rate: Product of all falls of the learning rate.
        sums: Sums of losses and norms since the last validation, by name.
        count: Steps in these sums.
        history: One entry per validation.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = math.inf
    best_step: int = 0
    waited: int = 0
    plateau: int = 0
    cooling: int = 0
    rate: float = 1.0
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return asdict(self)

    def add(self, infos: Info, count: int) -> None:
        """Count what the first of several steps found, along the first axis of ``infos``."""
        found = {"loss": infos.loss, "gradient_norm": infos.gradient_norm}
        for name, sums in infos.terms.items():
            found[name] = sums.total / np.maximum(sums.components, 1)
        for name, values in found.items():
            total = self.sums.get(name, 0.0)
            # One by one, so that it is the same sum however the steps were grouped.
            rows = np.asarray(values, float).reshape(len(values), -1)[:count]
            for value in rows.mean(axis=1).tolist():
                total += value
            self.sums[name] = total
        self.count += count

    def means(self) -> dict[str, float]:
        """Means over the steps since the last call."""
        found = {name: value / max(self.count, 1) for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return found

    def judge(self, value: float, plateau: Plateau | None) -> bool:
        """Take note of a validation; True if it is the best so far."""
        if value < self.best:
            self.best, self.best_step = value, self.step
            self.waited = self.plateau = 0
            self.cooling = max(self.cooling - 1, 0)
            return True
        self.waited += 1
        if self.cooling:
            self.cooling -= 1
        else:
            self.plateau += 1
        if plateau is not None and self.plateau > plateau.patience:
            self.rate = max(self.rate * plateau.factor, plateau.minimum)
            self.plateau, self.cooling = 0, plateau.cooldown
        return False


class Log:
    """A file with one line of JSON per validation; always that of the history."""

    def __init__(self, path: str | os.PathLike | None, history: list[dict[str, Any]]):
        """Begin the file anew with the lines of the history.

        What a killed run wrote after its last checkpoint is dropped: it will be written again.
        """
        self._path = None if path is None else Path(path).expanduser().resolve()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_name(f".{self._path.name}.part")
            beside.write_text("".join(_line(entry) for entry in history), "utf-8")
            beside.replace(self._path)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append a line."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(_line(entry))


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry) + "\n"


class Compilations:
    """Counts compiled programs of training and validation while it is open."""

    NAMES = ("_training_step", "_validation")

    def __init__(self) -> None:
        self.count = 0

    def _listen(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.count += any(name in str(kwargs.get("fun_name")) for name in self.NAMES)

    def __enter__(self) -> "Compilations":
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)


class Clock:
    """Seconds of a run, those before a restart included."""

    def __init__(self, before: float) -> None:
        self._start = time.perf_counter() - before

    def __call__(self) -> float:
        return time.perf_counter() - self._start


def bar(progress: bool, total: int | None, start: int) -> Any:
    """A tqdm bar over steps, silent unless asked for."""
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=start, unit="step", disable=not progress)
