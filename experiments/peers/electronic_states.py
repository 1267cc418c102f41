r"""Energies and forces of two electronic states at identical geometries.

    python experiments/peers/electronic_states.py methylene FOLDER [--count 130]
    python experiments/peers/electronic_states.py silver FOLDER [--count 240]

Runs in an environment of its own (``pip install numpy pyscf``, ``pip install numpy tblite``).
``methylene`` is CH2 as singlet and triplet with MP2/def2-SVP (PySCF): bonds of 0.95 to 1.35 Å,
angles of 90 to 170°. The singlet is restricted: one closed shell, with the lone pair in the plane
of the molecule, as the leading configuration of bent methylene has it. It lacks the second
configuration that the singlet of a diradical has, which matters the more the straighter the
molecule is, and lies too high: these are gaps of the method, not of nature. The triplet is
unrestricted, and refused if its :math:`\langle S^2\rangle` is off 2 by more than 0.1. ``silver``
is Ag3 with charge +1 and -1 by GFN2-xTB (tblite), both without unpaired electrons: two bonds of
2.5 to 3.0 Å, angles between them of 75 to 180°. At 60° the anion has degenerate orbitals and a
kink. GFN2 is made for geometries, vibrations and interactions of molecules, not for electrons that
come and go (Bannwarth et al., J. Chem. Theory Comput. 15, 1652 (2019)): its gap of 18 eV is
nothing to go by, the way in which it changes is as good as another.

FOLDER gets extended XYZ with energies in eV, forces in eV/Å, charge and unpaired electrons;
``geometry`` is the same for both states of a geometry. ``NAME.xyz`` holds random geometries,
``NAME_cut.xyz`` those along the angle at equal bonds, ``NAME.json`` what was run. A run that was
stopped goes on.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

BOHR, HARTREE = 0.529177210903, 27.211386245988  # Å, eV, CODATA 2018
SETS = {  # symbols, bonds in Å, angles in degrees; of the cut: bond, angles
    "methylene": (("C", "H", "H"), (0.95, 1.35), (90.0, 170.0), 1.1, np.linspace(90, 170, 9)),
    "silver": (("Ag", "Ag", "Ag"), (2.5, 3.0), (75.0, 180.0), 2.7, np.linspace(75, 180, 15)),
}
STATES = {"methylene": ((0, 0), (0, 2)), "silver": ((1, 0), (-1, 0))}  # charge, unpaired


def bent(one, other, angle):
    """The middle atom first, in the plane z = 0, Å."""
    angle = np.radians(angle)
    return np.array([[0, 0, 0], [one, 0, 0], [other * np.cos(angle), other * np.sin(angle), 0]])


def perturbation(symbols, positions, charge, unpaired):
    """Energy, forces and spin of MP2/def2-SVP, all electrons correlated, in eV and Å."""
    from pyscf import gto, lib, mp, scf

    lib.num_threads(1)
    atoms = list(zip(symbols, positions, strict=True))
    molecule = gto.M(atom=atoms, basis="def2-svp", charge=charge, spin=unpaired, verbose=0)
    field = (scf.UHF if unpaired else scf.RHF)(molecule)
    field.conv_tol = 1e-10
    field.kernel()
    if not field.converged:
        raise RuntimeError(f"the self-consistent field did not converge: {positions.tolist()}")
    square = field.spin_square()[0] if unpaired else 0.0
    if abs(square - unpaired / 2 * (unpaired / 2 + 1)) > 0.1:
        raise RuntimeError(f"the state is no pure one, <S^2> is {square}: {positions.tolist()}")
    above = molecule.search_ao_label("C 2pz")[:1]
    if not unpaired and field.make_rdm1()[np.ix_(above, above)] > 0.1:
        raise RuntimeError(f"the singlet has its lone pair out of the plane: {positions.tolist()}")
    method = mp.MP2(field)
    method.kernel()
    gradient = method.nuc_grad_method().kernel()
    return method.e_tot * HARTREE, -gradient * HARTREE / BOHR, f"square_of_spin={square:.5f}"


def tight_binding(symbols, positions, charge, unpaired):
    """Energy, forces and Mulliken charges of GFN2-xTB, in eV, Å and e."""
    from tblite.interface import Calculator

    numbers = np.full(len(symbols), 47)
    engine = Calculator("GFN2-xTB", numbers, positions / BOHR, charge=float(charge), uhf=unpaired)
    engine.set("verbosity", 0)
    engine.set("accuracy", 0.01)
    found = engine.singlepoint()  # raises what does not converge
    return found.get("energy") * HARTREE, -found.get("gradient") * HARTREE / BOHR, ""


ENGINES = {"methylene": perturbation, "silver": tight_binding}
METHODS = {"methylene": ("pyscf", "MP2/def2-SVP, all electrons"), "silver": ("tblite", "GFN2-xTB")}


def frame(name, index, positions, charge, unpaired):
    """A frame as text."""
    symbols = SETS[name][0]
    energy, forces, more = ENGINES[name](symbols, positions, charge, unpaired)
    rows = [
        f"{symbol} " + " ".join(f"{x:.10f}" for x in (*at, *force))
        for symbol, at, force in zip(symbols, positions, forces, strict=True)
    ]
    about = (
        f"Properties=species:S:1:pos:R:3:forces:R:3 energy={energy:.10f} charge={charge} "
        f"unpaired={unpaired} geometry=g{index:04d} {more}"
    )
    return "\n".join([str(len(symbols)), about.strip(), *rows]) + "\n"


def fill(path, name, geometries):
    """Add to the file what it lacks."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    length = len(SETS[name][0]) + 2
    whole = sum(line.endswith("\n") for line in lines) // length
    path.write_text("".join(lines[: whole * length]))  # what was cut short goes
    wanted = [(i, at, *state) for i, at in enumerate(geometries) for state in STATES[name]]
    with open(path, "a") as file:
        for index, positions, charge, unpaired in wanted[whole:]:
            file.write(frame(name, index, positions, charge, unpaired))
            file.flush()
    return max(whole, len(wanted))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=sorted(SETS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, help="number of random geometries")
    options = parser.parse_args()
    name, random = options.name, np.random.default_rng(0)
    _, bonds, angles, bond, cut = SETS[name]
    count = options.count or {"methylene": 130, "silver": 240}[name]
    drawn = [bent(*random.uniform(*bonds, 2), random.uniform(*angles)) for _ in range(count)]
    options.folder.mkdir(parents=True, exist_ok=True)
    along = [bent(bond, bond, angle) for angle in cut]
    program, method = METHODS[name]
    about = {
        "frames": fill(options.folder / f"{name}.xyz", name, drawn),
        "frames along the cut": fill(options.folder / f"{name}_cut.xyz", name, along),
        "method": method, "program": f"{program} {version(program)}",
    }  # fmt: skip
    (options.folder / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
    print(about)


if __name__ == "__main__":
    main()
