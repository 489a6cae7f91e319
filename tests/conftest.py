"""Settings of every test."""

import signal

from hypothesis import settings

# The same examples in every run, and no clock in the judgement: machines that run tests are busy.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Some tests press Ctrl-C, which a shell that starts a command in the background has it ignore, and what it starts in turn.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
