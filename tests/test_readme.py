"""The Python of the README runs as it stands, in an interpreter of its own."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_code_blocks_run_one_after_the_other(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    script = tmp_path / "readme.py"
    checks = "assert info.residual_norm < 1e-6 and trajectory.positions.shape[1:] == (9, 3)"
    script.write_text("\n".join([*blocks, checks]))
    result = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
