"""Training from data to the best parameters, with all that a long run needs."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import jax

from jaxff.potential import Potential
from jaxff.training.checkpoints import Checkpoints
from jaxff.training.checks import check_course, check_plan
from jaxff.training.epochs import Epochs, Shuffled
from jaxff.training.journal import Plateau
from jaxff.training.loop import trainer
from jaxff.training.losses import Loss
from jaxff.training.optimizers import (
    Schedule,
    is_optimizer,
    named_optimizer,
    named_schedule,
)
from jaxff.training.run import Plan, Result, Run
from jaxff.types import Params

__all__ = ["fit"]


def fit(
    potential: Potential,
    train: Epochs | Sequence[Any],
    valid: Epochs | Sequence[Any] | None = None,
    *,
    loss: Loss,
    optimizer: str | Mapping[str, Any] | Any = "adam",
    learning_rate: float | str | Mapping[str, Any] | Schedule = 1e-3,
    steps: int | None = None,
    epochs: int | None = None,
    params: Params | None = None,
    seed: int = 0,
    ema: float | None = 0.999,
    debias: bool = True,
    clip: float | None = None,
    frozen: Sequence[str] = (),
    accumulate: int = 1,
    devices: Sequence[Any] | None = None,
    validate_every: int | None = None,
    monitor: str = "loss",
    patience: int | None = None,
    plateau: Plateau | None = None,
    checkpoints: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    keep: int = 3,
    resume: bool = True,
    log: str | os.PathLike | None = None,
    progress: bool = False,
    units: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Result:
    """Train a potential.

    A run with ``checkpoints`` that is stopped, or killed, goes on when the same call is made again,
    and gives bit for bit what it would have given.

    Args:
        potential: What is trained.
        train: Batches: an object with :class:`Epochs`' two methods, as ``jaxff.data`` makes them,
            or a list of batches, which are shuffled by ``(seed, epoch)``.
        valid: Batches to validate with, in their order.
        loss: What is minimised.
        optimizer: Name of an optimiser of optax, ``{"name": ..., option: value}``, or the object,
            which brings its own learning rate.
        learning_rate: Number, schedule of optax by name with options, or function of the step.
        steps: Steps in all.
        epochs: Passes over the data in all, as an alternative.
        params: Where to start; by default from ``potential.init``.
        seed: Of the parameters, of what is random in steps, and of the order of a list of batches.
        ema: See :func:`jaxff.training.trainer`; validation and result are those of the average.
        debias: See there.
        clip: See there.
        frozen: See there.
        accumulate: See there.
        devices: See there.
        validate_every: Steps between validations; an epoch by default.
        monitor: What is to become small: ``"loss"``, or an error such as ``"forces/mae"``.
        patience: Stop after this many validations without a new best.
        plateau: When the learning rate falls.
        checkpoints: Folder for checkpoints; ``None`` for none.
        checkpoint_every: Steps between them; after every validation by default.
        keep: How many are kept. Each holds the best parameters too.
        resume: Go on from the newest checkpoint of the folder; else the folder must be empty.
        log: File that gets one line of JSON per validation.
        progress: Show a bar.
        units: Units to report errors in, by label.
        settings: Values, as JSON has them, that a run must share with checkpoints it goes on from.
        report: Called with the entry of the history after each validation.
        stop: Asked after every step; if it says so the run ends there with a checkpoint, and
            goes on when the same call is made again.

    Raises:
        NotFiniteError: If a loss or a gradient is not finite; it names the frames, and the state
            before it is in the exception and in the newest checkpoint.
        ValueError: For arguments that make no sense, data without the labels of the loss, or a
            folder of checkpoints of another run.
        BlockingIOError: If another run is writing its checkpoints there.
    """
    check_course(
        steps=steps, epochs=epochs, seed=seed, keep=keep, validate_every=validate_every,
        checkpoint_every=checkpoint_every, patience=patience,
    )  # fmt: skip
    check_plan(
        loss, monitor=monitor, units=units or {}, patience=patience, plateau=plateau,
        has_valid=valid is not None,
    )  # fmt: skip
    own_rate = is_optimizer(optimizer)
    schedule = None if own_rate else named_schedule(learning_rate)
    made = trainer(
        potential, loss, named_optimizer(optimizer, schedule or named_schedule(0.0)), ema=ema,
        debias=debias, clip=clip, frozen=frozen, accumulate=accumulate, devices=devices,
    )  # fmt: skip
    data = train if isinstance(train, Epochs) else Shuffled(train, seed)
    every = len(data) if validate_every is None else validate_every
    plan = Plan(
        made, data, valid, schedule, steps, epochs, every, monitor, patience, plateau,
        None if checkpoints is None else Checkpoints(checkpoints, keep),
        every if checkpoint_every is None else checkpoint_every, units or {}, seed,
        dict(settings or {}), report, stop,
    )  # fmt: skip
    if not len(data):
        raise ValueError("training needs batches, got none")
    if plan.checkpoints is not None and not resume and plan.checkpoints.steps:
        raise ValueError(
            f"{plan.checkpoints.folder} holds checkpoints: name another folder, or resume=True"
        )
    first = next(iter(data.epoch(0, 0)))
    state = made.init(jax.random.key(seed), first, params)
    with nullcontext() if plan.checkpoints is None else plan.checkpoints.alone():
        return Run(plan, state).finish(log, progress)
