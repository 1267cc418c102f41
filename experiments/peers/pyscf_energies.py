"""Energies and largest forces of geometries by density-functional theory, to judge a model by.

    python experiments/peers/pyscf_energies.py GEOMETRIES.xyz OUTPUT.json [--xc pbe]

Runs in an environment of its own (``pip install pyscf``). GEOMETRIES holds any number of
closed-shell frames, each named by its comment line; OUTPUT gets energy (eV) and largest force on an
atom (eV/Å) by these names, and what was run. Frames that are there are not run again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyscf
from pyscf import dft, gto, lib
from pyscf.data.nist import BOHR, HARTREE2EV


def frames_of(path):
    rows = path.read_text().splitlines()
    while rows and rows[0].strip():
        count = int(rows[0])
        atoms = [line.split() for line in rows[2 : 2 + count]]
        yield rows[1].strip(), [(name, tuple(map(float, xyz))) for name, *xyz in atoms]
        rows = rows[2 + count :]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("geometries", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--xc", default="pbe")
    parser.add_argument("--basis", default="def2-tzvp")
    parser.add_argument("--grid", type=int, default=4)
    options = parser.parse_args()
    lib.num_threads(1)
    done = json.loads(options.output.read_text()) if options.output.exists() else {"frames": {}}
    done["method"] = f"{options.xc.upper()}/{options.basis}, density fitted, grid {options.grid}"
    done["program"] = f"pyscf {pyscf.__version__}"
    for name, atoms in frames_of(options.geometries):
        if done["frames"].get(name, {}).get("atoms") == [list(row) for _, row in atoms]:
            continue
        molecule = gto.M(atom=atoms, basis=options.basis, unit="Angstrom", verbose=0)
        method = dft.RKS(molecule, xc=options.xc).density_fit()
        method.grids.level, method.conv_tol = options.grid, 1e-10
        energy = method.kernel()
        if not method.converged:
            raise RuntimeError(f"{name}: the self-consistent field did not converge")
        gradient = method.nuc_grad_method().kernel()
        done["frames"][name] = {
            "energy_ev": energy * HARTREE2EV,
            "max_force_ev_per_angstrom":
                float(np.linalg.norm(gradient, axis=1).max() * HARTREE2EV / BOHR),
            "atoms": [row for _, row in atoms],
        }  # fmt: skip
        print(name, done["frames"][name]["energy_ev"], flush=True)
        options.output.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
