"""``jaxff modes``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxff import units
from jaxff.cli.console import progress, say, warn
from jaxff.cli.files import Count, ModelUnits, Reading, formula, load_model
from jaxff.cli.relax import format_geometry, relax_with_bar
from jaxff.cli.start import about_model, command_line, read_start
from jaxff.data.archive import write_atomic
from jaxff.system import System
from jaxff.vibrations import (
    NormalModes,
    Thermochemistry,
    harmonic,
    ideal_gas,
    modes_of,
    write_modes,
)

__all__ = ["modes", "modes_text"]


def modes(
    model: tyro.conf.Positional[Path],
    /,
    *,
    start: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    frame: Count = None,
    no_relax: bool = False,
    max_force: float = 1e-4,
    steps: int = 2000,
    temperature: float = 298.15,
    pressure: float = 101325.0,
    symmetry_number: int = 1,
    multiplicity: int = 1,
    animate: tuple[int, ...] = (),
    amplitude: float = 0.4,
    frames: int = 20,
    reading: Reading,
    model_units: ModelUnits,
) -> None:
    """Normal modes from the exact Hessian, and thermochemistry.

    Writes modes.json (frequencies, displacements, thermochemistry), modes.xyz (one period of each
    mode, for molecular viewers) and relaxed.xyz into a folder.

    Args:
        model: Model file, .npz (sGDML) or .safetensors (jaxff).
        start: Data set or extended XYZ to start from: its frame of lowest energy, or --frame.
        output: Folder to write to.
        frame: Frame of the file to start from, counted from 0.
        no_relax: Take the geometry as it is, instead of relaxing it first.
        max_force: Largest force that the relaxation may leave, in eV/Å.
        steps: Most evaluations of the relaxation.
        temperature: Temperature of the thermochemistry in K.
        pressure: Pressure of the ideal gas in Pa.
        symmetry_number: Number of rotations that map the molecule onto itself (2 for water).
        multiplicity: Spin multiplicity of the electronic ground state.
        animate: Numbers of the modes to write to modes.xyz, counted from 1; by default all.
        amplitude: Farthest displacement of an atom in the animation, in Å.
        frames: Frames of one period of the animation.
        reading: How to read the data file.
        model_units: Units of old model files.
    """
    positive = {"amplitude": amplitude, "temperature": temperature, "pressure": pressure}
    whole = {"symmetry-number": symmetry_number, "multiplicity": multiplicity}
    _check(output, positive, {"steps": steps, "frames": frames, **whole})
    loaded = load_model(model, model_units)
    began = read_start(start, reading, loaded, frame)
    say(f"{formula(began.dataset.numbers)}, {began.place}")
    with_steps = 0 if no_relax else steps
    relaxed = relax_with_bar(loaded, began.system, max_force=max_force, max_steps=with_steps)
    system, force = relaxed.system, relaxed.max_force
    say("Taken as it is." if no_relax else f"Relaxed: {relaxed}.")
    if force > 0.01:
        warn(f"the largest force is {force:.2g} eV/Å: frequencies of no minimum mean little")
    with progress("computing the Hessian"):
        found = modes_of(loaded.energy_fn, system, max_force=float("inf"))
    chosen = _chosen(animate, len(found))
    say("\n" + modes_text(found))
    settings = (temperature, pressure, symmetry_number, multiplicity)
    gas = _thermochemistry(found, system, relaxed.energy, *settings)
    if gas is not None:
        say("\n" + thermochemistry_text(gas))
    output.mkdir(parents=True, exist_ok=True)
    record = {
        "command": command_line(),
        **{name.lower().replace(" ", "_"): v for name, v in about_model(model, loaded).items()},
        "start": began.place,
        "relaxed": not no_relax,
        "max_force_eV_per_A": force,
        **_record(found, system, gas),
    }
    content = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_atomic(output / "modes.json", lambda stream: stream.write(content.encode()))
    written = ["modes.json"]
    if len(chosen):
        write_modes(
            output / "modes.xyz",
            system.numbers,
            system.positions,
            found,
            indices=chosen,
            amplitude=amplitude,
            frames=frames,
            cell=system.cell,
            pbc=system.pbc,
        )
        written.append("modes.xyz")
    if not no_relax:
        text = format_geometry(relaxed)
        write_atomic(output / "relaxed.xyz", lambda stream: stream.write(text.encode()))
        written.append("relaxed.xyz")
    say(f"\nWrote {', '.join(written)} into {output}.")


def _check(output: Path, positive: dict[str, float], whole: dict[str, int]) -> None:
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output}: the output is a folder, but a file has this name")
    for name, value in whole.items():
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    for name, value in positive.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"--{name} must be positive and finite, got {value}")


def _chosen(animate: tuple[int, ...], count: int) -> list[int]:
    """Modes to animate, counted from 0."""
    wrong = [number for number in animate if not 1 <= number <= count]
    if wrong:
        raise ValueError(f"--animate takes modes 1 to {count}, got {wrong[0]}")
    return [number - 1 for number in animate] if animate else list(range(count))


def modes_text(found: NormalModes) -> str:
    """Frequencies with units; imaginary ones carry an i and are named below the table."""
    lines = ["mode  wavenumber (cm⁻¹)  reduced mass (amu)  force constant (eV/Å²)"]
    rows = zip(found.frequencies, found.reduced_masses, found.force_constants, strict=True)
    for index, (wave, mass, constant) in enumerate(rows):
        mark = "i" if found.imaginary[index] else " "
        lines.append(f"{index + 1:4d}  {abs(wave):16.2f}{mark}  {mass:18.4f}  {constant:22.4f}")
    rigid = ", ".join(f"{round(x, 2) + 0.0:.2f}" for x in found.rigid_frequencies)
    kinds = "3 translations" + (f" and {found.rotations} rotations" if found.rotations else "")
    lines.append(f"{kinds}, projected out; the Hessian gives them {rigid} cm⁻¹")
    if count := int(found.imaginary.sum()):
        lines.append(f"{count} imaginary (i): the geometry is no minimum")
    return "\n".join(lines)


def _thermochemistry(
    found: NormalModes,
    system: System,
    energy: float,
    temperature: float,
    pressure: float,
    symmetry_number: int,
    multiplicity: int,
) -> Thermochemistry | None:
    if np.any(found.frequencies <= 0):
        warn("no thermochemistry: it needs a minimum, with a restoring force along every mode")
        return None
    if system.pbc is not None and bool(np.any(np.asarray(system.pbc))):
        return harmonic(found, temperature, energy=energy)
    return ideal_gas(
        found,
        system.positions,
        temperature,
        pressure,
        symmetry_number=symmetry_number,
        multiplicity=multiplicity,
        energy=energy,
    )


def thermochemistry_text(gas: Thermochemistry) -> str:
    """Thermodynamic functions in the units of tables."""
    kj = 1.0 / units.KJ_PER_MOL
    where = "harmonic vibrations" if gas.pressure is None else f"ideal gas, {gas.pressure:g} Pa"
    lines = [f"Thermochemistry at {gas.temperature:g} K ({where})"]
    energies = {
        "zero-point energy": gas.zero_point_energy,
        "internal energy U": gas.internal_energy - gas.energy,
    }
    if gas.pressure is None:
        energies["Helmholtz energy F"] = gas.helmholtz_energy - gas.energy
    else:
        energies["enthalpy H"] = gas.enthalpy - gas.energy
        energies["Gibbs energy G"] = gas.gibbs_energy - gas.energy
    lines.append(f"potential energy     {gas.energy:16.6f} eV; above it:")
    lines += [
        f"{name:20s} {value:16.6f} eV  {value * kj:10.3f} kJ/mol"
        for name, value in energies.items()
    ]
    for name, value in (("entropy S", gas.entropy), ("heat capacity Cv", gas.heat_capacity)):
        lines.append(f"{name:20s} {1e3 * value:16.6f} meV/K  {1e3 * value * kj:8.3f} J/mol/K")
    return "\n".join(lines)


def _record(found: NormalModes, system: System, gas: Thermochemistry | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "numbers": np.asarray(system.numbers).tolist(),
        "positions_A": np.asarray(system.positions, float).tolist(),
        "masses_amu": found.masses.tolist(),
        "wavenumbers_per_cm": found.frequencies.tolist(),
        "imaginary": found.imaginary.tolist(),
        "reduced_masses_amu": found.reduced_masses.tolist(),
        "force_constants_eV_per_A2": found.force_constants.tolist(),
        "displacements": found.displacements.tolist(),
        "translations_and_rotations_per_cm": found.rigid_frequencies.tolist(),
        "rotations": found.rotations,
    }
    if gas is not None:
        record["thermochemistry"] = {
            "temperature_K": gas.temperature,
            "pressure_Pa": gas.pressure,
            "potential_energy_eV": gas.energy,
            "zero_point_energy_eV": gas.zero_point_energy,
            "internal_energy_eV": gas.internal_energy,
            "enthalpy_eV": gas.enthalpy,
            "gibbs_energy_eV": None if gas.pressure is None else gas.gibbs_energy,
            "helmholtz_energy_eV": gas.helmholtz_energy,
            "entropy_eV_per_K": gas.entropy,
            "heat_capacity_eV_per_K": gas.heat_capacity,
        }
    return record
