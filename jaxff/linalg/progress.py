"""How far an iterative solve has come, and how long it will take."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Progress", "Reporter", "seconds_left"]

_FEW = 5
"""Iterations without which nothing is foretold."""


class Progress(NamedTuple):
    """Where a solve stands, for those who watch it.

    Attributes:
        stage: ``"preconditioner"`` or ``"iterations"``.
        iteration: Iterations done.
        residual_norm: Largest relative residual.
        part: Estimated part of the work that is done, between 0 and 1.
        rank: Rank of the preconditioner.
        seconds_left: Estimated time to the tolerance, from the rate at which the logarithm of the
            residual has fallen lately; ``None`` while nothing can be said.
    """

    stage: str
    iteration: int
    residual_norm: float
    part: float
    rank: int
    seconds_left: float | None = None


def seconds_left(seconds: list[float], residuals: list[float], target: float) -> float | None:
    """Time until the residual reaches the target, if its logarithm goes on falling as it did.

    The slope is that of the smallest residual so far over the last half of the iterations: the
    residual itself goes up and down, and the first iterations are not typical.

    Args:
        seconds: When each residual was reached.
        residuals: Relative residuals.
        target: Where the solve ends.

    Returns:
        Seconds, or ``None`` if there are too few residuals or they do not fall.
    """
    if len(residuals) < _FEW:
        return None
    lowest = np.log(np.maximum(np.minimum.accumulate(residuals), np.finfo(float).tiny))
    if lowest[-1] <= np.log(target):
        return 0.0
    recent = slice(len(residuals) // 2, None)
    times, values = np.array(seconds[recent]), lowest[recent]
    times, deviations = times - np.mean(times), values - np.mean(values)
    slope = float(times @ deviations / max(float(times @ times), np.finfo(float).tiny))
    if slope >= 0.0:
        return None
    return float((np.log(target) - lowest[-1]) / slope)


class Reporter:
    """Tells watchers how a solve goes on.

    Args:
        target: Relative residual at which it ends.
        progress: Called with the part that is done.
        callback: Called with a :class:`Progress`.
    """

    def __init__(
        self,
        target: float,
        progress: Callable[[float], None] | None,
        callback: Callable[[Progress], None] | None,
    ):
        self._target, self._progress, self._callback = target, progress, callback
        self._seconds: list[float] = []
        self._residuals: list[float] = []

    def prepare(self, iteration: int, residual: float) -> None:
        """A preconditioner is about to be built; what follows has a pace of its own."""
        self._seconds, self._residuals = [], []
        self._tell(Progress("preconditioner", iteration, residual, 0.0, 0))

    def iterate(self, iteration: int, residual: float, rank: int) -> None:
        """An iteration is done."""
        self._seconds.append(time.perf_counter())
        self._residuals.append(residual)
        if self._callback is None and self._progress is None:
            return
        first, lowest, part = self._residuals[0], min(self._residuals), 0.0
        if first > self._target:
            part = float(np.clip(np.log(first / lowest) / np.log(first / self._target), 0, 1))
        left = seconds_left(self._seconds, self._residuals, self._target)
        self._tell(Progress("iterations", iteration, residual, part, rank, left))

    def _tell(self, state: Progress) -> None:
        if self._callback is not None:
            self._callback(state)
        if self._progress is not None:
            self._progress(state.part)
