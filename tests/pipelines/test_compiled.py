import numpy as np
import pytest
from numba.core.caching import CacheImpl

from pipelines.compiled import compiled


def doubled(array, out):  # type: ignore[no-untyped-def]
    for i in range(len(array)):
        out[i] = 2 * array[i]


def test_loops_are_compiled_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only installation of a user without a home: no place for the cache."""
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    out = np.zeros(3, np.float32)
    compiled(doubled)(np.arange(3, dtype=np.float32), out)
    assert out.tolist() == [0, 2, 4]
