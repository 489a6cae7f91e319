"""Images moved and mirrored, a function of the user's own, and how arms with them stay paired."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.core.streams import stream_number
from dropkit.study import instruments
from dropkit.study.augmentation import augmented, flipped, shifted
from dropkit.study.prepare import prepare
from dropkit.study.recipe import Recipe
from dropkit.study.result import load_result
from dropkit.study.session import Session
from dropkit.study.training import train

SIZE = 6


def images(n=60, channels=None):
    generator = torch.Generator().manual_seed(0)
    shape = (n, SIZE, SIZE) if channels is None else (n, channels, SIZE, SIZE)
    return torch.randn(shape, generator=generator), torch.arange(n) % 3


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def tokens():
    return nn.Sequential(nn.Flatten(), nn.Embedding(9, 2), nn.Dropout(0.2), nn.Flatten(), nn.Linear(2 * SIZE * SIZE, 3))


def brighter(x, generator):
    return x + torch.randn(len(x), 1, 1, generator=generator)


def ready(arms, **fields):
    return prepare(dk.Experiment(**{"data": images(), "model": build, "epochs": 2, "batch_size": 16, **fields}), arms)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.booleans())
def test_a_shift_is_a_crop_of_the_image_with_its_edges_repeated(seed, most, colour):
    x = torch.randn((5, 2, 4, 5) if colour else (5, 4, 5), generator=torch.Generator().manual_seed(seed))
    found = shifted(x, most, torch.Generator().manual_seed(seed))
    down, right = torch.randint(-most, most + 1, (2, 5, 1), generator=torch.Generator().manual_seed(seed))
    for image, moved, dy, dx in zip(x, found, down.flatten().tolist(), right.flatten().tolist(), strict=True):
        planes = image if colour else image.unsqueeze(0)
        wide = F.pad(planes.unsqueeze(0), [most] * 4, mode="replicate")[0]
        expected = wide[:, most - dy:most - dy + 4, most - dx:most - dx + 5]
        assert torch.equal(moved, expected if colour else expected[0])


def test_every_offset_is_as_likely_as_any_other():
    """Of 40,000 images each of 25 offsets is counted; six standard deviations: a false alarm in 25 x 2e-9."""
    n, most = 40_000, 2
    x = torch.zeros(1, 9, 9)
    x[0, 4, 4] = 1.0
    where = shifted(x.expand(n, -1, -1), most, torch.Generator().manual_seed(0)).flatten(1).argmax(1)
    counts = torch.bincount(where, minlength=81).view(9, 9)
    assert int(counts[2:7, 2:7].sum()) == n
    assert float((counts[2:7, 2:7] - n / 25).abs().max()) < 6 * math.sqrt(n * 0.04 * 0.96)


def test_half_of_the_images_are_mirrored():
    """Of 10,000; six standard deviations: a false alarm in 2e-9."""
    x = torch.arange(3.0).expand(10_000, 2, 3)
    found = flipped(x, torch.Generator().manual_seed(0))
    turned = (found[:, 0, 0] == 2).sum().item()
    assert abs(turned - 5000) < 6 * 50
    assert set(found[:, 1].unique(dim=0).flatten().tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(flipped(found, torch.Generator().manual_seed(0)), x)


def test_changes_depend_on_run_and_step_alone():
    x, recipe = images()[0], Recipe(shift=2, flip=True, augment=True, noise=0.1)
    state = torch.get_rng_state()
    one = augmented(x, recipe, brighter, "0", 3)
    torch.rand(7)
    assert torch.equal(augmented(x, recipe, brighter, "0", 3), one)
    for other in (("1", 3), ("0", 4)):
        assert not torch.equal(augmented(x, recipe, brighter, *other), one)
    torch.set_rng_state(state)
    assert torch.equal(x, images()[0])


def test_arms_stay_paired_and_are_scored_on_the_images_as_they_are(monkeypatch):
    monkeypatch.setattr(instruments, "measure", lambda *_: {})  # they look at training mode without augmentation
    seen, name = {}, ""

    class Spy(nn.Sequential):
        def __init__(self):
            super().__init__(*build())

        def forward(self, x):
            seen.setdefault((name, self.training), []).append(x.clone())
            return super().forward(x)

    found = ready("none,shift=1,flip,augment,shift=1+flip", augment=brighter, model=Spy)
    seen.clear()
    for arm in found.arms:
        name = arm.name
        train(found, arm, 0)
    plain = seen["none", True], seen["none", False]
    for arm in found.arms[1:]:
        training, scoring = seen[arm.name, True], seen[arm.name, False]
        assert all(torch.equal(a, b) for a, b in zip(scoring, plain[1], strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(training, plain[0], strict=True))
    both = [shifted(flipped(x, _generator("flip", step)), 1, _generator("shift", step)) for step, x in enumerate(plain[0])]
    assert all(torch.equal(a, b) for a, b in zip(seen["shift=1+flip", True], both, strict=True))


def _generator(what, step):
    return torch.Generator().manual_seed(stream_number(f"{what}:0:{step}"))


def test_a_run_goes_on_from_a_checkpoint_to_the_bit():
    found = ready("none,shift=2+flip+augment", augment=brighter)
    whole, states = Session(found, found.arms[1], 0), []
    whole.run_epoch(lambda session: states.append(copy.deepcopy(session.state())) if session.step == 2 else None)
    resumed = Session(found, found.arms[1], 0)
    resumed.restore(states[0])
    resumed.run_epoch()
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


def test_a_study_keeps_and_shows_what_its_arms_did(tmp_path):
    experiment = dk.Experiment(data=images(), model=build, epochs=2, augment=brighter)
    arms = "none,intended,shift=2,flip,augment,members=2+shift=1"
    result = dk.study(experiment, arms=arms, seeds=2, out=tmp_path, jobs=1, progress=False)
    words = {arm.name: arm.description.partition(";")[0] for arm in result.arms}
    assert words["shift=2"] == "no dropout, images shifted by up to 2 pixels"
    assert words["flip"] == "no dropout, images mirrored at random"
    assert words["augment"] == "no dropout, the experiment's augmentation"
    assert [arm.recipe for arm in load_result(tmp_path / "result.json").arms] == [arm.recipe for arm in result.arms]
    again = dk.study(experiment, arms=arms, seeds=2, out=tmp_path, jobs=1, progress=False)
    assert [run.test_loss for run in again.runs] == [run.test_loss for run in result.runs]


def test_a_change_of_the_function_is_another_experiment(tmp_path):
    dk.study(dk.Experiment(data=images(), model=build, epochs=1, augment=brighter), arms="none,augment", seeds=1, out=tmp_path,
             engine="serial", progress=False)
    with pytest.raises(InputError, match="experiment"):
        dk.study(dk.Experiment(data=images(), model=build, epochs=1, augment=lambda x, generator: x), arms="none,augment",
                 seeds=1, out=tmp_path, engine="serial", progress=False)


@pytest.mark.parametrize(("arms", "fields", "said"), [
    ("none,shift=1", {"data": (torch.randn(30, 36), images(30)[1])}, r"change images, \(N, H, W\).*got inputs \(N, 36\)"),
    ("none,flip", {"data": (torch.randint(9, (30, 6, 6)), images(30)[1]), "model": tokens}, r"of torch.int64, in arm 'flip'"),
    ("none,flip", {"data": (torch.randn(30, 6, 6, 1), torch.arange(30) % 3)}, "channels before height and width"),
    ("none,shift=6", {}, "a shift is smaller than the image.*Lower it from 6"),
    ("none,shift=1.5", {}, "Write for example shift=2"),
    ("none,shift=-1", {}, "whole number of pixels"),
    ("none,flip=1", {}, "flip takes no value"),
    ("none,augment", {}, "an arm that augments has the experiment's function to do so; got none, in arm 'augment'"),
    ("none,augment", {"augment": lambda x: x}, "augment takes a batch of inputs and a torch.Generator"),
    ("none,augment", {"augment": lambda x, generator: x[:1]}, "augment returns finite inputs like its own"),
    ("none,augment", {"augment": lambda x, generator: x / 0}, "augment returns finite inputs"),
    ("none,intended", {"augment": 3}, r"augment is a function \(x, generator\) -> x; got 3"),
])
def test_what_cannot_be_is_told(arms, fields, said):
    if "shift" in arms or "flip" in arms:
        fields = {"model": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.Dropout(0.2), nn.Linear(8, 3)), **fields}
    with pytest.raises(InputError, match=said):
        ready(arms, **fields)
