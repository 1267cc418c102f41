"""The loop over steps behind :func:`jaxff.training.fit`."""

import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.training.checkpoints import Checkpoints
from jaxff.training.epochs import Epochs, in_order
from jaxff.training.journal import Clock, Compilations, Course, Log, Plateau, bar
from jaxff.training.loop import Info, State, Trainer
from jaxff.training.metrics import table
from jaxff.training.optimizers import Schedule
from jaxff.training.validation import Measured, validate
from jaxff.types import Params

__all__ = ["NotFiniteError", "Plan", "Result", "Run"]

_LAG = 2  # steps by which the host follows the device
_GROUP = 16  # steps whose losses are read at once: fetching a number takes longer than computing it


class NotFiniteError(FloatingPointError):
    """A loss or a gradient was not finite.

    Attributes:
        frames: Which frames, or if they carry no numbers which batch, the step had.
        state: The state before it.
    """

    def __init__(self, message: str, frames: Any, state: State):
        super().__init__(message)
        self.frames, self.state = frames, state


@dataclass(frozen=True)
class Result:
    """What training gives.

    Attributes:
        params: The best parameters: those (averaged, with ``ema``) of the lowest monitored
            validation; without validation the last.
        state: The state after the last step.
        step: Step of the best parameters.
        steps: Steps done.
        errors: Errors of validation with these parameters, as :func:`jaxff.training.errors` gives
            them; empty without validation.
        history: One entry per validation, as in the log.
        stopped: Why it ended: ``"steps"``, ``"epochs"``, ``"patience"``, or ``"stop"`` if it was
            asked to, and is to go on.
    """

    params: Params
    state: State
    step: int
    steps: int
    errors: dict[str, dict[str, Any]]
    history: list[dict[str, Any]]
    stopped: str

    def table(self, title: str = "Validation errors") -> str:
        """The errors as a text table with units."""
        return table(self.errors, title)


@dataclass(frozen=True)
class Plan:
    """What stays the same during a run."""

    steps: Trainer
    train: Epochs
    valid: Any
    learning_rate: Schedule | None
    last_step: int | None
    last_epoch: int | None
    validate_every: int
    monitor: str
    patience: int | None
    plateau: Plateau | None
    checkpoints: Checkpoints | None
    checkpoint_every: int
    units: Mapping[str, str]
    seed: int
    settings: dict[str, Any]
    report: Callable[[dict[str, Any]], None] | None
    stop: Callable[[], bool] | None


