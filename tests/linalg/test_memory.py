import jax
import psutil
import pytest

from jaxff.linalg.memory import (
    available_bytes,
    column_ordered,
    format_bytes,
    lower_square,
    peak_bytes,
)


def test_available_memory_is_plausible():
    assert 0 < available_bytes() <= psutil.virtual_memory().total


def test_the_peak_stays_when_memory_is_given_back():
    block = bytearray(200_000_000)
    block[::4096] = b"x" * len(block[::4096])
    del block
    peak, now = peak_bytes(), psutil.Process().memory_info().rss
    if peak is None:
        pytest.skip("the system does not tell")
    assert peak >= now + 150_000_000


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_234_567, "1.23 MB"),
        (64e9, "64 GB"),
        (5e12, "5 TB"),
        (3e15, "3e+03 TB"),
    ],
)
def test_sizes_read_well(count, text):
    assert format_bytes(count) == text


def test_the_upper_triangle_takes_no_memory():
    """And the lower is there at once, where the system can."""
    size, page = 4096, 4096
    before = psutil.Process().memory_info().rss
    square = lower_square(size)
    grown = psutil.Process().memory_info().rss - before
    assert square.shape == (size, size)
    assert square.flags.f_contiguous
    assert grown < 0.5 * 8 * size**2 + 2 * page * size
    square[-1] = 1.0
    assert square.sum() == size


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_columns_become_an_array_of_the_device_without_a_copy(rows):
    made = column_ordered(rows, 13)
    assert made.shape == (rows, 13)
    assert made.flags.f_contiguous
    made[:] = 2.0
    device = jax.devices("cpu")[0]
    assert jax.device_put(made.T, device).unsafe_buffer_pointer() == made.ctypes.data
