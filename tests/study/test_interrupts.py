"""Ctrl-C is taken where nothing is half done, and is never lost."""

import signal
import threading
import time

import pytest

from dropkit.study.interrupts import taken_when_due


@pytest.fixture(autouse=True)
def pythons_own():
    """Python's own handlers, as at the start of a program, and whatever there was before back at the end."""
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        assert signal.getsignal(number) is signal.default_int_handler
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_next_point_that_is_safe(number):
    def work():
        with taken_when_due(lambda: seen.append("asked")) as due:
            due()
            signal.raise_signal(number)
            seen.append("still done")
            due()
            seen.append("never")

    seen = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == ["asked", "still done"]


def test_at_the_latest_it_comes_at_the_end():
    def work():
        with taken_when_due():
            signal.raise_signal(signal.SIGINT)
            seen.append("still done")

    seen = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == ["still done"]


def test_it_is_not_lost_in_a_destructor():
    class Last:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def work():
        with taken_when_due() as due:
            Last()
            due()
            raise AssertionError("it was lost")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_an_error_meanwhile_is_the_one_that_is_told():
    def work():
        with taken_when_due():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


@pytest.mark.parametrize("presses", [1, 2])
def test_without_a_safe_point_it_comes_after_a_while_or_by_a_second_one(presses):
    def deaf():
        with taken_when_due(patience=0.1 if presses == 1 else 100.0):
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
            while time.monotonic() < end:
                pass

    end = time.monotonic() + 30
    with pytest.raises(KeyboardInterrupt):
        deaf()
    assert time.monotonic() < end


def test_handlers_of_the_users_own_are_left_alone():
    heard = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with taken_when_due() as due:
            signal.raise_signal(signal.SIGINT)
            due()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert heard == [signal.SIGINT]


def test_other_threads_have_no_handlers_to_set():
    found = []

    def work():
        with taken_when_due() as due:
            due()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
