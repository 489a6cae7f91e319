"""Settings of every test."""

from hypothesis import settings

# The same examples in every run, and no clock in the judgement: machines that run tests are busy.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
