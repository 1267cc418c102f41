"""The Python and the configuration of the README run as they stand, in their own interpreter."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from jaxff.data import embedded

ROOT = Path(__file__).resolve().parents[1]
CHECKS = """
assert info.residual_norm < 1e-6 and trajectory.positions.shape[1:] == (9, 3)
job = training.prepare(training.read_config("run.toml"))
assert (len(job.train), job.steps, job.parameters() > 10_000) == (40, 20_000, True)
"""


def test_code_blocks_run_one_after_the_other(tmp_path):
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    (configuration,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "run.toml").write_text(configuration)
    shutil.copy(embedded.ethanol_path(), tmp_path / "ethanol.npz")
    script = tmp_path / "readme.py"
    script.write_text("\n".join([*blocks, CHECKS]))
    result = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
