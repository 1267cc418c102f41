"""What the commands put into report.html of a run."""

import re

import ase.io
import numpy as np
import pytest
from ase import Atoms

from jaxff import cli, io, physics


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nitrogen")
    model = physics.morse("N", 6.0, truncation="switched")
    io.save(folder / "n2.safetensors", model, model.init(depth=9.9, width=2.7, length=1.1))
    ase.io.write(folder / "n2.xyz", Atoms("N2", [[0, 0, 0], [1.1, 0, 0]]), format="extxyz")
    return folder


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def test_md_writes_a_report_with_the_mode(files, tmp_path, capsys):
    target = tmp_path / "run"
    asked = ("md", files / "n2.safetensors", "--start", files / "n2.xyz", "-o", target,
             "--steps", 3000, "--timestep", 1, "--every", 4, "--temperature", 300)  # fmt: skip
    assert not run(*asked)
    assert f"Wrote {target / 'report.html'}." in capsys.readouterr().out
    page = (target / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?:", page)
    for words in ("n2.safetensors", "frame 0 of", "3000 steps of 1 fs, 3 ps", "300 K", "nve"):
        assert words in page
    (wave,) = re.findall(r'<td class="name">1</td><td class="number">([\d.]+)</td>', page)
    expected = 2.7 * np.sqrt(2 * 9.9 / 7.0035) * 521.47  # sqrt(eV/amu)/Å in cm⁻¹
    assert float(wave) == pytest.approx(expected, rel=2e-3)


def test_a_report_that_fails_does_not_spoil_the_run(files, tmp_path, capsys, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no room")

    monkeypatch.setattr("jaxff.report.write_run", broken)
    assert not run("md", files / "n2.safetensors", "--start", files / "n2.xyz",
                   "-o", tmp_path / "run", "--steps", 3)  # fmt: skip
    assert "warning: no report was written: no room" in capsys.readouterr().err
    assert (tmp_path / "run" / "trajectory.xyz").exists()
