"""What the audit finds in the corpus, how long it takes, and what it makes of whole architectures."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch

CORPUS = Path(__file__).resolve().parent / "audit_corpus"
WRITTEN = ("resnet", "vit", "gpt", "unet", "lstm_language_model", "wavenet", "mlp_mixer", "vae", "gan", "diffusion_block",
           "recommender")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
WORDS = {**SMALL, "vocab_size": 100, "max_position_embeddings": 32, "pad_token_id": 0}
LLAMA = {**SMALL, "vocab_size": 100, "num_key_value_heads": 2, "max_position_embeddings": 32}
SEQ2SEQ = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
           "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 100}
SPEECH = {**SMALL, "conv_dim": (16, 16), "conv_kernel": (5, 3), "conv_stride": (4, 2), "num_conv_pos_embeddings": 8,
          "num_conv_pos_embedding_groups": 4, "vocab_size": 32, "feat_extract_norm": "layer", "mask_time_prob": 0.0}
IMAGES = {**SMALL, "image_size": 16, "patch_size": 4}


def tokens() -> dict[str, torch.Tensor]:
    """Return a batch of token ids."""
    return {"input_ids": torch.randint(2, 99, (2, 8))}


def pairs() -> dict[str, torch.Tensor]:
    """Return a batch of ids for an encoder and a decoder."""
    return {**tokens(), "decoder_input_ids": torch.randint(2, 99, (2, 6))}


def images(size: int = 16) -> dict[str, torch.Tensor]:
    """Return a batch of images."""
    return {"pixel_values": torch.randn(2, 3, size, size)}


# Model class, configuration, inputs: built without weights, small.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, torch.Tensor]]]] = {
    "bert": ("BertModel", WORDS, tokens),
    "roberta": ("RobertaModel", WORDS, tokens),
    "albert": ("AlbertModel", {**WORDS, "embedding_size": 16, "hidden_dropout_prob": 0.1}, tokens),
    "electra": ("ElectraModel", {**WORDS, "embedding_size": 16}, tokens),
    "distilbert": ("DistilBertModel", {"vocab_size": 100, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}, tokens),
    "deberta": ("DebertaV2Model", WORDS, tokens),
    "mobilebert": ("MobileBertModel", {**WORDS, "embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32,
                                       "hidden_dropout_prob": 0.1}, tokens),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}, tokens),
    "opt": ("OPTModel", {**WORDS, "word_embed_proj_dim": 32, "ffn_dim": 64, "dropout": 0.1}, tokens),
    "llama": ("LlamaModel", {**LLAMA, "attention_dropout": 0.1}, tokens),
    "mistral": ("MistralModel", {**LLAMA, "attention_dropout": 0.1}, tokens),
    "t5": ("T5Model", {"vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}, pairs),
    "bart": ("BartModel", {**SEQ2SEQ, "max_position_embeddings": 32}, pairs),
    "whisper": ("WhisperModel", {**SEQ2SEQ, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16,
                                 "dropout": 0.1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
                                 "decoder_start_token_id": 1},
                lambda: {"input_features": torch.randn(2, 8, 32), "decoder_input_ids": torch.randint(2, 99, (2, 6))}),
    "vit": ("ViTModel", {**IMAGES, "hidden_dropout_prob": 0.1}, images),
    "deit": ("DeiTModel", {**IMAGES, "hidden_dropout_prob": 0.1}, images),
    "vit_mae": ("ViTMAEModel", IMAGES, images),
    "swin": ("SwinModel", {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
                           "window_size": 4}, lambda: images(32)),
    "convnext": ("ConvNextModel", {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "drop_path_rate": 0.1},
                 lambda: images(32)),
    "clip": ("CLIPModel", {"text_config": WORDS, "vision_config": IMAGES, "projection_dim": 16},
             lambda: {**tokens(), **images()}),
    "wav2vec2": ("Wav2Vec2Model", SPEECH, lambda: {"input_values": torch.randn(2, 400)}),
}


@dataclass
class Case:
    """A file of the corpus and what came of it: rule and line of every finding, or an error."""

    file: Path
    header: dict[str, Any]
    marks: dict[str, set[int]]
    found: list[tuple[str, int | None]] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def wanted(self) -> list[set[str]]:
        """The rules that must be found, each with its alternatives."""
        return [set(entry.split("|")) for entry in self.header["RULES"]]

    @property
    def missed(self) -> list[set[str]]:
        """Wanted rules without a finding."""
        return [rules for rules in self.wanted if not rules & {rule for rule, _ in self.found}]

    @property
    def wrong(self) -> list[tuple[str, int | None]]:
        """Findings that neither are wanted nor count as right."""
        right = set(self.header.get("ALSO", ())).union(*self.wanted)
        return [finding for finding in self.found if finding[0] not in right]

    @property
    def placed(self) -> list[bool]:
        """Of each finding of a marked rule: whether it names a marked line."""
        return [line in self.marks[rule] for rule, line in self.found if rule in self.marks]


def read(file: Path) -> Case:
    """Read a file's constants and marks without running it."""
    text = file.read_text(encoding="utf-8")
    header = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(text).body
              if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()}
    marks: dict[str, set[int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        for rule in re.findall(r"DK\d{3}", line.partition("# <- ")[2]):
            marks.setdefault(rule, set()).add(number)
    return Case(file, header, marks)


def load(file: Path) -> Any:
    """Import a file of the corpus under a name of its own."""
    found = importlib.util.spec_from_file_location(f"corpus_{file.stem}", file)
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module  # so that sources and classes can be looked up by module
    found.loader.exec_module(module)
    return module


def findings(case: Case) -> list[Any]:
    """Audit one file: its source alone where it is static, else its model."""
    if case.header.get("STATIC"):
        from dropkit.audit.static import audit_source  # where it is used, so that the lists above can be read without it
        return list(audit_source(case.file).findings)
    from dropkit.audit.allow import allow
    from dropkit.audit.audit import audit
    module = load(case.file)
    return list(allow(audit(module.build, module.inputs())).findings)  # inline comments allow


def run(case: Case) -> Case:
    """Audit a file, with time and error."""
    torch.manual_seed(0)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.found = [(found.rule, found.place.line) for found in findings(case)]
    except Exception:
        case.error = traceback.format_exc(limit=1).strip().splitlines()[-1]
    case.seconds = time.perf_counter() - start
    return case


def share(part: int, whole: int) -> str:
    """Return a share with what it is of."""
    return f"{part} of {whole}" + (f" = {part / whole:.3f}" if whole else "")


def summary(cases: list[Case]) -> Iterator[str]:
    """Precision, recall, lines and times over the corpus, then every case that fell short."""
    wanted = sum(len(case.wanted) for case in cases)
    found = sum(len(case.found) for case in cases)
    placed = [right for case in cases for right in case.placed]
    times = sorted(case.seconds for case in cases)
    yield f"recall: {share(wanted - sum(len(case.missed) for case in cases), wanted)} expected rules"
    yield f"precision: {share(found - sum(len(case.wrong) for case in cases), found)} findings"
    yield f"lines: {share(sum(placed), len(placed))} findings of expected rules name a marked line"
    good = [case for case in cases if not case.wanted]
    yield f"good files without a finding: {share(sum(not case.found and not case.error for case in good), len(good))}"
    yield f"seconds a file: median {times[len(times) // 2]:.2f}, largest {times[-1]:.2f}"
    for case in cases:
        missed = ["|".join(sorted(rules)) for rules in case.missed]
        if case.error or missed or case.wrong or not all(case.placed):
            yield (f"{case.file.parent.name}/{case.file.name}: missed {missed}, wrong {case.wrong}, found {case.found}, "
                   f"marked {({rule: sorted(lines) for rule, lines in case.marks.items()})} {case.error}")


def torch_models() -> Iterator[tuple[str, Callable[..., Any], tuple[str, ...], Any]]:
    """PyTorch's own models: name, builder, rates, inputs."""
    from torch import nn
    sequence = torch.randn(5, 2, 64)
    yield "nn.Transformer", lambda dropout=0.1: nn.Transformer(64, 4, 1, 1, 64, dropout), ("dropout",), (sequence, sequence)
    yield "nn.LSTM", lambda dropout=0.1: nn.LSTM(64, 64, 2, dropout=dropout), ("dropout",), sequence
    yield ("nn.MultiheadAttention", lambda dropout=0.1: nn.MultiheadAttention(64, 4, dropout), ("dropout",),
           (sequence, sequence, sequence))


def transformers_models() -> Iterator[tuple[str, Callable[..., Any], tuple[str, ...], Any]]:
    """Models of transformers, from small configurations without weights: name, builder, rates, inputs."""
    import transformers

    from dropkit.audit.builders import is_rate
    for name, (kind, settings, inputs) in ARCHITECTURES.items():
        model_class = getattr(transformers, kind)

        def build(model_class: Any = model_class, settings: dict[str, Any] = settings, **rates: float) -> Any:
            return model_class(model_class.config_class(**{**settings, **rates}))

        fields = model_class.config_class(**settings).to_dict()
        yield name, build, tuple(field for field in fields if "drop" in field and is_rate(fields[field])), inputs()


def written_models() -> Iterator[tuple[str, Callable[..., Any], tuple[str, ...] | None, Any]]:
    """The corpus' good models that are whole architectures, written by hand."""
    for name in WRITTEN:
        module = load(CORPUS / "good" / f"{name}.py")
        yield name, module.build, None, module.inputs()


def large_models() -> Iterator[tuple[str, Callable[..., Any], tuple[str, ...], Any]]:
    """Models at the size at which they are used."""
    import transformers

    def swin(**rates: float) -> Any:
        return transformers.SwinModel(transformers.SwinConfig(**rates))

    yield ("swin of 28 million parameters, images of 224", swin,
           ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"), images(224))


def architectures(models: Iterable[tuple[str, Callable[..., Any], tuple[str, ...] | None, Any]]) -> Iterator[str]:
    """Audit whole models: a line of a table each, with its findings under it."""
    from dropkit.audit.audit import audit
    for name, build, rates, inputs in models:
        torch.manual_seed(0)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            result = audit(build, inputs, rates=rates)
            said = [f"{len(result.coverage.gaps):>5}{len(result.findings):>10}",
                    *(f"    not covered: {gap.what}: {gap.why}" for gap in result.coverage.gaps),
                    *(f"    {found.severity} {found.rule} {found.place.module}: {found.message}" for found in result.findings)]
        except Exception:
            said = ["raised " + traceback.format_exc(limit=1).strip().splitlines()[-1]]
        yield f"{name:<46}{time.process_time() - cpu:>9.1f}{time.perf_counter() - wall:>9.1f}" + "\n".join(said)


def table() -> Iterator[str]:
    """What the audit makes of every architecture, and how long it takes."""
    yield f"{'architecture':<46}{'CPU s':>9}{'wall s':>9}{'gaps':>5}{'findings':>10}"
    yield from architectures(chain(written_models(), torch_models(), transformers_models(), large_models()))


def main(pattern: str = "*") -> None:
    """Print all of it, the architectures alone ("none"), or what becomes of some files of the corpus; nothing is written."""
    if pattern != "none":
        cases = [run(read(file)) for kind in ("bad", "good") for file in sorted((CORPUS / kind).glob(f"{pattern}.py"))]
        print(*summary(cases), "", sep="\n", flush=True)
    if pattern in ("*", "none"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for line in table():
                print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
