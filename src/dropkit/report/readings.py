"""What the report says about rates, sites and instruments: titles, captions, alternative texts."""

from __future__ import annotations

from dropkit.report import instruments, rates
from dropkit.report.numbers import Scale, mean, number
from dropkit.study.result import StudyResult

# name of an instrument -> its title, the axis's unit, and what it means
_MEANING: dict[str, tuple[str, str, str]] = {
    "gradient_norm": ("Gradient norm", "norm of the gradient",
                      "Norm of each layer's mean gradient in training mode; far apart over the layers, some hardly learn."),
    "no_gradient": ("Units without a gradient", "share of units",
                    "Share of a layer's units whose gradient was zero in every pass."),
    "data_noise": ("Data noise", "variance over squared norm",
                   "How much a batch's gradient varies from batch to batch with the same masks, against its mean."),
    "mask_noise": ("Mask noise", "variance over squared norm",
                   "How much a batch's gradient varies from mask to mask, against its mean; far below the data noise, the "
                   "rates hardly matter."),
    "output_zeros": ("Outputs zeroed", "share of outputs",
                     "Share of the larger outputs that are exactly zero in training: dropout acts on the output."),
    "dead": ("Dead units", "share of units", "Share of the units that a layer reads which are zero for every example."),
    "correlation": ("Co-adaptation", "mean absolute correlation",
                    "Mean absolute correlation between two of the units that a layer reads; dropout is meant to lower it."),
    "effective_rank": ("Effective rank", "directions",
                       "In how many directions the units that a layer reads vary: as many as units if independent."),
    "evaluation_noise": ("Noise in evaluation", "relative change",
                         "Change of the outputs from one evaluation to the next; above 0 something random acts there."),
    "variance_shift": ("Variance shift", "variance in training over evaluation",
                       "At each BatchNorm, the variance of its input in training over that in evaluation; dropout before it "
                       "moves it from 1."),
}
ABLATION = ("What is lost when units are zeroed at random in evaluation, mean over layers and seeds, at the end of training; a "
            "flatter curve relies less on particular units.")


def title_of(name: str) -> str:
    """Return an instrument's title; its own name in words where none is known.

    Example:
        >>> title_of("some_new_reading")
        'Some new reading'
    """
    return _MEANING[name][0] if name in _MEANING else name.replace("_", " ").capitalize()


def axis_of(name: str) -> str:
    """Return what stands along the axis of an instrument's figure."""
    return _MEANING[name][1] if name in _MEANING else name.replace("_", " ")


def rates_caption(result: StudyResult) -> str:
    """Say how to read the curve of rates."""
    spread = "; bars are one standard error of the mean" if len(result.seeds) > 1 else ""
    return (f"Each thin line is one seed, the thick one their mean{spread}. The best of several noisy means looks better "
            f"than it is: confirm it on fresh seeds. {Scale.of(result.summary).direction.capitalize()}.")


def rates_alt(result: StudyResult) -> str:
    """Tell the mean at each rate."""
    scale = Scale.of(result.summary)
    told = [f"rate {setting.rate:.3g} {scale.value(mean(setting.scores))}" for setting in rates.sweep(result)]
    return f"Mean test {scale.metric} against the mean rate over the sites: {'; '.join(told)}."


def sites_caption(result: StudyResult) -> str:
    """Say how to read the panel of sites."""
    reference = rates.kept(result)[0].contrast.reference
    return (f"What the score loses when dropout is taken away at one place and stays at the others, against {reference}; an "
            "interval clear of zero on the right says that the place earns its dropout, one on the left that it is better "
            "without.")


def sites_alt(result: StudyResult) -> str:
    """Tell each site's worth."""
    scale = Scale.of(result.summary)
    told = [f"{entry.name or 'the model itself'} {scale.difference(-entry.contrast.mean)}" for entry in rates.kept(result)]
    return f"Loss in test {scale.metric} when a site's dropout is taken away: {'; '.join(told)}."


def scalar_caption(name: str) -> str:
    """Say what an instrument reads and how to read its curve."""
    meaning = f"{_MEANING[name][2]} " if name in _MEANING else ""
    return f"{meaning}Lines are means over the seeds, bars one standard deviation either side."


def layers_caption(result: StudyResult, name: str) -> str:
    """Say what an instrument reads at each layer, and how many layers are drawn."""
    meaning = f"{_MEANING[name][2]} " if name in _MEANING else ""
    count = len(instruments.layers(result, name))
    rest = f" The first {instruments.LAYERS} of {count} layers are drawn." if count > instruments.LAYERS else ""
    return f"{meaning}Each marker is the mean over an arm's seeds, at the end of training.{rest}"


def scalar_alt(result: StudyResult, name: str) -> str:
    """Tell each arm's mean at the end."""
    told = [f"{arm.name} {number(instruments.last(result, arm.name, name), 3)}" for arm in result.arms]
    return f"{title_of(name)} at the end of training, mean over the seeds: {'; '.join(told)}."


def ablation_alt(result: StudyResult) -> str:
    """Tell each arm's rise of the loss with half of the units zeroed."""
    half = "ablation_50"
    told = [f"{arm.name} {number(mean(instruments.last(result, arm.name, half, place) for place in places), 3)}"
            for arm in result.arms for places in [instruments.layers(result, half)]]
    return f"Rise of the loss with half of a layer's units zeroed: {'; '.join(told)}."


def layers_alt(result: StudyResult, name: str) -> str:
    """Tell each arm's mean at the end, at the first layers."""
    shown = instruments.layers(result, name)[:6]
    told = []
    for arm in result.arms:
        values = [f"{place} {number(instruments.last(result, arm.name, name, place), 3)}" for place in shown]
        told.append(f"{arm.name}: {', '.join(values)}")
    return f"{title_of(name)} by layer at the end of training. {'; '.join(told)}."
