import inspect
import threading

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.core.intercept import THREAD, interceptable
from dropkit.variants.dropout import dropout


class Recorder:
    def __init__(self):
        self.calls = []

    def handle(self, function, args, kwargs):
        self.calls.append((function, args, kwargs))
        return "answer"


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(THREAD, "interceptor", recorder)
    return recorder


def test_the_interceptor_answers(recorder):
    x = torch.ones(2)
    assert dk.functional.dropout(x, p=0.1) == "answer"
    assert recorder.calls == [(dk.functional.dropout, (x,), {"p": 0.1})]


def test_without_one_the_function_runs():
    assert torch.equal(dk.functional.dropout(torch.ones(3), 1.0), torch.zeros(3))


def test_modules_and_the_functions_beneath_are_not_intercepted(recorder):
    x = torch.ones(3)
    assert torch.equal(dk.nn.Dropout(1.0)(x), torch.zeros(3))
    assert torch.equal(dropout(x, 1.0), torch.zeros(3))
    assert recorder.calls == []


def test_other_threads_are_not_intercepted(recorder):
    found = []
    thread = threading.Thread(target=lambda: found.append(dk.functional.dropout(torch.ones(3), 1.0)))
    thread.start()
    thread.join()
    assert torch.equal(found[0], torch.zeros(3))
    assert recorder.calls == []


def test_signatures_and_texts_are_kept():
    assert inspect.signature(dk.functional.dropout) == inspect.signature(dropout)
    assert dk.functional.dropout.__doc__ == dropout.__doc__
    assert dk.functional.dropout.__name__ == "dropout"


def test_other_callables_can_be_wrapped(recorder):
    assert interceptable(abs)(-1) == "answer"


def test_compiled_code_has_no_breaks():
    class Net(nn.Module):
        def forward(self, x):
            return dk.functional.dropout(x, 0.5)

    torch.compiler.reset()
    net, x = Net(), torch.ones(50)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with dk.keyed(0):
        expected = net(x)
    with dk.keyed(0):
        assert torch.equal(compiled(x), expected)
