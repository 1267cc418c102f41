"""Classical interactions: potentials whose form is known."""

from jaxff.physics.lennard_jones import TailCorrection, lennard_jones, tail_correction
from jaxff.physics.morse import morse
from jaxff.physics.zbl import zbl

__all__ = ["TailCorrection", "lennard_jones", "morse", "tail_correction", "zbl"]
