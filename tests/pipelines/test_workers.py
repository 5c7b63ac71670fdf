"""Order, errors and restraint of work in threads."""

import threading
import time

import pytest

from pipelines.workers import in_threads, n_cores


def test_results_come_in_the_order_of_the_items():
    def work(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    assert list(in_threads(work, range(40), 4)) == [i * i for i in range(40)]


def test_no_more_is_done_ahead_than_a_few_items():
    started: list[int] = []
    results = in_threads(lambda i: started.append(i), range(1000), 2)
    next(results)
    results.close()
    assert len(started) < 10


def test_the_first_error_ends_the_work():
    started: list[int] = []
    lock = threading.Lock()

    def work(i: int) -> int:
        with lock:
            started.append(i)
        if i == 3:
            raise ValueError("item 3")
        return i

    with pytest.raises(ValueError, match="item 3"):
        list(in_threads(work, range(1000), 2))
    assert len(started) < 20


@pytest.mark.parametrize(("wanted", "most"), [("1", 1), ("", 8), ("0", 8), ("2,1", 8), ("64", 8)])
def test_no_more_cores_than_asked_for(monkeypatch, wanted, most):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(32)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert n_cores() == most
