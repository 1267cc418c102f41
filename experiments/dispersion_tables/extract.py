"""Make the reference data of D3 and D4 that ship with the package, from tad-dftd3 and tad-dftd4.

    pip download --no-deps -d wheels tad-dftd3==0.7.0 tad-dftd4==0.8.0 tad-mctc==0.11.3
    python experiments/dispersion_tables/extract.py wheels

These packages (Grimme group, Apache-2.0) hold the data of dftd3 and dftd4 as literals in Python
files and as one tensor. They are read as data, not imported, so that their dependencies are not
needed. The tables belong to Grimme et al., J. Chem. Phys. 132, 154104 (2010), doi:10.1063/1.3382344
(D3), and Caldeweyher et al., J. Chem. Phys. 150, 154122 (2019), doi:10.1063/1.5090222 (D4, with
reference charges by electronegativity equilibration).
"""

import ast
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

ELEMENTS = 87  # up to radon; the first row is padding
TARGET = Path(__file__).resolve().parents[2] / "jaxff" / "physics"
# CODATA 2018, for the covalent radii, which are in Å.
BOHR = 0.529177210903
# Imaginary frequencies of the polarizabilities, Hartree.
FREQUENCIES = np.array(
    [1e-6, 0.05, *np.arange(1, 11) / 10, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0]
)


def stored(wheels: Path, name: str) -> bytes:
    """A file of the wheel of the package that it belongs to."""
    (wheel,) = wheels.glob(f"{name.split('/')[0]}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def literals(wheels: Path, name: str) -> dict[str, np.ndarray]:
    """Every table of numbers that a module assigns, or a function returns, by name."""
    tables = {}
    for node in ast.walk(ast.parse(stored(wheels, name))):
        if isinstance(node, ast.FunctionDef):
            returned = [n.value for n in ast.walk(node) if isinstance(n, ast.Return)]
            found = [(node.name, value) for value in returned]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found = [(node.targets[0].id, node.value)]
        else:
            continue
        for key, value in found:
            if isinstance(value, ast.Call) and value.args:  # torch.tensor([...])
                value = value.args[0]
            if isinstance(value, ast.List):
                tables[key] = np.array(ast.literal_eval(value))
    return tables


def shared(wheels: Path) -> dict[str, np.ndarray]:
    """What both models use."""
    r4r2 = literals(wheels, "tad_dftd4/data/r4r2.py")["_r4_over_r2"]
    return {
        "radii": literals(wheels, "tad_mctc/data/radii.py")["_COV_2009"] / BOHR,
        "moments": np.sqrt(0.5 * r4r2 * np.sqrt(np.arange(len(r4r2)))),
    }


def d3(wheels: Path) -> dict[str, np.ndarray]:
    """Published with four decimals: whole numbers lose nothing and take little room."""
    coordination = literals(wheels, "tad_dftd3/reference.py")["_load_cn"][:ELEMENTS]
    tensor = stored(wheels, "tad_dftd3/reference-c6.pt")
    with zipfile.ZipFile(io.BytesIO(tensor)) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("data/0"))
        values = np.frombuffer(archive.read(name))
    count = coordination.shape[1]
    size = round(np.sqrt(len(values)) / count)
    c6 = values.reshape(size, size, count, count)[:ELEMENTS, :ELEMENTS]
    elements, references = np.nonzero(coordination >= 0)
    c6 = c6[elements[:, None], elements, references[:, None], references]
    whole = np.round(c6 * 1e4).astype(np.int32)
    assert np.abs(whole / 1e4 - c6).max() < 1e-9
    assert (whole == whole.T).all()
    return {
        "elements": elements,
        "coordination": coordination[elements, references],
        "c6": whole[np.tril_indices(len(whole))],
    }


def d4(wheels: Path) -> dict[str, np.ndarray]:
    """Tables by atomic number, and those of the partners in reference systems."""
    data = literals(wheels, "tad_dftd4/reference/d4/params.py")
    charges = literals(wheels, "tad_dftd4/reference/d4/charge_eeq.py")
    coordination, count = data["refcovcn"], data["refc"]
    # Where all Gaussians vanish, the reference with the most neighbours stands for the atom.
    fallback = np.zeros(count.shape)
    highest = np.where(count > 0, coordination, -1.0).argmax(axis=1)
    fallback[np.arange(len(count)), highest] = count.any(axis=1)
    steps = np.diff(FREQUENCIES)
    tables = {
        **shared(wheels),
        "electronegativities": literals(wheels, "tad_mctc/data/en.py")["_PAULING"],
        "nuclear_charges": literals(wheels, "tad_mctc/data/zeff.py")["_ZEFF"].astype(float),
        "hardnesses": literals(wheels, "tad_mctc/data/hardness.py")["_GAM"],
        "coordination": coordination,
        "gaussians": count,
        "fallback": fallback,
        "charges": charges["clsq"],
        "polarizabilities": data["refalpha"].reshape(len(count), -1, len(FREQUENCIES)),
        "scales": data["refascale"],
        "partners": data["refsys"],
        "partner_counts": data["refscount"],
        "partner_charges": charges["clsh"],
    }
    return {
        **{name: table[:ELEMENTS] for name, table in tables.items()},
        "partner_scales": data["secscale"].reshape(-1),
        "partner_polarizabilities": data["secalpha"],
        "frequency_weights": 0.5 * (np.append(steps, 0.0) + np.insert(steps, 0, 0.0)),
    }


def main(wheels: Path) -> None:
    both = {name: table[:ELEMENTS] for name, table in shared(wheels).items()}
    for name, tables in (("d3", {**both, **d3(wheels)}), ("d4", d4(wheels))):
        path = TARGET / f"{name}_reference.npz"
        np.savez_compressed(path, **tables)
        print(path.name, path.stat().st_size, {k: v.shape for k, v in tables.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
