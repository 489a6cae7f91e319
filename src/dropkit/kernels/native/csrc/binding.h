// Shared by the files that register operators.
#pragma once
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "philox.h"

namespace dropkit {

using torch::stable::Tensor;
using Ints = std::vector<int64_t>;

// An empty tensor like x, of its layout where x has no gaps.
Tensor result_like(const Tensor& x);

// A bool tensor of the shape `mask_shape`.
Tensor make_keep_mask(const Spec& spec, const Ints& mask_shape, const Ints& global_shape, const Ints& offsets);

}  // namespace dropkit
