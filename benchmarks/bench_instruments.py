"""What reading the instruments adds to a run of the default study on digits: CPU time, one thread."""

from __future__ import annotations

import time
from typing import Any

import torch

import dropkit as dk
from dropkit.study import instruments
from dropkit.study.prepare import prepare
from dropkit.study.training import train


def main(rounds: int = 3) -> None:
    """Print for each arm the training's time, what the five readings take, and their share, the median of some runs."""
    torch.set_num_threads(1)
    ready = prepare(dk.Experiment(data="digits"))
    spent: list[float] = []
    read = instruments.measure

    def timed(*arguments: Any) -> dict[str, Any]:
        begin = time.process_time()
        try:
            return read(*arguments)
        finally:
            spent.append(time.process_time() - begin)

    instruments.measure = timed
    for arm in ready.arms:
        shares = []
        for seed in range(rounds):
            spent.clear()
            begin = time.process_time()
            train(ready, arm, seed)
            reading = sum(spent)
            training = time.process_time() - begin - reading
            shares.append((reading / training, training, reading))
        share, training, reading = sorted(shares)[rounds // 2]
        print(f"{arm.name}: training {training:.2f} s, instruments {1000 * reading:.0f} ms, {100 * share:.1f} %")


if __name__ == "__main__":
    main()
