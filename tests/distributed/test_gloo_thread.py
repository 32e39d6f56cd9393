import os
import select
import threading

import pytest

from jaxdrl.distributed.gloo_thread import waits_in_idle_time

pytestmark = pytest.mark.skipif(
    not hasattr(os, "SCHED_IDLE"), reason="priorities of threads are Linux's"
)


def waiting_for_data():
    """A thread that waits as gloo's does, and what ends it."""
    reader, writer = os.pipe()
    poll = select.epoll()
    poll.register(reader, select.EPOLLIN)
    thread = threading.Thread(target=poll.poll)
    thread.start()

    def end():
        os.write(writer, b"x")
        thread.join()
        poll.close()
        os.close(reader)
        os.close(writer)

    return thread, end


def test_of_new_threads_only_those_that_wait_for_data_give_way():
    old, end_old = waiting_for_data()
    over = threading.Event()
    computes = threading.Thread(target=over.wait)
    with waits_in_idle_time():
        computes.start()
        new, end_new = waiting_for_data()
    found = [os.sched_getscheduler(one.native_id) for one in (old, computes, new)]
    over.set()
    computes.join()
    end_old()
    end_new()
    assert found == [os.SCHED_OTHER, os.SCHED_OTHER, os.SCHED_IDLE]


def test_without_such_a_thread_it_goes_on():
    with waits_in_idle_time():
        pass
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
