import os
import platform
import subprocess
import sys

_FAULTS = """
import resource, sys
from jaxff.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() == (sys.platform.startswith("linux") and sys.argv[2] == "glibc")
import numpy as np

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(2):
    np.ones(10_000_000)
before = faults()
for _ in range(5):
    np.ones(10_000_000)
print(faults() - before)
"""


def pages(mode, library):
    command = [sys.executable, "-c", _FAULTS, mode, library]
    given = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=given)
    return int(done.stdout)


def test_pages_are_met_once():
    """Blocks of 80 MB, again and again."""
    library = platform.libc_ver()[0]
    anew, kept = pages("anew", library), pages("keep", library)
    if library == "glibc":
        assert kept < 0.1 * anew
    else:
        assert kept <= 1.5 * anew
