// Derivatives of the operators in C++, for the PyTorch this was compiled against and no other: autograd's nodes are not
// part of the stable ABI. Without this file the same derivatives are registered from Python, 8 us a call slower.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <Python.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/library.h>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using at::Tensor;
using Shape = c10::SymIntArrayRef;
using torch::autograd::variable_list;

constexpr int64_t kInverted = 1;  // as in csrc/philox.h

using Apply = Tensor(const Tensor&, const Tensor&, const Tensor&, Shape, int64_t, int64_t, Shape, Shape);
using ApplyAdd = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Shape, int64_t, int64_t, Shape, Shape);

using ApplyNoise = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, Shape, int64_t, Shape, Shape);

const c10::TypedOperatorHandle<Apply>& apply_op() {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("dropkit::apply", "").typed<Apply>();
  return op;
}

const c10::TypedOperatorHandle<ApplyAdd>& apply_add_op() {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("dropkit::apply_add", "").typed<ApplyAdd>();
  return op;
}

const c10::TypedOperatorHandle<ApplyNoise>& apply_noise_op() {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("dropkit::apply_noise", "").typed<ApplyNoise>();
  return op;
}

// What the mask of one call is made of, which is all that is kept for the backward pass: two elements and some
// integers.
struct Law {
  torch::autograd::SavedVariable seed, rate;
  std::vector<c10::SymInt> mask_shape, global_shape, offsets;
  int64_t stream, scaling;

  // The operator is linear in x: its derivative is itself, applied to the gradient.
  Tensor operator()(const Tensor& grad) const {
    return apply_op().call(grad, seed.unpack(), rate.unpack(), mask_shape, stream, scaling, global_shape, offsets);
  }
  void release() {
    seed.reset_data();
    rate.reset_data();
  }
};

struct DropkitApplyBackward : public torch::autograd::Node {
  Law law;
  variable_list apply(variable_list&& grads) override {
    return {grads[0].defined() && task_should_compute_output(0) ? law(grads[0]) : Tensor()};
  }
  void release_variables() override { law.release(); }
  std::string name() const override { return "DropkitApplyBackward"; }
};

struct DropkitApplyAddBackward : public torch::autograd::Node {
  Law law;
  variable_list apply(variable_list&& grads) override {
    return {task_should_compute_output(0) ? grads[0] : Tensor(),
            grads[0].defined() && task_should_compute_output(1) ? law(grads[0]) : Tensor()};
  }
  void release_variables() override { law.release(); }
  std::string name() const override { return "DropkitApplyAddBackward"; }
};

struct DropkitApplyNoiseBackward : public torch::autograd::Node {
  torch::autograd::SavedVariable seed, strength;
  std::vector<c10::SymInt> mask_shape, global_shape, offsets;
  int64_t law, stream;
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined() || !task_should_compute_output(0)) return {Tensor()};
    return {apply_noise_op().call(grads[0], seed.unpack(), strength.unpack(), law, mask_shape, stream, global_shape,
                                  offsets)};
  }
  void release_variables() override {
    seed.reset_data();
    strength.reset_data();
  }
  std::string name() const override { return "DropkitApplyNoiseBackward"; }
};

// Nodes are shared pointers of one kind or another, depending on PyTorch's version.
template <class N>
auto make_node() {
  if constexpr (std::is_same_v<decltype(torch::autograd::Edge::function), std::shared_ptr<torch::autograd::Node>>) {
    return std::make_shared<N>();
  } else {
    return c10::make_intrusive<N>();
  }
}

Tensor apply(c10::DispatchKeySet keys, const Tensor& x, const Tensor& seed, const Tensor& rate, Shape mask_shape,
             int64_t stream, int64_t scaling, Shape global_shape, Shape offsets) {
  decltype(make_node<DropkitApplyBackward>()) node;
  if (torch::autograd::compute_requires_grad(x)) {
    node = make_node<DropkitApplyBackward>();
    node->set_next_edges(torch::autograd::collect_next_edges(x));
    node->law = {{seed, false}, {rate, false}, mask_shape.vec(), global_shape.vec(), offsets.vec(), stream, scaling};
  }
  Tensor y;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    y = apply_op().redispatch(keys & c10::after_autograd_keyset, x, seed, rate, mask_shape, stream, scaling,
                              global_shape, offsets);
  }
  if (node) torch::autograd::set_history(y, node);
  if (torch::autograd::isFwGradDefined(x)) {
    y._set_fw_grad(apply_op().call(x._fw_grad(0), seed, rate, mask_shape, stream, scaling, global_shape, offsets), 0,
                   false);
  }
  return y;
}

