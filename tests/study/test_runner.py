from concurrent.futures import Future

from dropkit.study.runner import _failed
from dropkit.study.worker import Failure


def finished(result=None, error=None):
    future = Future()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result((result, 1.0))
    return future


def test_what_finished_is_taken_before_what_failed():
    """Both can arrive in one glance on a busy machine; the failure ends the study, so it is looked at last."""
    failed, died, fine = finished(Failure("an error", "its trace")), finished(error=OSError("gone")), finished("a run")
    for together in ([failed, died, fine], [died, fine, failed], [fine, failed, died]):
        assert sorted(together, key=_failed)[0] is fine
