"""What the commands print: text on stdout, progress and errors where they do not disturb it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

__all__ = ["Bar", "as_flags", "complain", "progress", "say", "warn"]

# Arguments of the library as the command line spells them.
_FLAGS = {
    "trajectory.restart of this exception and in the files of the writer": "restart.npz of the run",
    ": load models with jaxff.interfaces.sgdml.load": "",
    ": read data sets with jaxff.data.npz.read": "",
    "drop=[...] or skip_invalid=True when reading the file": "--skip-invalid",
    "cell='full' or 'isotropic'": "--cell full or isotropic",
    "cell='full'": "--cell full",
    "cell='isotropic'": "--cell isotropic",
    "cell='fixed'": "--cell fixed",
    "energy_unit=...": "--energy-unit",
    "length_unit=...": "--length-unit",
    **{
        name: "--" + name.replace("_", "-")
        for name in (
            "energy_unit",
            "length_unit",
            "forces_unit",
            "energy_key",
            "forces_key",
            "skip_invalid",
            "max_force",
            "max_order",
            "max_step",
            "max_stress",
            "regularization",
            "timestep",
            "relaxation_time",
            "barostat_time",
        )
    },
}
_PATTERN = re.compile("|".join(rf"(?<![\w./-]){re.escape(name)}(?!\w|\.\w)" for name in _FLAGS))

_SECTION = re.compile(r"(?<!\w)\[[a-z]\w*(\.[\w-]+)*\]")
"""A table of a configuration, such as [data], whose keys are spelled as they are."""


def as_flags(message: str) -> str:
    """A message of the library with its arguments spelled as command-line options."""
    if _SECTION.search(message):
        return message
    return _PATTERN.sub(lambda match: _FLAGS[match.group()], message)


def say(text: str = "") -> None:
    """Print to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print a warning to stderr."""
    complain(f"warning: {as_flags(text)}")


def complain(text: str) -> None:
    """Print to stderr."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Bar:
    """A progress bar or spinner on stderr, silent where that is no terminal."""

    def __init__(self, display: Any, task: Any):
        self._display, self._task = display, task

    def __call__(self, value: float) -> None:
        """Show that ``value`` of the total is done."""
        self._display.update(self._task, completed=value)

    def remaining(self, seconds: float | None) -> None:
        """Show this estimate of the time left, in place of one by the speed of the bar."""
        self._display.update(self._task, seconds_left=seconds)

    def say(self, text: str) -> None:
        """Print to stdout without a bar in between."""
        self._display.stop()
        say(text)
        self._display.start()


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Bar]:
    """A bar that is gone when done; without a total, a spinner with the time it takes.

    Args:
        description: What is under way.
        total: The value that means done.

    Yields:
        A function to call with the value reached.
    """
    from rich import progress as parts
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)

    class TimeLeft(parts.TimeRemainingColumn):
        """The estimate that was given, or one by the speed of the bar."""

        def render(self, task: parts.Task) -> Text:
            seconds = task.fields.get("seconds_left")
            if seconds is None:
                return super().render(task)
            return Text(str(timedelta(seconds=round(seconds))), style="progress.remaining")

    columns: tuple[Any, ...] = (parts.SpinnerColumn(), parts.TextColumn("{task.description}"))
    if total is not None:
        columns += (parts.BarColumn(), parts.TaskProgressColumn(), TimeLeft())
    with parts.Progress(
        *columns,
        parts.TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    ) as display:
        yield Bar(display, display.add_task(description, total=total))
