import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dropkit as dk

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def uci(request):
    """The benchmark's modules; its folder is on the path while they load, as when it runs as a script."""
    names = ("harness", "uci_nets", "bench_uci")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        modules = {}
        for name in names:
            spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
            modules[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(modules[name])
        yield modules
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in names:
            sys.modules.pop(name, None)


def made(seed=0, splits=3, examples=20, features=4):
    draw = np.random.default_rng(seed)
    return [(draw.normal(size=(examples, features)), draw.normal(size=examples), draw.normal(size=(5, features)),
             draw.normal(size=5)) for _ in range(splits)]


def test_networks_trained_at_once_are_those_trained_alone(uci):
    nets_of = uci["uci_nets"]
    torch.manual_seed(0)
    data = nets_of.standardised(made())
    nets = nets_of.Nets(3, 4, 6, 0.0)
    alone = [nets.alone(index) for index in range(3)]
    nets_of.train(nets, data.x, data.y, epochs=3, penalty=0.01, batch=8, seed=5)
    generator = torch.Generator().manual_seed(5)
    orders = [torch.rand(3, 20, generator=generator).argsort(1) for _ in range(3)]
    for index, net in enumerate(alone):
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        for order in orders:
            for rows in order[index].split(8):  # the last one has 4 examples
                loss = nn.functional.mse_loss(net(data.x[index, rows]), data.y[index, rows])
                loss = loss + 0.01 * sum(net[layer].weight.square().sum() for layer in (1, 4))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        torch.testing.assert_close(nets.alone(index)(data.x_test[index]), net(data.x_test[index]), atol=1e-5, rtol=1e-4)


def test_a_network_alone_is_the_one_in_the_batch(uci):
    torch.manual_seed(0)
    nets = uci["uci_nets"].Nets(2, 4, 6, 0.3).eval()
    x = torch.randn(2, 7, 4)
    for index in range(2):
        torch.testing.assert_close(nets.alone(index).eval()(x[index]), nets(x)[index])


def test_passes_of_the_batch_have_the_law_of_passes_alone(uci):
    torch.manual_seed(0)
    nets = uci["uci_nets"].Nets(2, 4, 6, 0.3).eval()
    x, passes = torch.randn(2, 1, 4), 4000
    together = dk.mc_predict(nets, x, passes, task="regression")
    for index in range(2):
        alone = dk.mc_predict(nets.alone(index).eval(), x[index], passes, seed=1, task="regression")
        error = ((alone.variance + together.variance[index]) / passes).sqrt()
        assert float((alone.mean - together.mean[index]).abs() / error) < 4.5  # false alarm below 10^-5


def test_data_is_standardised_by_its_training_part(uci):
    splits = made()
    splits[0][0][:, 1] = 7.0  # a constant feature
    data = uci["uci_nets"].standardised(splits)
    torch.testing.assert_close(data.x.mean(1), torch.zeros(3, 4), atol=1e-6, rtol=0)
    assert torch.equal(data.x[0, :, 1], torch.zeros(20))
    targets = torch.stack([torch.tensor(y).float() for _, y, *_ in splits])
    torch.testing.assert_close(data.y.squeeze(-1) * data.scale + data.mean, targets)


def test_published_splits_are_read(uci, tmp_path):
    np.savetxt(tmp_path / "data.txt", np.arange(12.0).reshape(4, 3))
    for name, values in (("features", [0, 1]), ("target", [2]), ("train_0", [3, 0, 1]), ("test_0", [2])):
        np.savetxt(tmp_path / f"index_{name}.txt", values)
    ((x, y, x_test, y_test),) = uci["uci_nets"].read(tmp_path)
    assert x.tolist() == [[9, 10], [0, 1], [3, 4]]
    assert (y.tolist(), x_test.tolist(), y_test.tolist()) == ([11, 2, 5], [[6, 7]], [8])


def test_differences_are_in_standard_errors_of_the_difference(uci):
    mean, error, apart = uci["bench_uci"].compared([1.0, 3.0], (1.0, 0.75))
    assert (mean, error) == (2.0, pytest.approx(1.0))
    assert apart == pytest.approx(1 / 1.25)


def test_the_benchmark_without_data_says_so(uci, tmp_path, capsys):
    assert uci["bench_uci"].main(["--data", str(tmp_path / "none")]) == 2
    assert "pass --data FOLDER" in capsys.readouterr().err


def test_the_benchmark_runs_a_set(uci, tmp_path, capsys):
    folder = tmp_path / "yacht"
    folder.mkdir()
    draw = np.random.default_rng(0)
    x = draw.normal(size=(40, 2))
    np.savetxt(folder / "data.txt", np.c_[x, x.sum(1)])
    parts = {"features": [0, 1], "target": [2]}
    for split in range(2):
        order = draw.permutation(40)
        parts |= {f"train_{split}": order[:30], f"test_{split}": order[30:]}
    for name, values in parts.items():
        np.savetxt(folder / f"index_{name}.txt", values)
    assert uci["bench_uci"].main(["yacht", "--data", str(tmp_path), "--epochs", "2", "--passes", "20"]) == 0
    assert "| yacht | RMSE | 1.11 ± 0.09 |" in capsys.readouterr().out
