"""The one table of dropout variants: what each is called, where it is, and what it claims.

The façades `dropkit.nn` and `dropkit.functional`, the site kinds of surgery, ``dropkit list`` and ``dropkit explain``, the
pages of the documentation and the property suite in ``tests/contract`` derive from it. The suite verifies every claim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dropkit.variants import trials
from dropkit.variants.alpha import AlphaDropout, FeatureAlphaDropout, alpha_dropout, feature_alpha_dropout
from dropkit.variants.attention import (
    AttentionDropout,
    ScaledDotProductAttention,
    attention_dropout,
    scaled_dot_product_attention,
)
from dropkit.variants.channel import Dropout1d, Dropout2d, Dropout3d, dropout1d, dropout2d, dropout3d
from dropkit.variants.claims import Claims, Trial, Variant
from dropkit.variants.concrete import ConcreteDropout, concrete_dropout
from dropkit.variants.cutout import Cutout, RandomErasing, cutout, random_erasing
from dropkit.variants.denoising import DenoisingMask, denoising_mask
from dropkit.variants.drop_attention import DropAttention, drop_attention
from dropkit.variants.drop_block import DropBlock1d, DropBlock2d, DropBlock3d, drop_block1d, drop_block2d, drop_block3d
from dropkit.variants.drop_connect import DropConnect, drop_connect
from dropkit.variants.drop_grad import DropGrad, drop_grad
from dropkit.variants.drop_head import DropHead, drop_head
from dropkit.variants.drop_key import DropKey, drop_key
from dropkit.variants.drop_path import DropPath, drop_path
from dropkit.variants.dropout import Dropout, dropout
from dropkit.variants.embedding import EmbeddingDropout, embedding_dropout
from dropkit.variants.graph import DropEdge, DropNode, drop_edge, drop_node
from dropkit.variants.information import InformationDropout, information_dropout
from dropkit.variants.layer_drop import LayerDrop, layer_drop
from dropkit.variants.locked import LockedDropout, locked_dropout
from dropkit.variants.maximum import MaxDropout, max_dropout
from dropkit.variants.mixout import Mixout, mixout
from dropkit.variants.multi_sample import MultiSampleDropout, multi_sample_dropout
from dropkit.variants.noisy import GaussianDropout, UniformDropout, gaussian_dropout, uniform_dropout
from dropkit.variants.patch import PatchDropout, patch_dropout
from dropkit.variants.recurrent_dropout import RecurrentDropout, recurrent_dropout
from dropkit.variants.recurrent_dropout_rnn import (
    RecurrentDropoutGRU,
    RecurrentDropoutLSTM,
    RecurrentDropoutRNN,
    recurrent_dropout_gru,
    recurrent_dropout_lstm,
    recurrent_dropout_rnn,
)
from dropkit.variants.standout import Standout, standout
from dropkit.variants.targeted import TargetedDropout, targeted_dropout
from dropkit.variants.trials import LAYER, RECURRENT, normal, one
from dropkit.variants.variational import VariationalDropout, variational_dropout
from dropkit.variants.variational_rnn import (
    VariationalGRU,
    VariationalLSTM,
    VariationalRNN,
    variational_gru,
    variational_lstm,
    variational_rnn,
)
from dropkit.variants.weight_drop import WeightDrop, weight_drop
from dropkit.variants.word import WordDropout, word_dropout
from dropkit.variants.zoneout import Zoneout, zoneout
from dropkit.variants.zoneout_rnn import ZoneoutGRU, ZoneoutLSTM, ZoneoutRNN, zoneout_gru, zoneout_lstm, zoneout_rnn


def _channels(rank: str) -> Claims:
    return Claims(True, False, True, f"one decision a channel of {rank}", inplace=True, recognised=True, inverted=True)


def _blocks(rank: str) -> Claims:
    return Claims(False, False, True, f"one decision a block of {rank}, for each channel or for all")


def _recurrent(name: str, function: Callable[..., Any], module: type[nn.RNNBase], rate: str, rule: str, summary: str,
               reference: str, shown: tuple[str, ...] = (), **fixed: Any) -> Variant:
    """A row of a recurrent module, tried in one layer of which only the named rate acts, in the picture others, too."""
    family = module.__module__.rpartition(".")[2]

    def call(x: Any, p: Any, **options: Any) -> Any:
        weights = trials.recurrent(module).all_weights
        return function(x, weights, **{rate: p}, batch_first=x.dim() == 3, **fixed, **options)

    return Variant(name, family, function, module,
                   Claims(False, False, False, rule, realised_rate=False, rate_one="other", rate=rate, state=RECURRENT,
                          holds_sites=True),
                   Trial(lambda p: trials.recurrent(module, **{rate: p}, **fixed), normal(6, 4), one(6, 4), call,
                         lambda p: trials.diagonal(module, **dict.fromkeys((rate, *shown), p), **fixed)), summary, reference,
                   opt_outs=(("compiled_code_makes_the_same_masks", _TRACED),
                                        ("changed_rates_compile_nothing", _TRACED), ("streams_tell_sites_apart", _CHILDREN)))


_SRIVASTAVA = "Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR 2014"
_CHANNELS = "Tompson et al., Efficient object localization using convolutional networks, CVPR 2015"
_KLAMBAUER = "Klambauer et al., Self-normalizing neural networks, NeurIPS 2017"
_GHIASI = "Ghiasi et al., DropBlock: a regularization method for convolutional networks, NeurIPS 2018"
_VASWANI = "Vaswani et al., Attention is all you need, NeurIPS 2017"
_GAL = "Gal and Ghahramani, A theoretically grounded application of dropout in recurrent neural networks, NeurIPS 2016"
_KRUEGER = "Krueger et al., Zoneout: regularizing RNNs by randomly preserving hidden activations, ICLR 2017"
_SEMENIUTA = "Semeniuta, Severyn and Barth, Recurrent dropout without memory loss, COLING 2016"
_MERITY = "Merity et al., Regularizing and optimizing LSTM language models, ICLR 2018"

# Why a check does not apply; see `Variant.opt_outs`.
_INPUT = "the layer inside refuses data of another type than its weights, in words of its own"
_HIDDEN = "what is hidden is minus infinity by design; tests/variants/test_drop_key.py looks behind a softmax"
_GRADIENT = "values pass unchanged and gradients are dropped: tests/variants/test_drop_grad.py looks at those"
_BRANCH = "which layers run is decided in Python, so compilers and vmap see a branch on a random value"
_SHAPE = "how many edges remain depends on chance; compilers, vmap and meta tensors need shapes that do not"
_COUNT = "the number of tokens that remain follows from the rate, so that a new rate is a new shape"
_FUSED = "torch neither traces nor batches its fused LSTM; tests/variants/test_weight_drop.py wraps other layers"
_TRACED = ("torch.compile leaves every nn.LSTM, nn.GRU and nn.RNN to eager code unless torch._dynamo.config.allow_rnn is set; "
           "tests/variants/test_variational_rnn.py compiles the functions")
_CHILDREN = "its sites are its children, each with a stream of its own: tests/variants/test_variational_rnn.py names those"

CATALOG: tuple[Variant, ...] = (
    Variant("dropout", "dropout", dropout, Dropout,
            Claims(True, False, True, "one decision an element, or shared along share_dims", inplace=True, recognised=True,
                   inverted=True),
            Trial(Dropout, normal(6, 10), one(10)),
            "Zeroes single elements, or all elements along chosen dimensions together.", _SRIVASTAVA, nn.Dropout),
    Variant("dropout1d", "channel", dropout1d, Dropout1d, _channels("(N, C, L) or (C, L)"),
            Trial(Dropout1d, normal(6, 10), one(6, 10)), "Zeroes whole channels of sequences.", _CHANNELS, nn.Dropout1d),
    Variant("dropout2d", "channel", dropout2d, Dropout2d, _channels("(N, C, H, W)"),
            Trial(Dropout2d, normal(6, 5, 4)), "Zeroes whole channels of images.", _CHANNELS, nn.Dropout2d),
    Variant("dropout3d", "channel", dropout3d, Dropout3d, _channels("(N, C, D, H, W) or (C, D, H, W)"),
            Trial(Dropout3d, normal(6, 2, 3, 4), one(6, 2, 3, 4)), "Zeroes whole channels of volumes.", _CHANNELS,
            nn.Dropout3d),
    Variant("alpha_dropout", "alpha", alpha_dropout, AlphaDropout,
            Claims(False, True, True, "one decision an element", realised_rate=False, inplace=True, recognised=True),
            Trial(AlphaDropout, normal(6, 10), one(10)),
            "Sets elements to SELU's lowest value and keeps mean 0 and variance 1.", _KLAMBAUER, nn.AlphaDropout),
    Variant("feature_alpha_dropout", "alpha", feature_alpha_dropout, FeatureAlphaDropout,
            Claims(False, True, True, "one decision a channel of (N, C, ...)", realised_rate=False, inplace=True,
                   recognised=True),
            Trial(FeatureAlphaDropout, normal(6, 5, 4)),
            "Sets whole channels to SELU's lowest value and keeps mean 0 and variance 1.", _KLAMBAUER, nn.FeatureAlphaDropout),
    Variant("gaussian_dropout", "noisy", gaussian_dropout, GaussianDropout,
            Claims(True, False, True, "one factor an element, or shared along share_dims", realised_rate=False,
                   rate_one="refused"),
            Trial(GaussianDropout, normal(6, 10), one(10)), "Multiplies by normal noise of dropout's mean and variance.",
            _SRIVASTAVA),
    Variant("uniform_dropout", "noisy", uniform_dropout, UniformDropout,
            Claims(True, False, True, "one factor an element, or shared along share_dims", realised_rate=False,
                   rate_one="other", rate="b"),
            Trial(UniformDropout, normal(6, 10), one(10)),
            "Multiplies by uniform noise around 1; gentle before batch normalisation.",
            "Li et al., Understanding the disharmony between dropout and batch normalization by variance shift, CVPR 2019"),
    Variant("drop_block1d", "drop_block", drop_block1d, DropBlock1d, _blocks("(N, C, L)"),
            Trial(lambda p: DropBlock1d(p, 3), normal(4, 10), one(4, 10)),
            "Zeroes contiguous stretches of sequences.", _GHIASI),
    Variant("drop_block2d", "drop_block", drop_block2d, DropBlock2d, _blocks("(N, C, H, W)"),
            Trial(lambda p: DropBlock2d(p, 3), normal(2, 7, 8), one(2, 7, 8)),
            "Zeroes square regions of feature maps.", _GHIASI),
    Variant("drop_block3d", "drop_block", drop_block3d, DropBlock3d, _blocks("(N, C, D, H, W)"),
            Trial(lambda p: DropBlock3d(p, 2), normal(2, 3, 4, 5), one(2, 3, 4, 5)), "Zeroes cuboids of volumes.", _GHIASI),
    Variant("cutout", "cutout", cutout, Cutout,
            Claims(False, False, True, "squares of each example, all channels alike", realised_rate=False, rate_one="other"),
            Trial(lambda p: Cutout(p, size=3), normal(2, 7, 8), one(2, 7, 8)), "Erases squares of input images.",
            "DeVries and Taylor, Improved regularization of convolutional neural networks with cutout, 2017"),
    Variant("random_erasing", "cutout", random_erasing, RandomErasing,
            Claims(False, False, True, "a rectangle of each example, all channels alike", realised_rate=False,
                   rate_one="other"),
            Trial(RandomErasing, normal(2, 7, 8), one(2, 7, 8)), "Erases a rectangle of random size in input images.",
            "Zhong et al., Random erasing data augmentation, AAAI 2020"),
    Variant("max_dropout", "maximum", max_dropout, MaxDropout,
            Claims(False, False, True, "the elements in the upper part p of the range", realised_rate=False, rate_one="other",
                   random=False),
            Trial(MaxDropout, normal(6, 10), one(10)), "Zeroes the most active units.",
            "Santos et al., MaxDropout: deep neural network regularization based on maximum output values, ICPR 2020"),
    Variant("standout", "standout", standout, Standout,
            Claims(True, False, False, "one decision an element, with a probability of its own", realised_rate=False,
                   rate_one="other", rate=None),
            Trial(lambda p: Standout(), normal(6, 10), one(10)),
            "Keeps each unit with a probability that grows with its input.",
            "Ba and Frey, Adaptive dropout for training deep neural networks, NeurIPS 2013"),
    Variant("information_dropout", "information", information_dropout, InformationDropout,
            Claims(False, False, False, "one factor a unit, of a strength that it learns", realised_rate=False,
                   rate_one="other", rate=None, state=(*LAYER, "alpha_weight", "alpha_bias")),
            Trial(lambda p: InformationDropout(trials.layer()), normal(10), one(10),
                  lambda x, **options: information_dropout(x, torch.ones(1), **options)),
            "Multiplies by log-normal noise whose strength it learns.",
            "Achille and Soatto, Information dropout: learning optimal representations through noisy computation, TPAMI 2018"),
    Variant("multi_sample_dropout", "multi_sample", multi_sample_dropout, MultiSampleDropout,
            Claims(False, False, False, "one decision an element of each sample", realised_rate=False, rate_one="other",
                   state=("head.weight", "head.bias")),
            Trial(lambda p: MultiSampleDropout(trials.layer(), p, 4, average="logits"), normal(10), one(10),
                  lambda x, p, **options: multi_sample_dropout(x, lambda v: v[..., :3], p, 4, average="logits", **options)),
            "Applies a head to several masks at once; the loss is the mean of theirs.",
            "Inoue, Multi-sample dropout for accelerated training and better generalization, 2019"),
    Variant("denoising_mask", "denoising", denoising_mask, DenoisingMask,
            Claims(False, False, True, "one decision an element"), Trial(DenoisingMask, normal(6, 10), one(10)),
            "Corrupts the input of a denoising autoencoder; what is kept is not rescaled.",
            "Vincent et al., Extracting and composing robust features with denoising autoencoders, ICML 2008"),
    Variant("drop_connect", "drop_connect", drop_connect, DropConnect,
            Claims(True, False, False, "one decision a weight and example, or a weight", realised_rate=False, rate_one="other",
                   state=LAYER),
            Trial(lambda p: DropConnect(trials.layer(), p), normal(10), one(10),
                  lambda x, p, **options: drop_connect(x, trials.units(), None, p, **options)),
            "Zeroes single weights of a layer, for each example anew.",
            "Wan et al., Regularization of neural networks using DropConnect, ICML 2013"),
    Variant("weight_drop", "weight_drop", weight_drop, WeightDrop,
            Claims(False, False, False, "one decision a weight, for a whole call", realised_rate=False, rate_one="other",
                   state=("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")),
            Trial(lambda p: WeightDrop(nn.LSTM(4, 5, batch_first=True), p), normal(6, 4), one(6, 4),
                  lambda x, p, **options: weight_drop(trials.layer(), (x.sum(-1, keepdim=True).expand(*x.shape[:-1], 10),), p,
                                                      names=("weight",), **options)),
            "Zeroes single weights of any module by name, such as an LSTM's.", _MERITY,
            opt_outs=(("integers_are_refused", _INPUT), ("vmap_modes", _FUSED),
                      ("compiled_code_makes_the_same_masks", _FUSED), ("changed_rates_compile_nothing", _FUSED))),
    _recurrent("variational_lstm", variational_lstm, VariationalLSTM, "recurrent_p",
               "one decision a unit and sequence, at all steps; for all gates or for each",
               "An nn.LSTM with one mask a sequence on inputs, states and outputs.", _GAL, ("input_p",)),
    _recurrent("variational_gru", variational_gru, VariationalGRU, "recurrent_p",
               "one decision a unit and sequence, at all steps; for all gates or for each",
               "An nn.GRU with one mask a sequence on inputs, states and outputs.", _GAL, ("input_p",)),
    _recurrent("variational_rnn", variational_rnn, VariationalRNN, "recurrent_p",
               "one decision a unit and sequence, at all steps",
               "An nn.RNN with one mask a sequence on inputs, states and outputs.", _GAL, ("input_p",)),
    Variant("recurrent_dropout", "recurrent_dropout", recurrent_dropout, RecurrentDropout,
            Claims(True, False, False, "one decision an element of the update", realised_rate=False, rate_one="other"),
            Trial(RecurrentDropout, trials.states(6, 10), lambda: (torch.randn(6, 10), torch.randn(6, 10))),
            "Drops what is added to a memory, never the memory.", _SEMENIUTA),
    _recurrent("recurrent_dropout_lstm", recurrent_dropout_lstm, RecurrentDropoutLSTM, "recurrent_p",
               "one decision a unit's candidate, at each step or for a sequence",
               "An nn.LSTM with dropout of the candidate, without memory loss.", _SEMENIUTA),
    _recurrent("recurrent_dropout_gru", recurrent_dropout_gru, RecurrentDropoutGRU, "recurrent_p",
               "one decision a unit's candidate, at each step or for a sequence",
               "An nn.GRU with dropout of the candidate, without memory loss.", _SEMENIUTA),
    _recurrent("recurrent_dropout_rnn", recurrent_dropout_rnn, RecurrentDropoutRNN, "recurrent_p",
               "one decision a unit's state, at each step or for a sequence",
               "An nn.RNN with dropout of the state where it enters the next.", _SEMENIUTA),
    Variant("zoneout", "zoneout", zoneout, Zoneout,
            Claims(True, False, False, "one decision an element of the state", realised_rate=False, rate_one="other"),
            Trial(Zoneout, trials.states(6, 10), lambda: (torch.randn(6, 10), torch.randn(6, 10))),
            "Lets units keep their old value.", _KRUEGER),
    _recurrent("zoneout_lstm", zoneout_lstm, ZoneoutLSTM, "hidden_p", "one decision a unit, sequence and step",
               "An nn.LSTM whose units keep their old memory and state at random.", _KRUEGER, cell_p=0.0),
    _recurrent("zoneout_gru", zoneout_gru, ZoneoutGRU, "hidden_p", "one decision a unit, sequence and step",
               "An nn.GRU whose units keep their old state at random.", _KRUEGER),
    _recurrent("zoneout_rnn", zoneout_rnn, ZoneoutRNN, "hidden_p", "one decision a unit, sequence and step",
               "An nn.RNN whose units keep their old state at random.", _KRUEGER),
    Variant("mixout", "mixout", mixout, Mixout,
            Claims(True, False, False, "one decision a weight", realised_rate=False, rate_one="other",
                   state=(*LAYER, "pretrained_weight", "pretrained_bias")),
            Trial(lambda p: trials.moved(Mixout(trials.layer(), p)), normal(10), one(10),
                  lambda x, p, **options: mixout(x, torch.zeros_like(x), p, **options)),
            "Replaces single weights by their pretrained values.",
            "Lee et al., Mixout: effective regularization to finetune large-scale pretrained language models, ICLR 2020",
            opt_outs=(("integers_are_refused", _INPUT),)),
    Variant("targeted_dropout", "targeted", targeted_dropout, TargetedDropout,
            Claims(False, False, False, "one decision a weight or unit among the smallest", realised_rate=False,
                   rate_one="other", state=LAYER),
            Trial(lambda p: TargetedDropout(trials.layer(), p), normal(10), one(10)),
            "Zeroes weights among those that pruning would remove.",
            "Gomez et al., Learning sparse networks using targeted dropout, 2019",
            opt_outs=(("integers_are_refused", _INPUT),)),
    Variant("variational_dropout", "variational", variational_dropout, VariationalDropout,
            Claims(False, False, False, "one noise an output, of a strength that each weight learns", realised_rate=False,
                   rate_one="other", rate=None, state=(*LAYER, "log_sigma2")),
            Trial(lambda p: VariationalDropout(trials.layer(), initial_log_sigma2=-2.0), normal(10), one(10),
                  lambda x, **options: variational_dropout(x, trials.units(), -trials.units().abs(), **options)),
            "Learns a noise for each weight and prunes what is all noise.",
            "Molchanov et al., Variational dropout sparsifies deep neural networks, ICML 2017"),
    Variant("concrete_dropout", "concrete", concrete_dropout, ConcreteDropout,
            Claims(False, False, False, "one soft decision an element, or shared along share_dims", realised_rate=False,
                   rate_one="other", rate=None, state=(*LAYER, "p_logit")),
            Trial(lambda p: ConcreteDropout(trials.layer(), p), normal(10), one(10)),
            "Learns its rate with the weights.", "Gal et al., Concrete dropout, NeurIPS 2017"),
    Variant("locked_dropout", "locked", locked_dropout, LockedDropout,
            Claims(True, False, True, "one decision a feature of each sequence, for all time steps", inverted=True),
            Trial(lambda p: LockedDropout(p, batch_first=True), normal(6, 10), one(6, 10),
                  lambda x, p, **options: locked_dropout(x, p, batch_first=True, **options)),
            "Zeroes features of sequences, the same ones at every time step.", _GAL),
    Variant("embedding_dropout", "embedding", embedding_dropout, EmbeddingDropout,
            Claims(True, False, False, "one decision a word of the vocabulary, shared over the batch", realised_rate=False,
                   rate_one="other", state=("weight",)),
            Trial(lambda p: EmbeddingDropout(nn.Embedding(10, 3, _weight=trials.table()), p), trials.tokens,
                  trials.tokens, lambda x, p, **options: embedding_dropout(x, trials.table(), p, **options)),
            "Drops whole words of an embedding, wherever they stand.", _GAL),
    Variant("word_dropout", "word", word_dropout, WordDropout,
            Claims(False, False, True, "one decision a token", ("int64",), realised_rate=False, rate_one="other"),
            Trial(WordDropout, trials.tokens, trials.tokens), "Replaces tokens by the unknown one.",
            "Iyyer et al., Deep unordered composition rivals syntactic methods for text classification, ACL 2015"),
    Variant("attention_dropout", "attention", attention_dropout, AttentionDropout,
            Claims(True, False, True, "one decision a query and key, or shared along share_dims", inplace=True, recognised=True,
                   inverted=True),
            Trial(AttentionDropout, trials.attention_weights, trials.attention_weights),
            "Zeroes attention weights after the softmax.", _VASWANI),
    Variant("scaled_dot_product_attention", "attention", scaled_dot_product_attention, ScaledDotProductAttention,
            Claims(True, False, False, "one decision a query and key", realised_rate=False, rate_one="other"),
            Trial(ScaledDotProductAttention, trials.attention_inputs, trials.attention_inputs),
            "Attention with dropout of its weights in training only, fused in evaluation.", _VASWANI),
    Variant("drop_key", "drop_key", drop_key, DropKey,
            Claims(False, False, True, "one decision a query and key, or shared along share_dims", realised_rate=False,
                   rate_one="other"),
            Trial(DropKey, normal(2, 5, 6), one(2, 5, 6)), "Hides keys from queries before the softmax of attention.",
            "Li et al., DropKey for vision transformer, CVPR 2023",
            opt_outs=(("types_are_kept_and_share_masks", _HIDDEN), ("extreme_rates_stay_finite", _HIDDEN),
                      ("gradients_are_right", _HIDDEN), ("forward_mode_is_right", _HIDDEN))),
    Variant("drop_attention", "drop_attention", drop_attention, DropAttention,
            Claims(False, False, True, "one decision a query and key, a window of keys, or shared along share_dims",
                   realised_rate=False, rate_one="other"),
            Trial(DropAttention, trials.attention_weights, trials.attention_weights,
                  picture=lambda p: trials.Survivors(DropAttention(p))),
            "Zeroes attention weights and normalises the rows again.",
            "Zehui et al., DropAttention: a regularization method for fully-connected self-attention networks, 2019"),
    Variant("drop_head", "drop_head", drop_head, DropHead,
            Claims(True, False, True, "one decision a head of each example, never dropping all", realised_rate=False,
                   rate_one="other"),
            Trial(lambda p: DropHead(p, head_dim=-3), normal(4, 3, 2), one(4, 3, 2),
                  lambda x, p, **options: drop_head(x, p, head_dim=-3, **options)),
            "Zeroes whole attention heads, never all of them.",
            "Zhou et al., Scheduled DropHead: a regularization method for transformer models, Findings of EMNLP 2020"),
    Variant("patch_dropout", "patch", patch_dropout, PatchDropout,
            Claims(False, False, True, "an exact number of tokens of each example", realised_rate=False, rate_one="other"),
            Trial(PatchDropout, normal(9, 4)), "Keeps a fixed number of randomly chosen tokens.",
            "Liu et al., PatchDropout: economizing vision transformers using patch dropout, WACV 2023",
            opt_outs=(("changed_rates_compile_nothing", _COUNT),)),
    Variant("drop_path", "drop_path", drop_path, DropPath,
            Claims(True, False, True, "one decision an example, or one for the batch", inverted=True),
            Trial(DropPath, normal(6, 10)), "Drops whole residual branches (stochastic depth).",
            "Huang et al., Deep networks with stochastic depth, ECCV 2016"),
    Variant("layer_drop", "layer_drop", layer_drop, LayerDrop,
            Claims(False, False, False, "one decision a layer, for the whole batch", realised_rate=False, rate_one="other",
                   state=tuple(f"{i}.{name}" for i in range(8) for name in LAYER)),
            Trial(lambda p: LayerDrop([nn.Linear(6, 6) for _ in range(8)], p), normal(6), one(6),
                  lambda x, p, **options: torch.tensor(layer_drop(8, p, **options))),
            "Skips whole layers of a stack.",
            "Fan et al., Reducing transformer depth on demand with structured dropout, ICLR 2020",
            opt_outs=(("compiled_code_makes_the_same_masks", _BRANCH), ("changed_rates_compile_nothing", _BRANCH),
                      ("vmap_modes", _BRANCH), ("integers_are_refused", _INPUT))),
    Variant("drop_edge", "graph", drop_edge, DropEdge,
            Claims(False, False, True, "one decision an edge, or one for both its directions", ("int64",), realised_rate=False,
                   rate_one="other"),
            Trial(DropEdge, trials.edges), "Drops edges of a graph.",
            "Rong et al., DropEdge: towards deep graph convolutional networks on node classification, ICLR 2020",
            opt_outs=(("compiled_code_makes_the_same_masks", _SHAPE), ("changed_rates_compile_nothing", _SHAPE),
                      ("vmap_modes", _SHAPE), ("meta_tensors_have_shapes", _SHAPE))),
    Variant("drop_node", "graph", drop_node, DropNode,
            Claims(True, False, True, "one decision a row of node features", inverted=True),
            Trial(DropNode, normal(6, 10), one(6, 10)), "Drops all features of single nodes.",
            "Feng et al., Graph random neural networks for semi-supervised learning on graphs, NeurIPS 2020"),
    Variant("drop_grad", "drop_grad", drop_grad, DropGrad,
            Claims(True, False, True, "one decision an element of the gradient", realised_rate=False, rate_one="other"),
            Trial(DropGrad, normal(6, 10), one(10)), "Drops elements of gradients and leaves values alone.",
            "Tseng et al., Regularizing meta-learning via gradient dropout, ACCV 2020",
            opt_outs=tuple((name, _GRADIENT) for name in (
                "rate_zero_changes_nothing", "training_acts_and_evaluation_does_not", "manual_seed_governs",
                "generator_decides", "keyed_is_reproducible", "streams_tell_sites_apart", "vmap_modes",
                "gradients_are_right"))),
)


def catalog() -> tuple[Variant, ...]:
    """The variants there are, in the order of the documentation.

    Example:
        >>> [row.name for row in catalog()][:2]
        ['dropout', 'dropout1d']
    """
    return CATALOG
