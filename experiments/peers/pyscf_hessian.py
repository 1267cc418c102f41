"""Minimum and Hessian of a molecule by density-functional theory, for comparison with a model.

    python experiments/peers/pyscf_hessian.py START.xyz OUTPUT.npz [--xc pbe] [--basis def2-svp]

Runs in an environment of its own (``pip install pyscf geometric``): a closed-shell molecule is
optimised from START and its Hessian computed analytically, with density fitting. OUTPUT holds
``numbers``, ``positions`` (Å), ``hessian`` (eV/Å², atom by atom), ``energy`` (eV), ``max_force``
(eV/Å) and what was run.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pyscf
from pyscf import dft, gto, lib
from pyscf.data.nist import BOHR, HARTREE2EV
from pyscf.geomopt.geometric_solver import optimize


def field(molecule, xc, grid):
    """Restricted Kohn-Sham, density fitted."""
    method = dft.RKS(molecule, xc=xc).density_fit()
    method.grids.level = grid
    method.conv_tol = 1e-11
    return method


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("start", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--xc", default="pbe")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--grid", type=int, default=4)
    options = parser.parse_args()
    lib.num_threads(1)
    begin = time.process_time()
    rows = [line.split() for line in options.start.read_text().splitlines()[2:] if line.strip()]
    atoms = [(row[0], tuple(map(float, row[1:4]))) for row in rows]
    molecule = gto.M(atom=atoms, basis=options.basis, unit="Angstrom", verbose=3)
    tight = {"convergence_grms": 3e-6, "convergence_gmax": 5e-6, "convergence_drms": 1e-4,
             "convergence_dmax": 2e-4, "convergence_energy": 1e-8}  # fmt: skip
    molecule = optimize(field(molecule, options.xc, options.grid), maxsteps=60, **tight)
    method = field(molecule, options.xc, options.grid)
    energy = method.kernel()
    gradient = method.nuc_grad_method().kernel()
    blocks = method.Hessian().kernel()  # (atom, atom, 3, 3), hartree/bohr²
    np.savez(
        options.output,
        numbers=molecule.atom_charges(),
        positions=molecule.atom_coords() * BOHR,
        hessian=np.transpose(blocks, (0, 2, 1, 3)) * HARTREE2EV / BOHR**2,
        energy=energy * HARTREE2EV,
        max_force=np.linalg.norm(gradient, axis=1).max() * HARTREE2EV / BOHR,
        method=f"{options.xc.upper()}/{options.basis}, density fitted, grid {options.grid}",
        program=f"pyscf {pyscf.__version__}",
        cpu_s=time.process_time() - begin,
    )


if __name__ == "__main__":
    main()
