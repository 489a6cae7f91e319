"""Ctrl-C and SIGTERM, taken where nothing is half done, and none of them lost.

Python raises KeyboardInterrupt wherever the program happens to be. In the middle of something that leaves a count beside what
it counts; in a destructor or another callback that may raise nothing Python drops it, and work of hours would go on as if
nobody had pressed a key.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 3.0
"""Seconds after a signal in which the program is to come to a point where it can be taken."""


@contextmanager
def taken_when_due(asked: Callable[[], object] = lambda: None, patience: float = PATIENCE) -> Iterator[Callable[[], None]]:
    """Put KeyboardInterrupt off to where the function that is yielded is called, or to the end of the ``with``.

    A second signal raises it at once, and so does the first after ``patience`` seconds. Only signals that would raise it are
    dealt with, and only in the main thread, which alone gets them; handlers of the user's own are left as they are.

    Args:
        asked: called when the first signal comes, wherever the program is then: it should do little, and raise nothing.
        patience: seconds.

    Raises:
        KeyboardInterrupt: by the function that is yielded or at the end, if there was a signal.

    Example:
        >>> import signal
        >>> try:
        ...     with taken_when_due() as due:
        ...         signal.raise_signal(signal.SIGINT)
        ...         print("this is still done")
        ...         due()
        ... except KeyboardInterrupt:
        ...     print("stopped")
        this is still done
        stopped
    """
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    known = [number for number in numbers if signal.getsignal(number) is signal.default_int_handler]
    timers: list[threading.Timer] = []

    def note(number: int, _: object) -> None:
        restore()
        timers.append(threading.Timer(patience, _thread.interrupt_main, (number,)))
        timers[0].daemon = True  # nobody waits for it at the end of the program
        timers[0].start()
        asked()

    def restore() -> None:
        for number in known:
            signal.signal(number, signal.default_int_handler)

    def due() -> None:
        if timers:
            timers[0].cancel()
            raise KeyboardInterrupt

    for number in known:
        signal.signal(number, note)
    try:
        yield due
        due()
    finally:
        restore()
        for timer in timers:
            timer.cancel()
