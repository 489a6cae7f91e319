"""Which dropout for a recurrent language model? Trains one per arm and seed and compares the arms, paired by seed.

    python examples/language_model.py                                   # on sentences that it makes itself; a minute or two
    python examples/language_model.py --text train.txt --test test.txt  # on your own text, words apart by blanks

The arms, each with the same network, initial weights, order of the data and number of steps:

    none         no dropout
    naive        a fresh mask at every step, on the inputs and outputs of the layers (Zaremba, Sutskever, Vinyals: "Recurrent
                 neural network regularization", 2014)
    variational  one mask a sequence, on inputs, outputs and recurrent states (Gal, Ghahramani: "A theoretically grounded
                 application of dropout in recurrent neural networks", NIPS 2016)
    weight-drop  one mask a sequence on inputs and outputs, and one on the recurrent weights (Merity, Keskar, Socher:
                 "Regularizing and optimizing LSTM language models", ICLR 2018)
    zoneout      the naive arm, and units that now and then keep their old state (Krueger et al.: "Zoneout: regularizing RNNs
                 by randomly preserving hidden activations", ICLR 2017)

A mask of a sequence lasts for one stretch of truncated backpropagation, as in the code of Merity et al.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.files import write_atomically
from dropkit.study.contrasts import contrasts
from dropkit.study.result import LEANING

UNKNOWN = "<unk>"
MARGIN = 0.01  # nats a word: a hundredth of the perplexity
BATCH, STEPS, CLIP = 20, 35, 0.25


@dataclass(frozen=True)
class Corpus:
    """Words as numbers, in three parts, and how many different words there are."""

    train: Tensor
    valid: Tensor
    test: Tensor
    vocabulary: int


@dataclass(frozen=True)
class Score:
    """What one run reached: mean negative log-likelihood in nats a word, the validation's best epoch chosen."""

    arm: str
    seed: int
    train: float
    valid: float
    test: float


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and the embedding again to predict the next word from the last state."""

    def __init__(self, vocabulary: int, hidden: int, layers: int, p: float, arm: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.rnn = ARMS[arm](hidden, layers, p)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        drop = {"none": lambda: nn.Identity(), "naive": lambda: dk.nn.Dropout(p), "zoneout": lambda: dk.nn.Dropout(p)}
        self.before = drop.get(arm, lambda: dk.nn.LockedDropout(p))()
        self.after = drop.get(arm, lambda: dk.nn.LockedDropout(p))()

    def forward(self, words: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return scores of the next word, (T, N, V), and the state after the last step."""
        output, state = self.rnn(self.before(self.embedding(words)), state)
        return F.linear(self.after(output), self.embedding.weight, self.bias), state


def between(layers: int, p: float) -> float:
    """The rate between layers: none where there is nothing between."""
    return p if layers > 1 else 0.0


ARMS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "none": lambda hidden, layers, p: nn.LSTM(hidden, hidden, layers),
    "naive": lambda hidden, layers, p: dk.nn.VariationalLSTM(hidden, hidden, layers, dropout=between(layers, p), per="step"),
    "variational": lambda hidden, layers, p: dk.nn.VariationalLSTM(hidden, hidden, layers, dropout=between(layers, p),
                                                                   recurrent_p=p),
    "weight-drop": lambda hidden, layers, p: dk.nn.WeightDrop(
        dk.nn.VariationalLSTM(hidden, hidden, layers, dropout=between(layers, p)), p),
    "zoneout": lambda hidden, layers, p: dk.nn.ZoneoutLSTM(hidden, hidden, layers, dropout=between(layers, p), cell_p=p,
                                                           hidden_p=p / 10),
}


def sentences(count: int, seed: int = 0) -> list[str]:
    """Make words of simple sentences in which the verb agrees with a subject that stands some words before it."""
    draw = random.Random(seed)
    things = ("key", "letter", "cup", "lamp", "picture", "clock", "book", "box", "chair", "coat", "ring", "map")
    places = ("cabinet", "table", "window", "garden", "river", "station", "door", "house", "market", "bridge")
    links, adjectives = ("near", "beside", "from", "behind", "under"), ("old", "new", "small", "green", "heavy", "lost")
    ends = ("here", "broken", "on sale", "ready", "for my friend", "as good as new", "worth a look")
    words: list[str] = []
    while len(words) < count:
        many = draw.random() < 0.5
        subject = draw.choice(things) + ("s" if many else "")
        said = ["the", *([draw.choice(adjectives)] if draw.random() < 0.5 else []), subject]
        for _ in range(draw.choice((0, 1, 1, 2))):
            said += [draw.choice(links), "the", draw.choice(places) + ("s" if draw.random() < 0.5 else "")]
        words += [*said, "are" if many else "is", *draw.choice(ends).split(), "."]
    return words


