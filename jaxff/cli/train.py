"""``jaxff train``."""

from __future__ import annotations

import json as json_format
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from jaxff import io
from jaxff.allocation import keep_freed_memory
from jaxff.cli.console import complain, progress, say, warn
from jaxff.cli.files import Count, Output, check_output
from jaxff.cli.manual import manual
from jaxff.cli.manual import template as template_text
from jaxff.data.archive import write_atomic
from jaxff.linalg.memory import format_bytes
from jaxff.training import Job, Result, parameter_paths, prepare, read_config, table
from jaxff.training.checkpoints import Checkpoints
from jaxff.training.config import Config
from jaxff.training.metrics import unit_symbol
from jaxff.training.optimizers import named_schedule

__all__ = ["train"]

_Config = Annotated[Path | None, tyro.conf.arg(metavar="CONFIG.toml")]


def train(
    config: tyro.conf.Positional[_Config] = None,
    /,
    *,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None,
    steps: Count = None,
    epochs: Count = None,
    resume: Annotated[bool, tyro.conf.arg(aliases=["--restart"])] = False,
    fresh: bool = False,
    start_from: Output = None,
    json: Output = None,
    options: bool = False,
    template: bool = False,
) -> None:
    """Train a network as a TOML file says.

    Writes the best parameters with the reference energies as a model that the other commands take,
    one line of JSON per validation, and checkpoints beside it. A run that was stopped or killed
    goes on with the same command and --resume, and gives what it would have given.

    Args:
        config: The configuration; every option of it is documented by --options.
        output: Where to write the model, .safetensors; by default beside the configuration, under
            its name.
        steps: Steps in all, in the place of those of the configuration.
        epochs: Passes over the data in all, in the place of those of the configuration.
        resume: Go on from the newest checkpoint.
        fresh: Remove the checkpoints of an earlier run and begin anew.
        start_from: Model of the same network, .safetensors, whose parameters to begin with, in the
            place of random ones; reference energies are those of the data.
        json: Write settings, errors and times to this file.
        options: Print every option of the configuration with its meaning, and end.
        template: Print a complete configuration to start from, and end.
    """
    if options or template:
        say(manual() if options else template_text())
        return
    if config is None:
        raise ValueError("name a configuration: jaxff train CONFIG.toml (--template prints one)")
    if resume and fresh:
        raise ValueError("give --resume or --fresh, not both")
    asked = read_config(config)
    overrides = {k: v for k, v in (("steps", steps), ("epochs", epochs)) if v is not None}
    asked = asked.with_training(**overrides) if overrides else asked
    output = config.with_suffix(".safetensors") if output is None else output
    check_output(output, (".safetensors",), (config,))
    if json is not None:
        check_output(json, (".json",), (config,))
    folder, log = _places(asked, output)
    _check_checkpoints(folder, resume, fresh)
    keep_freed_memory()
    job = _prepared(asked)
    if job.model.spec is None:
        raise ValueError(f"{config}: this model cannot be written to a file")
    params = None if start_from is None else _parameters(job, start_from)
    _announce(job, folder, log)
    job.check()  # before anything of an earlier run is removed
    if fresh:
        Checkpoints(folder).clear()
    result = _trained(job, folder, log, params)
    if result.stopped == "stop":
        complain(
            f"Stopped after {result.steps} of {job.steps} steps; the checkpoint is in {folder}. Go "
            f"on with: {_again()}"
        )
        raise KeyboardInterrupt
    _finish(job, result, output, json)


def _places(config: Config, output: Path) -> tuple[Path, Path]:
    """Folder of the checkpoints and file of the log: beside the model unless said otherwise."""
    training = config.training
    folder = output.with_suffix(".checkpoints")
    log = output.with_suffix(".jsonl")
    if training.checkpoints is not None:
        folder = config.folder / training.checkpoints
    return folder, log if training.log is None else config.folder / training.log


def _check_checkpoints(folder: Path, resume: bool, fresh: bool) -> None:
    """Neither go on by mistake nor lose anything by mistake.

    Raises:
        FileExistsError: If there are checkpoints, and nobody says what to do with them.
        FileNotFoundError: If there are none to go on from.
    """
    there = Checkpoints(folder).steps if folder.is_dir() else []
    if resume and not there:
        raise FileNotFoundError(f"{folder}: no checkpoints to go on from")
    if there and not (resume or fresh):
        raise FileExistsError(
            f"{folder}: an earlier run has {there[-1]} steps: go on with --resume, or begin anew "
            "with --fresh, which removes its checkpoints"
        )


def _prepared(config: Config) -> Job:
    with progress("reading the data", 1.0) as bar:
        return prepare(config, lambda name, done, total: bar(done / max(total, 1)))


