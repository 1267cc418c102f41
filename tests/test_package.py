import subprocess
import sys
from pathlib import Path

import jaxff

ROOT = Path(__file__).resolve().parents[1]

IMPORT = """
import sys
import jax
before = dict(jax.config.values)
import jaxff
changed = {k for k, v in jax.config.values.items() if before.get(k) != v}
heavy = {"jax_md", "ase", "scipy", "vesin", "spglib", "matplotlib", "flax", "torch", "tyro", "rich"}
print(sorted(changed), sorted(heavy & set(sys.modules)))
"""


def test_import_changes_no_configuration_and_loads_no_heavy_package():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.split("\n")[0] == "[] []"
    assert result.stderr == ""


def test_public_names_exist():
    for name in jaxff.__all__:
        assert getattr(jaxff, name) is not None, name


def test_the_names_of_the_first_example_are_where_it_says():
    from jaxff import bind, data, dynamics, energy_and_forces, forces, gdml, hessian, interfaces, io
    from jaxff.descriptors import inverse_distances
    from jaxff.interfaces import sgdml
    from jaxff.kernels import Kernel, matern52, permutations, rbf
    from jaxff.linalg import solvers

    names = [
        *(bind, energy_and_forces, forces, hessian, gdml.potential, gdml.fit, gdml.fit_constant),
        *(gdml.tune, gdml.residual_labels, inverse_distances, Kernel, permutations.recover),
        *(solvers.cholesky, data.npz.read, data.extxyz.read, dynamics.run, io.save, io.load),
        *(sgdml.load, sgdml.read, sgdml.save),
    ]
    assert all(callable(name) for name in names)
    assert matern52.name == "matern52"
    assert rbf.name == "rbf"
    assert interfaces.__name__ == "jaxff.interfaces"


def test_subpackages_list_what_they_offer():
    for name in ("data", "descriptors", "dynamics", "gdml", "kernels", "linalg"):
        module = getattr(jaxff, name)
        missing = [entry for entry in module.__all__ if not hasattr(module, entry)]
        assert missing == [], name
