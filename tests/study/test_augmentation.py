"""Images are moved and mirrored as they should, and a function of the user's own acts in training alone."""

import functools
import json
import math
import random

import jsonschema
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study import instruments
from dropkit.study.augmentation import apply_own, draw_flips, draw_offsets, mirror, translate
from dropkit.study.ensemble import Ensemble, begin
from dropkit.study.families import read_arm
from dropkit.study.fingerprint import fingerprint
from dropkit.study.fused_choice import choose
from dropkit.study.ledger import Ledger
from dropkit.study.prepare import prepare
from dropkit.study.result import load_result
from dropkit.study.schema import json_schema
from dropkit.study.sources import identity_of, source_and_values
from dropkit.study.training import train

from .studied import watched
from .test_checkpoint import interrupted


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def images(n=90, shape=(6, 5)):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *shape, generator=generator), torch.arange(n) % 3


def jitter(x, generator):
    return x + torch.rand(len(x), 1, 1, generator=generator)


def ready(arms, **fields):
    return prepare(dk.Experiment(**{"data": images(), "model": build, "epochs": 2, "batch_size": 16, **fields}), arms)


def moved(image, down, right):
    """One image by padding and slicing."""
    height, width = image.shape[-2:]
    most = max(abs(down), abs(right), 1)
    padded = F.pad(image.reshape(1, -1, height, width), [most] * 4, mode="replicate")
    return padded[0, :, most - down:most - down + height, most - right:most - right + width].reshape(image.shape)


@pytest.mark.parametrize("shape", [(6, 5), (1, 6, 5), (3, 5, 7)])
def test_a_translation_is_a_slice_of_the_image_with_repeated_edges(shape):
    offsets = torch.cartesian_prod(torch.arange(-3, 4), torch.arange(-3, 4)).T
    x = torch.randn(49, *shape, generator=torch.Generator().manual_seed(1))
    found = translate(x, *offsets)
    assert found.shape == x.shape
    for image, result, down, right in zip(x, found, *offsets.tolist(), strict=True):
        assert torch.equal(result, moved(image, down, right))
    inner = translate(x[:1], torch.tensor([1]), torch.tensor([-2]))[..., 1:, :-2]
    assert torch.equal(inner, torch.roll(x[:1], (1, -2), (-2, -1))[..., 1:, :-2])


def test_no_offset_and_two_mirrorings_are_the_identity():
    x, _ = images()
    nothing, every = torch.zeros(90, dtype=torch.long), torch.ones(90, dtype=torch.bool)
    which = draw_flips(90, "0", 0)
    assert torch.equal(translate(x, nothing, nothing), x)
    assert torch.equal(mirror(x, every), x.flip(2))
    assert torch.equal(mirror(mirror(x, which), which), x)
    assert torch.equal(mirror(x, which)[~which], x[~which])
    assert torch.equal(mirror(x, which)[which], x[which].flip(2))


def test_a_view_of_other_strides_is_moved_alike():
    x = torch.randn(4, 5, 6, 3).permute(0, 3, 1, 2)
    down, right = draw_offsets(4, 2, "0", 0)
    assert torch.equal(translate(x, down, right), translate(x.contiguous(), down, right))


def test_offsets_and_flips_have_their_frequencies():
    # Binomial counts, 25 pairs of offsets and the flips, within 5 standard deviations: false alarm 6e-7 each, 1.5e-5 in all.
    n, most = 100_000, 2
    down, right = draw_offsets(n, most, "7", 3)
    counts = torch.bincount((down + most) * 5 + right + most, minlength=25)
    assert len(counts) == 25
    p = 1 / 25
    assert (counts - n * p).abs().max() < 5 * math.sqrt(n * p * (1 - p))
    assert abs(int(draw_flips(n, "7", 3).sum()) - n / 2) < 5 * math.sqrt(n / 4)