def _announce(job: Job, folder: Path, log: Path) -> None:
    config, training = job.config, job.config.training
    for name in ("train", "valid", "test"):
        if (batches := getattr(job, name)) is not None:
            say(f"{name}: {batches.summary()}".replace("\n", "\n  "))
    if job.valid is None:
        warn(
            "no validation data ([data] valid): the last parameters are kept, and nothing tells "
            "when to stop"
        )
    if job.reference is not None:
        say(str(job.reference))
    elif "energy" in config.terms().labels:
        say("No reference energies are taken off.")
    else:
        warn("the loss has no energy: the model's energies have an arbitrary constant")
    epochs = job.steps / len(job.train)
    say(
        f"{config.model['name']}: {job.parameters()} parameters; {len(job.train)} steps an epoch, "
        f"{job.steps} in all ({epochs:g} epochs), seed {training.seed}, on {jax.default_backend()}"
    )
    say(f"Log: {log}; checkpoints: {folder}")
    _warn_of_rate(config, job.steps)


def _warn_of_rate(config: Config, steps: int) -> None:
    """Say which steps change nothing: those with a learning rate of zero."""
    schedule = named_schedule(config.learning_rate)
    places = np.unique(np.linspace(0, steps - 1, 101).astype(int)).tolist()
    idle = [step for step in places if step > 0 and float(schedule(step)) == 0.0]
    if idle:
        warn(
            f"the learning rate is zero in steps such as {idle[0]} of {steps}, which then change "
            "nothing: does [learning_rate] fit the number of steps?"
        )


def _parameters(job: Job, path: Path) -> Any:
    """Parameters of a model file, if they are those of this network.

    Raises:
        ValueError: If they are not.
    """
    params = io.load(path)[1]
    wanted, got = (
        dict(zip(parameter_paths(tree), (x.shape for x in jax.tree.leaves(tree)), strict=True))
        for tree in (job.parameter_shapes(), params)
    )
    odd = sorted(n for n in {**wanted, **got} if wanted.get(n) != got.get(n))
    if odd:
        raise ValueError(
            f"{path}: a model of another network: parameter {odd[0]} must have shape "
            f"{wanted.get(odd[0])}, got {got.get(odd[0])}"
        )
    return params


def _trained(job: Job, folder: Path, log: Path, params: Any) -> Result:
    from tqdm.auto import tqdm

    headed = False

    def report(entry: dict[str, Any]) -> None:
        nonlocal headed
        lines = [_row(entry)] if headed else [_head(entry), _row(entry)]
        headed = True
        tqdm.write("\n".join(lines))
        sys.stdout.flush()

    with _interrupts() as stop:
        return job.fit(
            checkpoints=folder, log=log, report=report, stop=stop, params=params,
            progress=sys.stderr.isatty(),
        )  # fmt: skip


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether the user, or the operating system, has asked to stop; asked twice it is at once."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield lambda: asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _again() -> str:
    arguments = [each for each in sys.argv[1:] if each not in ("--fresh", "--resume", "--restart")]
    return shlex.join(["jaxff", *arguments, "--resume"])


def _columns(entry: dict[str, Any]) -> dict[str, str]:
    """What a line of a validation says, by the head of its column."""
    found = {"step": str(entry["step"]), "epoch": f"{entry['epoch']:.5g}"}
    if entry["train"]:
        found["train loss"] = f"{entry['train']['loss']:.4g}"
    for name, row in entry.get("errors", {}).items():
        if not name.endswith("_per_atom"):
            found[f"{name} MAE {unit_symbol(row['unit'])}"] = f"{row['mae']:.4g}"
    if entry["learning_rate"] is not None:
        found["learning rate"] = f"{entry['learning_rate']:.3g}"
    found["seconds"] = f"{entry['seconds']:.1f}"
    return found


def _head(entry: dict[str, Any]) -> str:
    return "  ".join(name.rjust(_width(name)) for name in _columns(entry))


def _row(entry: dict[str, Any]) -> str:
    cells = (value.rjust(_width(name)) for name, value in _columns(entry).items())
    return "  ".join(cells) + ("  best" if entry.get("best") else "")


def _width(name: str) -> int:
    return max(len(name), 8)


def _finish(job: Job, result: Result, output: Path, json: Path | None) -> None:
    """Write the model, test it, and say so."""
    io.save(output, job.model, result.params)
    reasons = {"patience": f"no better validation for {job.config.training.patience} times"}
    say(
        f"\nEnded after {result.steps} steps"
        + (f": {reasons[result.stopped]}" if result.stopped in reasons else "")
        + f"; parameters of step {result.step}."
    )
    if result.errors:
        say(result.table("\nValidation errors"))
    test = None
    if job.test is not None:
        with progress("testing"):
            test = job.test_errors(result.params)
        say(table(test, "\nTest errors"))
    say(f"\nWrote {output} ({format_bytes(output.stat().st_size)}).")
    if json is not None:
        content = json_format.dumps(_record(job, result, test), indent=1, ensure_ascii=False)
        write_atomic(json, lambda stream: stream.write(f"{content}\n".encode()))
        say(f"Wrote {json}.")


def _record(job: Job, result: Result, test: dict[str, Any] | None) -> dict[str, Any]:
    last = result.history[-1]
    return {
        "settings": job.config.settings,
        "frames": {
            name: len(batches.found.sizes)
            for name in ("train", "valid", "test")
            if (batches := getattr(job, name)) is not None
        },
        "parameters": job.parameters(),
        "steps": result.steps,
        "best_step": result.step,
        "stopped": result.stopped,
        "seconds": last["seconds"],
        "compilations": last["compilations"],
        "valid": result.errors or None,
        "test": test,
    }
