// The operator of moments, through PyTorch's stable ABI.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <tuple>

#include "binding.h"
#include "moments.h"

namespace dropkit {
namespace {

constexpr int64_t kGrainMoments = 16384;  // elements worth a thread

bool is_float(const Tensor& x) {
  int32_t type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &type));
  return x.is_cpu() && type == aoti_torch_dtype_float32();
}

// Both are laid out alike, without gaps; so are the results.
std::tuple<Tensor, Tensor> relu_moments(const Tensor& mean, const Tensor& variance, double slope) {
  bool alike = is_float(mean) && is_float(variance) && mean.dim() == variance.dim();
  for (int64_t d = 0; alike && d < mean.dim(); ++d)
    alike = mean.size(d) == variance.size(d) && mean.stride(d) == variance.stride(d);
  STD_TORCH_CHECK(alike, "dropkit: mean and variance are float32 CPU tensors of one shape and layout; convert them");
  const Tensor m = result_like(mean), v = result_like(mean);
  bool dense = true;
  for (int64_t d = 0; d < mean.dim(); ++d) dense &= m.stride(d) == mean.stride(d) || mean.size(d) < 2;
  STD_TORCH_CHECK(dense, "dropkit: mean and variance fill their memory without gaps; make them contiguous");
  const auto *from = static_cast<const float*>(mean.const_data_ptr()), *with = static_cast<const float*>(variance.const_data_ptr());
  auto *to = static_cast<float*>(m.mutable_data_ptr()), *and_to = static_cast<float*>(v.mutable_data_ptr());
  const RectifyFn rectify = slope == 0 ? active_rectifiers().plain : active_rectifiers().leaky;
  const auto stretch = [&](int64_t begin, int64_t end) {
    rectify(end - begin, from + begin, with + begin, to + begin, and_to + begin, static_cast<float>(slope));
  };
  if (mean.numel() <= kGrainMoments)
    stretch(0, mean.numel());
  else
    torch::stable::parallel_for(0, mean.numel(), kGrainMoments, stretch);
  return {m, v};
}

}  // namespace
}  // namespace dropkit

STABLE_TORCH_LIBRARY_FRAGMENT(dropkit, m) {
  m.def("relu_moments(Tensor mean, Tensor variance, float slope) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(dropkit, CPU, m) { m.impl("relu_moments", TORCH_BOX(&dropkit::relu_moments)); }