class Run:
    """The loop over steps; what it changes is the state, the best parameters and the course."""

    def __init__(self, plan: Plan, state: State):
        self.plan, self.state, self.course = plan, state, Course()
        self.best = jax.tree.map(jnp.copy, state.averaged)
        self.pending: deque[tuple[Info, Any]] = deque()
        self._saved = -1
        if plan.checkpoints is not None:
            self._restore(plan.checkpoints)

    def _restore(self, checkpoints: Checkpoints) -> None:
        restored = checkpoints.restore((self.state, self.best))
        if restored is None:
            return
        self.state, self.best = restored.tree
        self.course, own = Course(**restored.record["course"]), self._identity()
        found = restored.record["run"]
        if odd := [n for n in {**own, **found} if own.get(n) != found.get(n)]:
            want, got = ({name: each.get(name) for name in odd} for each in (own, found))
            raise ValueError(
                f"{checkpoints.folder}: the checkpoints belong to another run: expected {want}, "
                f"got {got}; repeat its settings, or name another folder"
            )
        self._saved = restored.step

    def _identity(self) -> dict[str, Any]:
        own = {"seed": self.plan.seed, "steps_per_epoch": len(self.plan.train)}
        return {**self.plan.settings, **own}

    def finish(self, log: str | os.PathLike | None, progress: bool) -> Result:
        """Run to the end."""
        plan, course = self.plan, self.course
        self.log, self.clock = Log(log, course.history), Clock(course.seconds)
        total = plan.last_step or len(plan.train) * (plan.last_epoch or 0)
        with Compilations() as self.compilations, bar(progress, total, course.step) as self.bar:
            while (reason := self._reason()) is None:
                for batch in plan.train.epoch(course.epoch, course.position):
                    self._step(batch)
                    if self._reason() is not None:
                        break
                if course.position >= len(plan.train):
                    course.epoch, course.position = course.epoch + 1, 0
            unjudged = not course.history or course.history[-1]["step"] < course.step
            if unjudged and reason != "stop":
                self._validate()
            self._save()
        last = next((e for e in reversed(course.history) if e["step"] == course.best_step), None)
        errors = {} if last is None else last.get("errors", {})
        return Result(
            self.best, self.state, course.best_step, course.step, errors, course.history, reason
        )

    def _reason(self) -> str | None:
        """Why there is no further step."""
        plan, course = self.plan, self.course
        if plan.last_step is not None and course.step >= plan.last_step:
            return "steps"
        if plan.last_epoch is not None and course.step >= plan.last_epoch * len(plan.train):
            return "epochs"
        if plan.patience is not None and course.waited >= plan.patience:
            return "patience"
        if plan.stop is not None and plan.stop():
            return "stop"
        return None

    def _step(self, batch: Any) -> None:
        course = self.course
        self.state, info = self.plan.steps.step(self.state, self.plan.steps.place(batch))
        frames = batch.indices
        place = (course.epoch, course.position)
        course.step, course.position = course.step + 1, course.position + 1
        self.pending.append((info, (*place, frames)))
        if len(self.pending) > _LAG:
            jax.block_until_ready(self.pending[-1 - _LAG][0].finite)
        if len(self.pending) >= _LAG + _GROUP:
            self._read(_GROUP)
        self.bar.update()
        if course.step % self.plan.validate_every == 0:
            self._validate()
        if course.step % self.plan.checkpoint_every == 0:
            self._save()

    def _read(self, count: int) -> None:
        """Take note of the oldest steps, and stop at the first that went wrong."""
        group = [self.pending.popleft() for _ in range(count)]
        infos = [info for info, _ in group]
        if not infos:
            return
        if count == _GROUP:
            whole = jax.device_get(_stacked(infos))
        else:
            whole = jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(infos))
        good = whole.finite.reshape(count, -1).all(axis=1)
        first_bad = count if good.all() else int(np.argmin(good))
        self.course.add(whole, first_bad)
        if first_bad < count:
            self.pending.clear()
            self._fail(jax.tree.map(lambda leaf: leaf[first_bad], whole), *group[first_bad][1])

    def _fail(self, info: Info, epoch: int, position: int, frames: Any) -> NoReturn:
        # Later steps have changed nothing: the state is the one before this step.
        course = self.course
        course.epoch, course.position = epoch, position
        course.step = int(np.max(self.state.step))
        self.state = self.state._replace(finite=jnp.ones_like(self.state.finite))
        self._save()
        real = None if frames is None else np.asarray(frames)[np.asarray(frames) >= 0].tolist()
        which = f"batch {position} of epoch {epoch}"
        what = {name: float(np.mean(sums.mean)) for name, sums in info.terms.items()}
        raise NotFiniteError(
            f"step {course.step + 1} has a loss of {float(np.mean(info.loss))} and a gradient of "
            f"norm {float(np.mean(info.gradient_norm))}: {which}"
            + (f", frames {real}" if real is not None else "")
            + f"; its terms are {what}. Look at these frames, lower the learning rate or clip the "
            "gradient; the state before the step is in the newest checkpoint and in this exception",
            which if real is None else real,
            self.state,
        )

    def _validate(self) -> None:
        self._read(len(self.pending))
        plan, course = self.plan, self.course
        means = course.means()
        entry: dict[str, Any] = {
            "step": course.step,
            "epoch": course.step / len(plan.train),
            "train": {n: v for n, v in means.items() if n != "gradient_norm"},
            "gradient_norm": means.get("gradient_norm"),
            "learning_rate": self._rate(),
        }
        if plan.valid is None:
            self.best, course.best_step = jax.tree.map(jnp.copy, self.state.averaged), course.step
        else:
            self._compare(entry)
        course.seconds = self.clock()
        entry.update(seconds=course.seconds, compilations=self.compilations.count)
        course.history.append(entry)
        self.log.write(entry)
        if plan.report is not None:
            plan.report(entry)
        self.bar.set_postfix({k: f"{v:.4g}" for k, v in self._news(entry).items()})

    def _compare(self, entry: dict[str, Any]) -> None:
        """Validate, keep the best, lower the learning rate."""
        plan, course = self.plan, self.course
        measured = validate(
            plan.steps.potential, plan.steps.loss, self.state.averaged, in_order(plan.valid),
            step=course.step, units=plan.units,
        )  # fmt: skip
        value = _monitored(plan.monitor, measured)
        if math.isnan(value):
            self._save()
            raise FloatingPointError(
                f"validation after step {course.step} gives {plan.monitor} = nan, though training "
                "is finite: has it elements that the model does not know?"
            )
        best = course.judge(value, plan.plateau)
        if best:
            self.best = jax.tree.map(jnp.copy, self.state.averaged)
        rate = jnp.full_like(self.state.rate, course.rate)
        self.state = self.state._replace(rate=plan.steps.replicated(rate))
        entry.update(
            valid={"loss": measured.loss, **measured.terms}, errors=measured.errors, best=best
        )

    def _rate(self) -> float | None:
        schedule = self.plan.learning_rate
        return None if schedule is None else float(schedule(self.course.step)) * self.course.rate

    @staticmethod
    def _news(entry: dict[str, Any]) -> dict[str, float]:
        found = {"train": entry["train"]["loss"]} if entry["train"] else {}
        for name, row in entry.get("errors", {}).items():
            found[f"{name} {row['unit']}"] = row["mae"]
        return found

    def _save(self) -> None:
        course, checkpoints = self.course, self.plan.checkpoints
        if checkpoints is None or course.step == self._saved:
            return
        self._read(len(self.pending))
        course.seconds = self.clock()
        record = {"course": course.as_json(), "run": self._identity()}
        checkpoints.save(course.step, (self.state, self.best), record)
        self._saved = course.step


@jax.jit
def _stacked(infos: list[Info]) -> Info:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *infos)


def _monitored(name: str, measured: Measured) -> float:
    if name == "loss":
        return measured.loss
    label, _, kind = name.partition("/")
    return measured.errors[label][kind]