Tensor apply_add(c10::DispatchKeySet keys, const Tensor& residual, const Tensor& x, const Tensor& seed,
                 const Tensor& rate, Shape mask_shape, int64_t stream, int64_t scaling, Shape global_shape,
                 Shape offsets) {
  decltype(make_node<DropkitApplyAddBackward>()) node;
  if (torch::autograd::compute_requires_grad(residual, x)) {
    node = make_node<DropkitApplyAddBackward>();
    node->set_next_edges(torch::autograd::collect_next_edges(residual, x));
    node->law = {{seed, false}, {rate, false}, mask_shape.vec(), global_shape.vec(), offsets.vec(), stream, scaling};
  }
  Tensor y;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    y = apply_add_op().redispatch(keys & c10::after_autograd_keyset, residual, x, seed, rate, mask_shape, stream,
                                  scaling, global_shape, offsets);
  }
  if (node) torch::autograd::set_history(y, node);
  const bool moves = torch::autograd::isFwGradDefined(x), rests = torch::autograd::isFwGradDefined(residual);
  if (moves || rests) {
    Tensor t = moves ? apply_op().call(x._fw_grad(0), seed, rate, mask_shape, stream, scaling, global_shape, offsets)
                     : Tensor();
    if (rests) t = moves ? t + residual._fw_grad(0) : residual._fw_grad(0);
    y._set_fw_grad(t, 0, false);
  }
  return y;
}

Tensor apply_noise(c10::DispatchKeySet keys, const Tensor& x, const Tensor& seed, const Tensor& strength, int64_t law,
                   Shape mask_shape, int64_t stream, Shape global_shape, Shape offsets) {
  decltype(make_node<DropkitApplyNoiseBackward>()) node;
  if (torch::autograd::compute_requires_grad(x)) {
    node = make_node<DropkitApplyNoiseBackward>();
    node->set_next_edges(torch::autograd::collect_next_edges(x));
    node->seed = {seed, false};
    node->strength = {strength, false};
    node->mask_shape = mask_shape.vec();
    node->global_shape = global_shape.vec();
    node->offsets = offsets.vec();
    node->law = law;
    node->stream = stream;
  }
  Tensor y;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    y = apply_noise_op().redispatch(keys & c10::after_autograd_keyset, x, seed, strength, law, mask_shape, stream,
                                    global_shape, offsets);
  }
  if (node) torch::autograd::set_history(y, node);
  if (torch::autograd::isFwGradDefined(x)) {
    y._set_fw_grad(apply_noise_op().call(x._fw_grad(0), seed, strength, law, mask_shape, stream, global_shape, offsets),
                   0, false);
  }
  return y;
}

// Eager calls without a keyed context: one operator draws the seed and applies the mask.
Tensor draw_and_apply(const Tensor& x, double rate, std::optional<at::Generator> generator, Shape mask_shape) {
  Tensor seed, p;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    // As torch.randint in dropkit.core.seeds, so that both draw the same seeds.
    seed = at::empty({}, at::kLong).random_(INT64_MIN, INT64_MAX, std::move(generator));
    p = at::empty({}, at::kDouble);
    *p.mutable_data_ptr<double>() = rate;
  }
  return apply_op().call(x, seed, p, mask_shape.empty() ? x.sym_sizes() : mask_shape, 0, kInverted, {}, {});
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(dropkit, m) {
  m.def("draw_and_apply(Tensor x, float rate, Generator? generator=None, SymInt[] mask_shape=[]) -> Tensor");
}
TORCH_LIBRARY_IMPL(dropkit, Autograd, m) {
  m.impl("apply", apply);
  m.impl("apply_add", apply_add);
  m.impl("apply_noise", apply_noise);
}
TORCH_LIBRARY_IMPL(dropkit, CompositeImplicitAutograd, m) { m.impl("draw_and_apply", draw_and_apply); }

#define DROPKIT_INIT_NAME(name) PyInit_##name
#define DROPKIT_INIT(name) DROPKIT_INIT_NAME(name)
#define DROPKIT_TEXT_OF(name) #name
#define DROPKIT_TEXT(name) DROPKIT_TEXT_OF(name)

PyMODINIT_FUNC DROPKIT_INIT(TORCH_EXTENSION_NAME)(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, DROPKIT_TEXT(TORCH_EXTENSION_NAME), nullptr, -1, nullptr, nullptr,
                               nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
