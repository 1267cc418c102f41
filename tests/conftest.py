"""Shared fixtures; the only place, besides the command line, that configures JAX."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Most of the time of the tests is compilation. Without optimisation, with the older of the two
# emitters of fused loops and with one LLVM module per program, it takes about a quarter of what it
# does by default. It must be said before JAX is imported; XLA stops at flags that it does not know,
# so later releases, for which they were not tried, get the first alone.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    * (tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 12)),
)

import jax
import jax.monitoring
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)

# An example that compiles takes as long as the machine lets it; a deadline would fail a busy one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]

# Annotated shapes and types are checked while tests run, and only then. The hook must stand before
# the first import of jaxff. The borders are left out: they refuse bad input with messages of their
# own, and tests must see those.
BORDERS = {"units", "quantities", "data", "interfaces", "io", "cli", "report"}
install_import_hook(
    [f"jaxff.{p.stem}" for p in (ROOT / "jaxff").iterdir() if p.stem not in BORDERS],
    "typecheck.check",
)

# Traced programs are millions of objects that live on: looking through them for garbage as often as
# Python does by default takes a tenth of the time.
gc.set_threshold(100_000, 50, 100)

MOST_MAPS = 20_000


@pytest.fixture(scope="module", autouse=True)
def _bounded_programs():
    """Forget compiled programs before the kernel of the operating system refuses more of them.

    Each takes some memory maps of the process; Linux allows 65 530 (vm.max_map_count), and the
    compiler dies of the next one.
    """
    yield
    if _maps() > MOST_MAPS:
        gc.collect()  # what no test holds any more may be enough
        if _maps() > MOST_MAPS:
            jax.clear_caches()
            gc.collect()


def _maps() -> int:
    maps = Path("/proc/self/maps")
    return len(maps.read_bytes().splitlines()) if maps.exists() else 0


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT / default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set {variable} to run this test")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Reference data sets (not part of the project)."""
    return _folder("JAXFF_DATA", "../shared/data")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Stored outputs of original implementations (not part of the project)."""
    return _folder("JAXFF_REFERENCE", "../shared/reference")


@pytest.fixture
def compilations():
    """Names of the programs that XLA compiles while the test runs."""
    names = []

    def listen(event, duration, **fields):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fields.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)