def read(path: str) -> list[str]:
    """Words of a text file, the end of each line that has any counting as one."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise dk.InputError("a text is a readable file in UTF-8", got=path, fix=f"Name such a file ({error})") from error
    return [word for line in lines if line.strip() for word in [*line.split(), "<eos>"]]


def corpus(words: Sequence[str], test: Sequence[str] | None, vocabulary: int) -> Corpus:
    """Number the words, the rarest as the unknown one; the last tenths are held out where no test text is given."""
    tenth = len(words) // 10
    parts = [words[:-2 * tenth], words[-2 * tenth:-tenth], words[-tenth:]] if test is None else [
        words[:-tenth], words[-tenth:], test]
    if min(map(len, parts)) <= 2 * BATCH:
        raise dk.InputError(f"each part of the text has more than {2 * BATCH} words", got=[len(part) for part in parts],
                            fix="Pass a longer text, or ask for more words")
    known = [word for word, _ in Counter(parts[0]).most_common(vocabulary - 1) if word != UNKNOWN]
    numbers = {word: index for index, word in enumerate([UNKNOWN, *known])}
    train, valid, held_out = (torch.tensor([numbers.get(word, 0) for word in part]) for part in parts)
    return Corpus(train, valid, held_out, len(numbers))


def columns(words: Tensor, count: int) -> Tensor:
    """Lay a text out as (T, N): N stretches that are read side by side."""
    return words[:len(words) // count * count].view(count, -1).t().contiguous()


def train(data: Corpus, arm: str, seed: int, options: argparse.Namespace) -> Score:
    """Train one arm with one seed. Masks are keyed by the seed and the step, so that a run can be made again to the bit."""
    torch.manual_seed(seed)
    model = dk.name_streams(LanguageModel(data.vocabulary, options.hidden, options.layers, options.rate, arm))
    optimizer = torch.optim.Adam(model.parameters(), options.lr)
    text, step, best = columns(data.train, BATCH), 0, Score(arm, seed, math.inf, math.inf, math.inf)
    for _ in range(options.epochs):
        model.train()
        state, losses = None, []
        for begin in range(0, len(text) - 1, STEPS):
            words, following = text[begin:begin + STEPS], text[begin + 1:begin + 1 + STEPS]
            with dk.keyed(seed, step=step):
                scores, state = model(words[:len(following)], state)
            state = tuple(part.detach() for part in state)
            loss = F.cross_entropy(scores.flatten(0, 1), following.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            losses.append(float(loss.detach()))
            step += 1
        valid = score(model, data.valid)
        if valid < best.valid:
            best = Score(arm, seed, sum(losses) / len(losses), valid, score(model, data.test))
    return best


@torch.no_grad()
def score(model: nn.Module, words: Tensor) -> float:
    """Mean negative log-likelihood, in nats a word, without dropout."""
    model.eval()
    text, state, total, count = columns(words, BATCH), None, 0.0, 0
    for begin in range(0, len(text) - 1, STEPS):
        following = text[begin + 1:begin + 1 + STEPS]
        scores, state = model(text[begin:begin + STEPS][:len(following)], state)
        total += float(F.cross_entropy(scores.flatten(0, 1), following.flatten(), reduction="sum"))
        count += following.numel()
    return total / count


def compare(scores: Sequence[Score]) -> pd.DataFrame:
    """Each arm's mean perplexities, and what it gains on the first arm, with the interval and the verdict of a study."""
    frame = pd.DataFrame([asdict(score) for score in scores])
    arms = list(dict.fromkeys(frame["arm"]))
    means = frame.groupby("arm")[["train", "valid", "test"]].mean().loc[arms]
    table = means.map(math.exp).round(1).add_suffix(" perplexity")
    by_seed = {arm: {score.seed: score.test for score in scores if score.arm == arm} for arm in arms}
    for found in contrasts(by_seed, arms[0], higher_is_better=False, margin=MARGIN) if len(arms) > 1 else []:
        interval = "" if found.low is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
        table.loc[found.arm, f"nats a word better than {arms[0]}"] = f"{found.mean:+.3f}{interval}"
        table.loc[found.arm, "verdict"] = f"leaning: {found.leaning}" if found.kind == LEANING else found.kind
    return table.fillna("")


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", metavar="FILE", help="text to learn from; without it, made sentences")
    parser.add_argument("--test", metavar="FILE", help="text to test on; without it, the last tenth of the other")
    parser.add_argument("--words", type=int, default=12_000, help="read or make at most this many words (12000)")
    parser.add_argument("--vocabulary", type=int, default=4_000, help="different words, rarer ones count as unknown (4000)")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM",
                        help=f"which to compare, with the first ({', '.join(ARMS)})")
    parser.add_argument("--seeds", type=int, default=5, help="runs an arm; at least 5 for a verdict (5)")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the text (12)")
    parser.add_argument("--hidden", type=int, default=128, help="units a layer (128)")
    parser.add_argument("--layers", type=int, default=2, help="recurrent layers (2)")
    parser.add_argument("--rate", type=float, default=0.3, help="probability of dropping, at every site (0.3)")
    parser.add_argument("--lr", type=float, default=5e-3, help="Adam's learning rate (0.005)")
    parser.add_argument("--out", metavar="FILE", help="write every run's scores to a JSON file")
    found = parser.parse_args(arguments)
    for name in ("words", "vocabulary", "seeds", "epochs", "hidden", "layers"):
        if getattr(found, name) < 1:
            parser.error(f"--{name} is at least 1, got {getattr(found, name)}")
    if not 0 <= found.rate < 1:
        parser.error(f"--rate is a probability of dropping, at least 0 and below 1, got {found.rate}")
    if found.test and not found.text:
        parser.error("--test goes with --text")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison and print its table; 2 for a text that cannot be used."""
    options = options_of(arguments)
    try:
        words = (read(options.text) if options.text else sentences(options.words))[:options.words]
        data = corpus(words, read(options.test) if options.test else None, options.vocabulary)
    except dk.InputError as error:
        print(f"language_model: error: {error}", file=sys.stderr)
        return 2
    print(f"{len(data.train)} words to learn from, {data.vocabulary} different ones; {options.seeds} seeds an arm")
    scores = []
    for seed in range(options.seeds):
        for arm in options.arms:
            scores.append(train(data, arm, seed, options))
            print(f"seed {seed}  {arm:<12} test perplexity {math.exp(scores[-1].test):.1f}", flush=True)
    print(f"\n{compare(scores).to_string()}")
    if options.out:
        write_atomically(Path(options.out), json.dumps([asdict(score) for score in scores], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
