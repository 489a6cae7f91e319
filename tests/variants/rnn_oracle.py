"""Recurrent layers with dropout as one would write them down: a loop over sequences, steps and units' gates, no batches."""

import torch

import dropkit as dk

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def mask(shape, p, stream):
    """The next mask of a site under the present key, with inverted scaling."""
    return dk.functional.dropout(torch.ones(shape, dtype=torch.float64), p, stream=stream)


def keep(shape, p, stream):
    """The next mask of a site under the present key: true where dropout keeps."""
    return dk.functional.dropout(torch.ones(shape, dtype=torch.float64), p, stream=stream) != 0 if p < 1 else \
        torch.zeros(shape, dtype=torch.bool)


def cell(mode, weights, x, h, c, gate_x, gate_h, candidate=None):
    """One step of one sequence; x and h are masked for each gate by the rows of ``gate_x`` and ``gate_h``."""
    w_ih, w_hh, b_ih, b_hh = weights
    count = GATES[mode]
    sums_x = [w @ (x * m) + b for w, m, b in zip(w_ih.chunk(count), gate_x, b_ih.chunk(count), strict=True)]
    sums_h = [w @ (h * m) + b for w, m, b in zip(w_hh.chunk(count), gate_h, b_hh.chunk(count), strict=True)]
    drop = 1.0 if candidate is None else candidate
    if mode == "LSTM":
        i, f, g, o = (a + b for a, b in zip(sums_x, sums_h, strict=True))
        fresh = f.sigmoid() * c + i.sigmoid() * (g.tanh() * drop)
        return o.sigmoid() * fresh.tanh(), fresh
    if mode == "GRU":
        r, z = (sums_x[0] + sums_h[0]).sigmoid(), (sums_x[1] + sums_h[1]).sigmoid()
        return (1 - z) * ((sums_x[2] + r * sums_h[2]).tanh() * drop) + z * h, None
    total = sums_x[0] + sums_h[0]
    return total.tanh() if mode == "RNN_TANH" else total.relu(), None


def sequence(mode, weights, x, gate_x, gate_h, order, candidate=None, zone_c=None, zone_h=None):
    """All steps of one sequence from zero states; masks have a row a gate, or a row a step for the rest."""
    units = weights[1].shape[1]
    h, c, found = torch.zeros(units).double(), torch.zeros(units).double(), {}
    for t in order:
        state = gate_h[t] if isinstance(gate_h, dict) else gate_h
        new, fresh = cell(mode, weights, x[t], h, c, gate_x, state, None if candidate is None else candidate[t])
        h = new if zone_h is None else zone_h[t] * h + (1 - zone_h[t]) * new
        c = c if fresh is None else fresh if zone_c is None else zone_c[t] * c + (1 - zone_c[t]) * fresh
        found[t] = h
    return torch.stack([found[t] for t in sorted(found)])
