"""Small studies trained in this process: what `dropkit.study` comes to without workers, ledger and verdict."""

import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.study.prepare import prepare
from dropkit.study.result import Provenance, StudyResult, Summary, Verdict
from dropkit.study.training import train

BOTH = {"none": 0.0, "intended": 1.0}


class AlwaysOn(nn.Module):
    """Dropout that goes on in evaluation: F.dropout without training=."""

    def __init__(self, p):
        super().__init__()
        self.p, self.net, self.head = p, nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(F.dropout(self.net(x.flatten(1)), self.p))


class NeverOn(AlwaysOn):
    """Dropout that never begins."""

    def forward(self, x):
        return self.head(F.dropout(self.net(x.flatten(1)), self.p, training=False))


class Noisy(nn.Module):
    """Dropout that heeds the mode, and noise that does not."""

    def __init__(self):
        super().__init__()
        self.enter, self.drop, self.head = nn.Linear(64, 64), nn.Dropout(0.3), nn.Linear(64, 10)

    def forward(self, x):
        h = torch.relu(self.enter(x.flatten(1)))
        return self.head(self.drop(h + 0.1 * torch.randn_like(h)))


def hidden(*between, width=64, head=()):
    """A perceptron for digits with the given modules behind its hidden layer and behind its last."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), *between, nn.Linear(width, 10), *head)


def summary(experiment, ready):
    part = ready.part(0)
    return Summary(
        name="study", task=ready.data.task, metric=ready.metric_name, higher_is_better=ready.higher_is_better,
        unit="points" if ready.metric_name == "accuracy" else "", margin=experiment.margin or 0.005, epochs=experiment.epochs,
        batch_size=experiment.batch_size, optimizer="adam", loss=ready.loss_name, n_train=len(part.x_train),
        n_val=len(part.x_val), n_test=len(part.x_test), n_features=[64], n_outputs=ready.n_outputs, model="", n_parameters=0,
        data="digits", data_hash="", experiment_hash="")


def study_of(model, *, arms=BOTH, seeds=2, **fields):
    """Train every arm with every seed, one thread, and return the result without a verdict."""
    torch.set_num_threads(1)
    experiment = dk.Experiment(**{"data": "digits", "model": model, "epochs": 20, "lr": 3e-3, **fields})
    ready = prepare(experiment, arms)
    runs = [train(ready, arm, seed) for arm in ready.arms for seed in range(seeds)]
    return result_of(summary(experiment, ready), ready.arms, runs)


def result_of(about, arms, runs):
    """A result of these runs."""
    return StudyResult(summary=about, arms=arms, seeds=sorted({run.seed for run in runs}), runs=runs, contrasts=[],
                       verdict=Verdict("leaning", "", "", "", ""), cautions=[],
                       provenance=Provenance("", {}, {}, {}, "", 0.0, 1, {}))


def watched(build, seen):
    """Return a builder of the same network that notes mode and input of every forward in ``seen``."""
    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = build()

        def forward(self, x):
            seen.append((self.training, x.clone()))
            return self.net(x)

    return Spy