def test_draws_depend_on_run_and_step():
    assert torch.equal(draw_offsets(50, 2, "0", 1), draw_offsets(50, 2, "0", 1))
    assert torch.equal(draw_flips(50, "0", 1), draw_flips(50, "0", 1))
    for tag, step in (("0", 2), ("0:1", 1), ("1", 1)):
        assert not torch.equal(draw_offsets(50, 2, "0", 1), draw_offsets(50, 2, tag, step))
        assert not torch.equal(draw_flips(50, "0", 1), draw_flips(50, tag, step))


def greedy(x, generator):
    """Draws from every state there is, and writes into what it is given."""
    x += float(torch.rand(())) + random.random() + np.random.rand()
    return x


def test_what_is_drawn_elsewhere_is_a_function_of_the_step_too_and_leaves_no_trace():
    x = torch.zeros(3, 2, 2)
    first = apply_own(greedy, x.clone(), "0", 4)
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = float(torch.rand(())), random.random(), np.random.rand()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    assert torch.equal(apply_own(greedy, x.clone(), "0", 4), first)
    assert (float(torch.rand(())), random.random(), np.random.rand()) == expected
    assert not torch.equal(apply_own(greedy, x.clone(), "0", 5), first)


ALL = {"none": 0.0, "intended": 1.0, "shift": dk.arm(shift=2), "flip": dk.arm(flip=True), "own": dk.arm(augment=True),
       "all": dk.arm(1.0, shift=1, flip=True, augment=True, noise=0.1), "four": dk.arm(members=2, shift=1, augment=True)}


