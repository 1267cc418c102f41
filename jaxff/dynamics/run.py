"""Molecular dynamics in compiled chunks: :func:`run`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.dynamics import loop
from jaxff.dynamics.ensembles import Ensemble
from jaxff.dynamics.recorder import Recorder
from jaxff.dynamics.simulation import Simulation
from jaxff.dynamics.trajectory import Restart, Trajectory
from jaxff.neighbors import NeighborListFns, neighbor_list
from jaxff.potential import EnergyFn, as_pytree
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["UnstableRunError", "run"]


class UnstableRunError(FloatingPointError):
    """A run stopped: energies, forces or positions were not finite, or atoms flew apart.

    Attributes:
        trajectory: All good frames; ``trajectory.restart`` is the last good state.
    """

    def __init__(self, message: str, trajectory: Trajectory):
        super().__init__(message)
        self.trajectory = trajectory


def run(
    energy_fn: EnergyFn,
    system: System,
    *,
    ensemble: Ensemble,
    steps: int,
    key: Array | None = None,
    temperature: float | None = None,
    velocities: Any = None,
    masses: Any = None,
    restart: Restart | None = None,
    every: int = 10,
    chunk: int = 1000,
    neighbors: NeighborListFns | None = None,
    max_displacement: float = 0.5,
    keep_frames: bool = True,
    progress: Callable[[Trajectory], None] | None = None,
    writer: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """Run molecular dynamics.

    Steps are compiled together; the host sees a chunk at a time. Frames are those of step 0, every
    ``every`` steps, and the last step. The precision is that of ``system.positions``. Pair lists
    are built on the host and renewed, in the middle of a chunk if need be, as soon as an atom has
    moved by half the skin: no step is ever taken on an old list.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``.
        system: A single system; positions in Å.
        ensemble: What is run, for example :func:`jaxff.dynamics.nve`.
        steps: Number of steps.
        key: Random key for initial velocities and thermostats; required where one of them draws.
        temperature: Temperature in K of initial Maxwell-Boltzmann velocities, drawn without
            translation (and, where nothing is periodic, rotation) of the whole; by default that of
            the ensemble, if it has one.
        velocities: Initial velocities in Å/fs instead.
        masses: Masses in amu; by default the standard ones of the elements.
        restart: State to continue from (:func:`jaxff.dynamics.read_restart`) instead of temperature
            or velocities. Its step 0 frame is not recorded again.
        every: Steps between frames.
        chunk: Steps between two looks of the host; rounded down to whole frames, at least one.
        neighbors: How to build pair lists, with a positive skin; by default
            ``neighbor_list(energy_fn.cutoffs, skin=1.0)`` where the potential has cutoffs.
        max_displacement: Distance in Å that no atom moves in one sound step.
        keep_frames: Whether the result holds all frames, or only those of the last chunk (long runs
            with a writer).
        progress: Called with each chunk, after the writer (:func:`jaxff.dynamics.progress_bar`).
        writer: Called with each chunk (:class:`jaxff.dynamics.Writer`).

    Returns:
        The frames, and in ``restart`` the state after the last step. ``degrees_of_freedom`` says
        what the temperature is divided by.

    Raises:
        ValueError: If arguments contradict each other or the system is no single system of real
            atoms.
        UnstableRunError: If the run breaks down; it names the step. Good frames and the last good
            state were passed to ``writer`` and are on the exception.
    """
    _check(system, steps, every, chunk)
    if restart is not None:
        positions = np.asarray(restart.positions, system.positions.dtype)
        system = system.replace(positions=jnp.asarray(positions))
    pairs = _neighbor_list(energy_fn, neighbors)
    kelvin = _temperature(temperature, ensemble, velocities, restart)
    data = _key(key, ensemble, velocities, restart)
    simulation = Simulation(
        as_pytree(energy_fn), ensemble, system, _masses(masses, system), pairs, data
    )
    recorder = Recorder(simulation, writer, progress, keep_frames)
    if restart is None:
        step, (state, first) = 0, simulation.start(kelvin, velocities)
        recorder.begin(state, first)
    else:
        step, state = restart.step, simulation.resume(restart)
        recorder.resume(restart)
    limits = _Limits(step + steps, every, max(1, chunk // every), max_displacement)
    _advance(simulation, recorder, state, step, limits)
    return recorder.result()


class _Limits(NamedTuple):
    """When to stop and to look: last step, steps between frames, frames in a chunk, Å in a step."""

    last: int
    every: int
    frames: int
    max_displacement: float


def _advance(
    simulation: Simulation, recorder: Recorder, state: Any, step: int, limits: _Limits
) -> None:
    last, every, frames, far = limits
    stop, listed_at = step, step
    while step < last:
        # A chunk that is interrupted for a new pair list goes on to where it would have ended.
        if step >= stop:
            stop = min((step // every + frames) * every, last)
        carry, recorded, count = simulation.advance(
            state, step, stop, every=every, capacity=frames, max_displacement=far
        )
        state, step, status = carry.state, int(carry.step), int(carry.status)
        recorder.add(recorded, int(count))
        if status == loop.STALE:
            if step == listed_at:
                raise ValueError(
                    f"an atom moves by more than half the skin in step {step + 1}: give "
                    "neighbors=neighbor_list(cutoffs, skin=...) with a larger skin"
                )
            simulation.renew_neighbors(state.position)
            listed_at = step
            continue
        recorder.flush(state, step)
        if status != loop.RUNNING:
            message = _failure(status, step, simulation.ensemble, far)
            raise UnstableRunError(message, recorder.result())


def _failure(status: int, step: int, ensemble: Ensemble, max_displacement: float) -> str:
    if status == loop.EXPLODED:
        what = f"an atom moves by more than {max_displacement} Å at once"
    else:
        what = "energy, forces or positions are not finite"
    return (
        f"{what} after step {step} ({step * ensemble.timestep:g} fs), the last good one; its state "
        "is in trajectory.restart of this exception and in the files of the writer. "
        "Try a smaller timestep, a relaxed start, or a model trained on such geometries"
    )


# --- arguments ---------------------------------------------------------------------------------


def _check(system: System, steps: int, every: int, chunk: int) -> None:
    if system.batch_shape or system.is_packed:
        raise ValueError("run takes a single system, got a stack or a pack")
    for name, value, least in (("steps", steps, 0), ("every", every, 1), ("chunk", chunk, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _masses(masses: Any, system: System) -> Float[np.ndarray, " atoms"]:
    given = units.masses(system.numbers) if masses is None else np.asarray(masses, np.float64)
    if given.shape != system.numbers.shape or not np.all(given > 0):
        raise ValueError(f"masses must be {system.atom_count} positive numbers in amu, got {given}")
    return given


def _neighbor_list(energy_fn: EnergyFn, given: NeighborListFns | None) -> NeighborListFns | None:
    cutoffs = getattr(energy_fn, "cutoffs", ())
    if given is None:
        return neighbor_list(cutoffs, skin=1.0) if cutoffs else None
    if not all(skin > 0 for skin in given.skins):
        raise ValueError(
            f"dynamics needs neighbor lists with a positive skin, got {given.skins} Å: "
            "neighbor_list(cutoffs, skin=1.0)"
        )
    return given


def _temperature(
    temperature: float | None, ensemble: Ensemble, velocities: Any, restart: Restart | None
) -> float | None:
    starts = {"temperature": temperature, "velocities": velocities, "restart": restart}
    given = [name for name, value in starts.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"give only one of temperature, velocities and restart, got {given}")
    if given in (["velocities"], ["restart"]):
        return None
    kelvin = ensemble.parameters.get("temperature") if temperature is None else temperature
    if kelvin is None or not 0 <= kelvin < float("inf"):
        raise ValueError(f"give temperature (K, not negative), velocities or restart, got {kelvin}")
    return float(kelvin)


def _key(key: Any, ensemble: Ensemble, velocities: Any, restart: Restart | None) -> np.ndarray:
    if restart is not None:
        return restart.key
    if key is not None:
        return np.asarray(jax.random.key_data(key))
    if velocities is None or not ensemble.conserves_momentum:
        raise ValueError(
            "velocities or a thermostat are drawn at random: give key=jax.random.key(0)"
        )
    return np.zeros(2, np.uint32)
