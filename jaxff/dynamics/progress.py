"""A progress bar for long runs."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxff.dynamics.trajectory import Trajectory

__all__ = ["progress_bar"]


def progress_bar(steps: int, *, start: int = 0, **options: Any) -> Callable[[Trajectory], None]:
    """A tqdm bar for ``run(..., progress=progress_bar(steps))`` with ns/day and temperature.

    Both are those of one replica: the temperature is the average over replicas.

    Args:
        steps: Steps of the run.
        start: Step at which it begins: ``restart.step`` if it continues another.
        options: Passed on to ``tqdm``.
    """
    from tqdm.auto import tqdm

    bar = tqdm(**{"total": steps, "unit": "step", "unit_scale": True, **options})
    marks: list[tuple[int, float]] = []  # step and clock at the end of every chunk with steps

    def update(chunk: Trajectory) -> None:
        restart = chunk.restart
        bar.update(restart.step - start - bar.n)
        if restart.step > start:
            marks.append((restart.step, time.perf_counter()))
        status = {}
        if len(marks) > 1:  # the first chunk holds the compilation and says nothing about speed
            done, elapsed = (marks[-1][i] - marks[0][i] for i in (0, 1))
            status["ns/day"] = f"{done * restart.timestep * 1e-6 / elapsed * 86400:.3g}"
        if len(chunk):
            status["T"] = f"{np.mean(chunk.temperature[..., -1]):.0f} K"
        bar.set_postfix(status)
        if bar.n >= steps:
            bar.close()

    return update
