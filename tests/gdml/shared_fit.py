"""One small fit; test_sharding.py runs it on one device, and as a script on a mesh of them."""

import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    jax.config.update("jax_enable_x64", True)

from kernel_models import SWAP, morse_labels, water

from jaxff import gdml
from jaxff.descriptors import inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import preconditioners, solvers

COUNT, RANK, LAMBDA = 8, 12, 1e-4
KERNEL = Kernel(inverse_distances, matern52, SWAP)
FORMS = {"woodbury": "leverage", "spectral": "uniform"}


def solve(mesh: Mesh | None) -> dict[str, np.ndarray]:
    """What has to be the same on every mesh."""
    systems = water(COUNT, spread=0.2)
    energies, forces = morse_labels(systems)
    potential = gdml.potential(KERNEL)
    params = potential.init(jax.random.key(0), systems, hyper={"lengthscale": 2.0})
    operator = GdmlOperator(KERNEL, params["hyper"], systems, True, mesh)
    diagonal = np.linspace(LAMBDA, 2 * LAMBDA, operator.size)
    vector = jax.numpy.asarray(np.random.default_rng(0).normal(size=operator.size))
    found = {"product": operator.matvec(vector)}
    for form, columns in FORMS.items():
        recipe = preconditioners.nystroem(columns, rank=RANK, form=form)
        built = recipe(operator, diagonal)
        found[f"{form} scores"], found[f"{form} applied"] = built.scores, built.apply(vector)
        factor = built.apply.args[0][0]
        found[f"{form} shards"] = [shard.data.shape for shard in factor.addressable_shards]
        found[f"{form} bytes"] = built.kept_bytes
    solver = solvers.conjugate_gradient(preconditioner=recipe, rtol=1e-5)
    labels = {"forces": forces, "energy": energies}
    new, info = gdml.fit(potential, params, labels, solver=solver, regularization=LAMBDA, mesh=mesh)
    found |= {"solution": new["coefficients"]["forces"], "iterations": info.iterations}
    return {name: np.asarray(value) for name, value in found.items()}


def main(path: str, devices: str, process: str = "0", processes: str = "1", port: str = "") -> None:
    if int(processes) > 1:
        jax.distributed.initialize(f"localhost:{port}", int(processes), int(process))
    mesh = Mesh(np.array(jax.devices()[: int(devices)]), ("references",))
    np.savez(path, **solve(mesh))
    if int(processes) > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