class Draws(nn.Module):
    """A network with randomness of its own that nobody keys."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = build(), []

    def forward(self, x):
        if self.training:
            self.seen.append((float(torch.rand(())), random.random(), np.random.rand()))
        return self.net(x)


def test_weights_split_order_masks_and_other_draws_are_the_same_in_every_arm():
    found = ready(ALL, model=Draws, augment=greedy)
    plain = begin(found, found.arms[0], 3)
    before = {name: tensor.clone() for name, tensor in plain.model.state_dict().items()}
    x = plain.part.x_train.clone()
    plain.run_epoch()
    for arm in found.arms[1:]:
        other = begin(found, arm, 3)
        other = other.members[0] if isinstance(other, Ensemble) else other
        if arm.recipe.members == 1:
            state = other.model.state_dict()
            assert all(torch.equal(tensor, state[name]) for name, tensor in before.items()), arm.name
            other.run_epoch()
            assert other.model.seen == plain.model.seen, arm.name
        assert other.masks == plain.masks
        assert torch.equal(other.part.x_train, x), arm.name
        if arm.recipe.members == 1:
            assert torch.equal(other.order.get_state(), plain.order.get_state()), arm.name


def test_augmentation_acts_in_training_steps_alone(monkeypatch):
    monkeypatch.setattr(instruments, "measure", lambda *_: {})  # they look at training mode, without augmentation
    seen = []
    found, inputs = ready("none,shift=2+flip", model=watched(build, seen)), {}
    for arm in found.arms:
        seen.clear()
        train(found, arm, 0)
        inputs[arm.name] = list(seen)
    steps = 0
    for (training, clean), (mode, changed) in zip(inputs["none"], inputs["shift=2+flip"], strict=True):
        assert training == mode
        if training:
            offsets, flips = draw_offsets(len(clean), 2, "0", steps), draw_flips(len(clean), "0", steps)
            assert torch.equal(changed, translate(mirror(clean, flips), *offsets))
            steps += 1
        else:
            assert torch.equal(changed, clean)
    assert steps == 8


def test_instruments_look_at_plain_inputs():
    calls = []

    def counted(x, generator):
        calls.append(len(x))
        return x

    found = ready("none,augment", augment=counted)
    calls.clear()
    runs = [train(found, arm, 0) for arm in found.arms]
    assert len(calls) == 8  # steps: 54 examples in batches of 16, twice
    assert runs[0].history == runs[1].history
    assert runs[0].instruments == runs[1].instruments


def test_defaults_change_nothing_to_the_bit():
    found = ready({"none": 0.0, "still": dk.arm(shift=0, flip=False)})
    assert train(found, found.arms[0], 0).history == train(found, found.arms[1], 0).history


@pytest.mark.parametrize("loss", [lambda outputs, y: F.cross_entropy(outputs, y) * 2, None])
def test_losses_of_ones_own_and_ensembles(loss):
    found = ready({"none": 0.0, "two": dk.arm(members=2, shift=1, flip=True, augment=True)}, loss=loss, augment=jitter)
    run = train(found, found.arms[1], 0)
    assert run.status == "finished"
    assert run == train(found, found.arms[1], 0)
    members = begin(found, found.arms[1], 0).members
    assert [member.tag for member in members] == ["0", "0:1"]  # each has draws of its own


@pytest.mark.parametrize("calls", [1, 3, 5, 7])
@pytest.mark.parametrize("members", [1, 2])
def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(calls, members, tmp_path):
    found = ready({"none": 0.0, "intended": 1.0, "all": dk.arm(1.0, shift=2, flip=True, augment=True, members=members)},
                  augment=greedy)
    run, keeper = interrupted(found, tmp_path, calls)
    assert run == train(found, found.arms[2], 3)
    assert keeper.notes == []


def test_arms_with_augmentation_are_not_fused(tmp_path):
    found = ready(ALL, augment=greedy)
    with Ledger(tmp_path, "h", "x", {}) as ledger:
        way = choose(True, found, [0, 1, 2], ledger)
    alone = {found.arms[arm].name for unit in way.units if len(unit) == 1 for arm, _ in unit}
    together = {found.arms[arm].name for unit in way.units if len(unit) > 1 for arm, _ in unit}
    assert together == {"none", "intended"}
    assert alone == set(ALL) - together


class Floats(nn.Sequential):
    def forward(self, x):
        return super().forward(x.float())


def not_finite(x, generator):
    return x.log()


def flat(x, generator):
    return x.flatten(1)


def double(x, generator):
    return x.double()


def single(x):
    return x


class Counts:
    def __init__(self):
        self.calls = 0

    def __call__(self, x, generator):
        self.calls += 1
        return x + self.calls


@pytest.mark.parametrize(("arms", "fields", "words"), [
    ("none,shift=2", {"data": "digits", "model": None},
     "shift of images needs floating-point inputs of shape (N, H, W) or (N, C, H, W); got inputs of shape (N, 64), in arm "
     "'shift=2'. Give the images in that shape"),
    ("none,shift=1+flip", {"data": "digits", "model": None}, "shift and flip of images needs"),
    ("none,flip", {"data": (torch.arange(3000).reshape(100, 6, 5), torch.arange(100) % 3), "model": lambda: Floats(*build())},
     "got inputs of whole numbers, which are taken for token ids, in arm 'flip'"),
    ("none,flip", {"data": images(shape=(5, 2, 3))},
     "channels before height and width, (N, C, H, W); got inputs of shape (N, 5, 2, 3), in arm 'flip'"),
    ("none,shift=5", {}, "got shift=5 for images of 6 x 5 pixels, in arm 'shift=5'"),
    ("none,augment", {"augment": flat},
     "torch.float32 of shape (8, 30) for torch.float32 of shape (8, 6, 5), in arm 'augment'"),
    ("none,augment", {"augment": double}, "the shape and type that it was given"),
    ("none,augment", {"augment": lambda x, generator: None}, "got NoneType"),
    ("none,augment", {"augment": not_finite}, "augment returns finite numbers"),
    ("none,augment", {"augment": single}, "augment takes (x, generator)"),
    ("none,augment", {"augment": Counts()}, "two results for the same, in arm 'augment'"),
    ("none,augment=jitter", {}, "augment takes no value"),
    ("none,augment", {}, "an arm that augments has the experiment's function to do so; got none, in arm 'augment'"),
    ("none,intended", {"augment": 3}, "augment is a function (x, generator) -> x; got 3"),
    ("none,shift", {}, "Write shift=2"),
    ("none,shift=1.5", {}, "shift takes a number"),
    ("none,shift=-1", {}, "shift is a whole number of pixels"),
    ("none,flip=1", {}, "flip takes no value"),
])
def test_what_does_not_fit_is_refused_before_the_first_run(arms, fields, words):
    with pytest.raises(InputError) as caught:
        ready(arms, **fields)
    assert words in str(caught.value)


@pytest.mark.parametrize("changes", [{"shift": True}, {"shift": 1.0}, {"flip": 1}, {"flip": None}, {"augment": "jitter"},
                                     {"augment": jitter}])
def test_fields_of_another_type_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        dk.arm(**changes)


def test_token_ids_may_go_through_a_function_of_ones_own():
    tokens = torch.randint(9, (60, 4), generator=torch.Generator().manual_seed(0))

    def unknown(x, generator):
        return torch.where(torch.rand(x.shape, generator=generator) < 0.2, 0, x)

    def embedded():
        return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 2))

    found = ready("none,augment", augment=unknown, data=(tokens, tokens[:, 0] % 2), model=embedded)
    assert train(found, found.arms[1], 0).status == "finished"


def test_text_and_words():
    name, spec = read_arm("intended + shift=2 + flip")
    assert name == "intended+shift=2+flip"
    assert spec == dk.arm(1.0, shift=2, flip=True)
    assert spec.recipe.words() == "images shifted by up to 2 pixels, images mirrored at random"
    assert read_arm("flip")[1].rates == 0.0
    assert list(dict.fromkeys(arm.name for arm in ready("none,intended,shift=2,flip,factorial").arms)) == [
        "none", "intended", "shift=2", "flip", "shift=2+flip", "intended+flip", "intended+shift=2", "intended+shift=2+flip"]
    own = ready("none,augment", augment=jitter).arms[1]
    assert own.description.startswith("no dropout, the experiment's augmentation;")


def scale(by):
    def scaled(x, generator):
        return by * x
    return scaled


class Scale:
    def __init__(self, by):
        self.by = by

    def __call__(self, x, generator):
        return self.by * x


@pytest.mark.parametrize("made", [scale, Scale, lambda by: functools.partial(jitter, generator=by),
                                  lambda by: Scale(by).__call__, lambda by: scale(torch.full((2,), float(by))),
                                  lambda by: scale({"a": [by, {by}]}), lambda by: scale(scale(by)),
                                  lambda by: eval(f"lambda x, generator: {by} * x")])
def test_identity_follows_source_and_what_is_held(made):
    assert identity_of(made(2)) == identity_of(made(2))
    assert identity_of(made(2)) != identity_of(made(3))


def test_identity_of_what_holds_itself_ends():
    thing = Scale(2)
    thing.by = {"self": thing, "list": [thing]}
    assert len(identity_of(thing)) == 16


def test_another_function_is_another_experiment():
    found = [fingerprint(ready("none,augment", augment=scale(by))) for by in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_a_loss_that_holds_another_number_is_another_experiment():
    def weighted(by, seen):
        def loss(outputs, targets):
            seen.append(1)
            return by * F.cross_entropy(outputs, targets)
        return loss

    found = [fingerprint(ready("none,intended", loss=weighted(by, seen))) for by, seen in ((1.0, []), (1.0, [2]), (2.0, []))]
    assert found[0] == found[1] != found[2]
    assert source_and_values(jitter) == source_and_values(jitter)


def test_a_study_is_the_same_in_any_process_keeps_to_the_schema_and_goes_on(tmp_path):
    experiment = dk.Experiment(data=images(60), model=build, epochs=1, batch_size=16, augment=jitter)
    arms = {"none": 0.0, "intended": 1.0, "own": dk.arm(shift=1, flip=True, augment=True)}
    options = {"seeds": 2, "fused": False}
    one = dk.study(experiment, arms=arms, out=tmp_path / "one", engine="serial", **options)
    two = dk.study(experiment, arms=arms, out=tmp_path / "two", jobs=2, **options)
    assert one.numbers() == two.numbers()
    raw = json.loads((tmp_path / "two" / "result.json").read_text())
    jsonschema.Draft202012Validator(json_schema()).validate(raw)
    assert raw["arms"][2]["recipe"]["augment"] is True
    assert load_result(tmp_path / "two").arms == two.arms
    again = dk.study(experiment, arms=arms, out=tmp_path / "one", engine="serial", **options)
    assert again.numbers() == one.numbers()
