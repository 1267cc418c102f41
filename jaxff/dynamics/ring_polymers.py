"""Ring-polymer dynamics: runs at constant energy from starts of a thermostat, one after another."""

from collections.abc import Iterator
from typing import Any

from jaxff.dynamics.path_integral import path_integral
from jaxff.dynamics.run import run
from jaxff.dynamics.trajectory import Trajectory
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array

__all__ = ["ring_polymers"]


def ring_polymers(
    energy_fn: EnergyFn,
    system: System,
    *,
    timestep: float,
    temperature: float,
    beads: int,
    starts: int,
    steps: int,
    thermalize: int,
    key: Array,
    every: int = 1,
    centroid_time: float = 100.0,
    **named: Any,
) -> Iterator[Trajectory]:
    """Beads at constant energy, for time correlation functions of quantum nuclei.

    Each segment begins where the thermostat of :func:`jaxff.dynamics.path_integral` has left the
    beads after some steps, which go on from the segment before. All of it is one compiled program.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``.
        system: A single system; positions in Å.
        timestep: Time step in fs.
        temperature: Temperature in K.
        beads: Number of beads.
        starts: Number of segments.
        steps: Length of each, in steps.
        thermalize: Steps under the thermostat before each; before the first one ten times as many.
        key: Random key.
        every: Steps between frames.
        centroid_time: Time in fs within which the thermostat makes centroids forget.
        **named: Further arguments of :func:`jaxff.dynamics.run`.

    Yields:
        The segments, for :func:`jaxff.analysis.kubo_autocorrelation`.

    Raises:
        ValueError: If a number is not positive, or steps are no whole number of frames.

    Reference:
        Craig & Manolopoulos, J. Chem. Phys. 121, 3368 (2004), doi:10.1063/1.1777575.
    """
    for name, value in (("starts", starts), ("steps", steps), ("thermalize", thermalize)):
        whole = 1 if name == "starts" else every
        if value < 1 or value % whole:
            raise ValueError(
                f"{name} must be a positive multiple of {whole}, got {value}: frames have equal "
                "distances"
            )
    warm = path_integral(timestep, temperature, centroid_time=centroid_time)
    free = path_integral(timestep, temperature, centroid_time=None, friction_scale=0.0)
    begin: dict[str, Any] = {"key": key}
    length = 10 * thermalize
    for _ in range(starts):
        bath = run(
            energy_fn, system, ensemble=warm, replicas=beads, steps=length, every=every,
            keep_frames=False, **begin, **named,
        )  # fmt: skip
        segment = run(
            energy_fn, system, ensemble=free, replicas=beads, steps=steps, every=every,
            restart=bath.restart, **named,
        )  # fmt: skip
        yield segment
        begin, length = {"restart": segment.restart}, thermalize
