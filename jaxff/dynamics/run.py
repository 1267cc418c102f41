"""Molecular dynamics in compiled chunks: :func:`run`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import elements, units
from jaxff.dynamics import loop
from jaxff.dynamics.ensembles import Ensemble
from jaxff.dynamics.precision import check_precision
from jaxff.dynamics.recorder import Recorder
from jaxff.dynamics.simulation import Simulation
from jaxff.dynamics.trajectory import Restart, Trajectory
from jaxff.neighbors import NeighborListFns, lists_to_keep
from jaxff.potential import EnergyFn, as_pytree
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["UnstableRunError", "run"]


class UnstableRunError(FloatingPointError):
    """A run stopped: energies, forces or positions were not finite, or atoms flew apart.

    Attributes:
        trajectory: All good frames; ``trajectory.restart`` is the last good state.
        replicas: Which of several replicas failed; empty where that could not be told.
    """

    def __init__(self, message: str, trajectory: Trajectory, replicas: tuple[int, ...] = ()):
        super().__init__(message)
        self.trajectory, self.replicas = trajectory, replicas


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
    degrees_of_freedom: int | None = None,
    replicas: int | None = None,
    restart: Restart | None = None,
    every: int = 10,
    chunk: int = 1000,
    neighbors: NeighborListFns | None = None,
    max_displacement: float = 0.5,
    shadow: bool = False,
    keep_frames: bool = True,
    progress: Callable[[Trajectory], None] | None = None,
    writer: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """Run molecular dynamics.

    Steps are compiled together; the host sees a chunk at a time. Frames are those of step 0, every
    ``every`` steps, and the last step. The precision is that of ``system.positions``; in float32
    the forces at the start are first compared with those in float64. Pair lists are renewed inside
    the compiled steps as soon as they might miss a pair: no force is ever computed from an old
    list. Where a list has not enough room the host makes a larger one, and the run goes on from the
    last good step.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``.
        system: A single system, or a stack of replicas that start from different geometries;
            positions in Å.
        ensemble: What is run, for example :func:`jaxff.dynamics.nve`.
        steps: Number of steps.
        key: Random key for initial velocities and thermostats; required where one of them draws.
        temperature: Temperature in K of initial Maxwell-Boltzmann velocities, drawn without
            translation (and, where nothing is periodic, rotation) of the whole; by default that of
            the ensemble, if it has one.
        velocities: Initial velocities in Å/fs instead.
        masses: Masses in amu; by default the standard ones of the elements.
        degrees_of_freedom: What temperatures and thermostats count with, where an external field
            sets the whole in motion; by default counted as
            :func:`jaxff.dynamics.degrees_of_freedom` does, or 3 N if the thermostat moves the
            whole.
        replicas: Number of runs side by side from the one system, each with its own random numbers;
            of path integrals the number of beads.
            Arrays of the result have a leading axis. If one fails, all stop at that step;
            :func:`jaxff.analysis.lifetimes` lets the others go on.
        restart: State to continue from (:func:`jaxff.dynamics.read_restart`) instead of temperature
            or velocities, with the same potential, atoms, masses and time step. Its frame is not
            recorded again. The ensemble may have another temperature or pressure, to heat or to
            compress; what it conserves then starts from another value.
        every: Steps between frames.
        chunk: Steps between two looks of the host; rounded down to whole frames, at least one.
        neighbors: How to build pair lists, with a positive skin; by default
            ``neighbor_list(energy_fn.cutoffs, skin=1.0)`` where the potential has cutoffs.
        max_displacement: Distance in Å that no atom moves in one sound step.
        shadow: Whether to record, for constant energy, the energy that velocity Verlet conserves to
            fourth order in the time step (:func:`jaxff.dynamics.shadow_energy`), for one
            Hessian-vector product a frame.
        keep_frames: Whether the result holds all frames, or only those of the last chunk (long runs
            with a writer).
        progress: Called with each chunk, after the writer (:func:`jaxff.dynamics.progress_bar`).
        writer: Called with each chunk (:class:`jaxff.dynamics.Writer`).

    Returns:
        The frames, and in ``restart`` the state after the last step. ``degrees_of_freedom`` says
        what the temperature is divided by.

    Raises:
        ValueError: If arguments contradict each other, the system is a pack, or forces in float32
            are too far from those in float64.
        UnstableRunError: If the run breaks down; it names step, time and atom, and the replica.
            Good frames and the last good state were passed to ``writer`` and are on the exception.
    """
    _check(system, steps, every, chunk, ensemble, shadow, replicas)
    system = _replicate(system, replicas)
    if restart is not None:
        system = _at_restart(system, restart)
    pairs = lists_to_keep(getattr(energy_fn, "cutoffs", ()), neighbors)
    kelvin = _temperature(temperature, ensemble, velocities, restart)
    if ensemble.couples_replicas:
        # Beads are hotter by their number; shared out, that is the temperature of the atoms.
        beads = system.batch_shape[0]
        kelvin = None if kelvin is None else beads * kelvin
        degrees_of_freedom = degrees_of_freedom or 3 * system.atom_count
        degrees_of_freedom *= beads
    data = _key(key, ensemble, velocities, restart, system)
    check_precision(energy_fn, system, pairs)
    simulation = Simulation(
        as_pytree(energy_fn),
        ensemble,
        system,
        ensemble.inertial_masses(_masses(masses, system)),
        pairs,
        data,
        shadow,
    )
    recorder = Recorder(simulation, writer, progress, keep_frames)
    if restart is None:
        step, (carry, first) = 0, simulation.start(kelvin, velocities, degrees_of_freedom)
        recorder.begin(carry, first)
    else:
        step, (carry, empty) = restart.step, simulation.resume(restart, degrees_of_freedom)
        recorder.resume(carry, restart, empty)
    limits = _Limits(step + steps, every, max(1, chunk // every), max_displacement)
    _advance(simulation, recorder, carry, step, limits)
    return recorder.result()


class _Limits(NamedTuple):
    """When to stop and to look: last step, steps between frames, frames in a chunk, Å in a step."""

    last: int
    every: int
    frames: int
    max_displacement: float


_ATTEMPTS = 10  # overflows at one step; room grows by a quarter each time


def _advance(
    simulation: Simulation, recorder: Recorder, carry: loop.Carry, step: int, limits: _Limits
) -> None:
    last, every, frames, far = limits
    stop, overflows = step, []
    while step < last:
        # A chunk that is interrupted for a larger list goes on to where it would have ended.
        if step >= stop:
            stop = min((step // every + frames) * every, last)
        carry, recorded, count = simulation.advance(
            carry, stop, every=every, capacity=frames, max_displacement=far
        )
        step, status = int(carry.step), int(carry.status)
        recorder.add(recorded, int(count))
        if status == loop.OVERFLOW:
            overflows.append(step)
            if overflows.count(step) > _ATTEMPTS:
                raise ValueError(
                    f"the neighbour list overflows at step {step} however large it is made: give "
                    "neighbors=neighbor_list(cutoffs, skin=...) with another skin"
                )
            carry = simulation.grow(carry)
            continue
        recorder.flush(carry, step)
        if status != loop.RUNNING:
            message, replicas = _failure(simulation, carry, status, step, far)
            raise UnstableRunError(message, recorder.result(), replicas)


def _failure(
    simulation: Simulation, carry: loop.Carry, status: int, step: int, max_displacement: float
) -> tuple[str, tuple[int, ...]]:
    """What happened, in words, and to which replicas."""
    distance, force = simulation.next_step(carry)
    distance = np.where(np.isfinite(distance), distance, np.inf)
    bad = ~np.isfinite(force).all(axis=-1)
    failed, where = bad | (distance > max_displacement), ""
    replicas = () if simulation.replicas is None else np.flatnonzero(failed.any(axis=-1))
    if failed.any():
        # The atom that flies farthest, or whose force is no number.
        index = np.argmax(distance if status == loop.EXPLODED or not bad.any() else bad)
        place = np.unravel_index(index, distance.shape)
        number = int(np.asarray(simulation.system.numbers)[place])
        where = f": atom {int(place[-1])} ({elements.symbols([number])[0]})"
        if simulation.replicas is not None:
            where += f" of replica {int(place[0])}"
    if status == loop.EXPLODED:
        what = f"an atom moves by more than {max_displacement} Å at once"
        if simulation.ensemble.moves_cell:
            what += f", or the cell by more than {loop.MAX_STRAIN:.0%} of its length"
    else:
        what = "energy, forces or positions are not finite"
    message = (
        f"{what} after step {step} ({step * simulation.ensemble.timestep:g} fs){where}. That step "
        "is the last good one; its state is in trajectory.restart of this exception and in the "
        "files of the writer. Try a smaller timestep, a relaxed start, or a model trained on such "
        "geometries"
    )
    return message, tuple(int(replica) for replica in replicas)


# --- arguments ---------------------------------------------------------------------------------


def _check(
    system: System,
    steps: int,
    every: int,
    chunk: int,
    ensemble: Ensemble,
    shadow: bool,
    replicas: int | None,
) -> None:
    if len(system.batch_shape) > 1 or system.is_packed:
        raise ValueError("run takes a single system or a stack of replicas, got a pack or a batch")
    for name, value, least in (("steps", steps, 0), ("every", every, 1), ("chunk", chunk, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if ensemble.moves_cell and (system.pbc is None or not bool(np.all(np.asarray(system.pbc)))):
        raise ValueError(
            "constant pressure needs a cell that repeats in all three directions, got pbc = "
            f"{None if system.pbc is None else np.asarray(system.pbc).tolist()}"
        )
    if ensemble.couples_replicas and not (system.batch_shape or replicas):
        raise ValueError("a path integral needs replicas, the number of its beads, got none")
    if shadow and ensemble.name != "nve":
        raise ValueError(f"the shadow energy is that of nve, got the ensemble {ensemble.name!r}")


def _replicate(system: System, replicas: int | None) -> System:
    if system.batch_shape:
        if replicas not in (None, system.batch_shape[0]):
            raise ValueError(
                f"replicas must be the length of the stack, {system.batch_shape[0]}, got {replicas}"
            )
        return system
    if replicas is None:
        return system
    if replicas < 1:
        raise ValueError(f"replicas must be at least 1, got {replicas}")
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (replicas, *x.shape)), system)


def _at_restart(system: System, restart: Restart) -> System:
    """The system at the positions, and with the cell, of a restart."""
    if restart.positions.shape != system.positions.shape:
        raise ValueError(
            "the restart belongs to another run: expected positions of the shape "
            f"{system.positions.shape}, got {restart.positions.shape}"
        )
    if not np.array_equal(restart.numbers, system.numbers):
        raise ValueError(
            "the restart belongs to another run: expected the elements "
            f"{np.asarray(system.numbers).tolist()}, got {restart.numbers.tolist()}"
        )
    dtype = system.positions.dtype
    system = system.replace(positions=jnp.asarray(np.asarray(restart.positions, dtype)))
    if system.cell is None or restart.cell is None:
        return system
    return system.replace(cell=jnp.asarray(np.asarray(restart.cell, dtype)))


def _masses(masses: Any, system: System) -> Float[np.ndarray, "*replicas atoms"]:
    given = units.masses(system.numbers) if masses is None else np.asarray(masses, np.float64)
    if given.shape[-1:] != system.numbers.shape[-1:] or not np.all(given > 0):
        raise ValueError(f"masses must be {system.atom_count} positive numbers in amu, got {given}")
    return np.broadcast_to(given, system.numbers.shape)


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


def _key(
    key: Any, ensemble: Ensemble, velocities: Any, restart: Restart | None, system: System
) -> np.ndarray:
    if restart is not None:
        return restart.key
    if key is None and (velocities is None or ensemble.name not in ("nve", "nose-hoover")):
        raise ValueError(
            "velocities or a thermostat are drawn at random: give key=jax.random.key(0)"
        )
    key = jax.random.key(0) if key is None else key
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if system.batch_shape:
        key = jax.random.split(key, system.batch_shape[0])
    return np.asarray(jax.random.key_data(key))
