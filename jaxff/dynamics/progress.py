"""A progress bar for long runs."""

import time
from collections.abc import Callable
from typing import Any

from jaxff.dynamics.trajectory import Trajectory

__all__ = ["progress_bar"]


def progress_bar(steps: int, **options: Any) -> Callable[[Trajectory], None]:
    """A tqdm bar for ``run(..., progress=progress_bar(steps))`` with ns/day and temperature.

    Args:
        steps: Steps of the run.
        options: Passed on to ``tqdm``.
    """
    from tqdm.auto import tqdm

    bar = tqdm(**{"total": steps, "unit": "step", "unit_scale": True, **options})
    marks: list[tuple[int, float]] = []  # step and clock of every call

    def update(chunk: Trajectory) -> None:
        restart = chunk.restart
        marks.append((restart.step, time.perf_counter()))
        bar.update(restart.step - marks[max(len(marks) - 2, 0)][0])
        status = {}
        if len(marks) > 2:  # the first chunk holds the compilation and says nothing about speed
            done, elapsed = (marks[-1][i] - marks[1][i] for i in (0, 1))
            status["ns/day"] = f"{done * restart.timestep * 1e-6 / elapsed * 86400:.3g}"
        if len(chunk):
            status["T"] = f"{chunk.temperature[-1]:.0f} K"
        bar.set_postfix(status)
        if bar.n >= steps:
            bar.close()

    return update
