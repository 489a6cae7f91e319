// The operators, through PyTorch's stable ABI: reads shapes and pointers, makes a plan, runs it on PyTorch's own
// threads.
#include <Python.h>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "binding.h"
#include "plan.h"

namespace dropkit {
namespace {

constexpr int64_t kGrain = 2;  // pieces worth a thread

DType dtype_of(const Tensor& x) {
  int32_t t;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &t));
  if (t == aoti_torch_dtype_float32()) return kFloat32;
  if (t == aoti_torch_dtype_bfloat16()) return kBFloat16;
  if (t == aoti_torch_dtype_float16()) return kFloat16;
  STD_TORCH_CHECK(t == aoti_torch_dtype_float64(),
                  "dropkit: x is float64, float32, float16 or bfloat16; got another type; convert it");
  return kFloat64;
}

Spec spec_of(const Tensor& seed, const Tensor& rate, int64_t stream, bool rescale) {
  int32_t seed_type, rate_type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(seed.get(), &seed_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(rate.get(), &rate_type));
  STD_TORCH_CHECK(seed.is_cpu() && seed.numel() == 1 && seed_type == aoti_torch_dtype_int64(),
                  "dropkit: seed is an int64 CPU tensor of one element; make it with torch.tensor(n)");
  STD_TORCH_CHECK(
      rate.is_cpu() && rate.numel() == 1 && rate_type == aoti_torch_dtype_float64(),
      "dropkit: rate is a float64 CPU tensor of one element; make it with torch.tensor(p, dtype=torch.float64)");
  const double p = *static_cast<const double*>(rate.const_data_ptr());
  STD_TORCH_CHECK(p >= 0 && p <= 1, "dropkit: rate lies in [0, 1]; got ", p);
  STD_TORCH_CHECK(stream >= 0 && stream >> 60 == 0, "dropkit: stream lies in [0, 2^60); got ", stream);
  return make_spec(*static_cast<const uint64_t*>(seed.const_data_ptr()), static_cast<uint64_t>(stream), p, rescale);
}

// The local mask as a box of the global one.
Box box_of(const Ints& shape, const Ints& global_shape, const Ints& offsets) {
  const size_t n = shape.size();
  const Ints& whole = global_shape.empty() ? shape : global_shape;
  STD_TORCH_CHECK(n <= kMaxDims && whole.size() == n && (offsets.empty() || offsets.size() == n),
                  "dropkit: mask_shape, global_shape and offsets have one entry a dimension of x; got ", n, ", ",
                  whole.size(), " and ", offsets.size());
  Box b;
  b.first = 0;
  b.dims = static_cast<int>(n);
  int64_t step = 1;
  for (size_t d = n; d-- > 0;) {
    const int64_t offset = offsets.empty() ? 0 : offsets[d];
    STD_TORCH_CHECK(shape[d] >= 0 && offset >= 0 && offset + shape[d] <= whole[d],
                    "dropkit: offset + local size stays within global_shape; got ", offset, " + ", shape[d], " > ",
                    whole[d], " in dimension ", d);
    b.size[d] = shape[d];
    b.step[d] = step;
    b.first += static_cast<uint64_t>(offset * step);
    step *= whole[d];
  }
  return b;
}

template <class F>
void in_parallel(int64_t pieces, const F& f) {
  if (pieces <= kGrain)
    f(int64_t(0), pieces);
  else
    torch::stable::parallel_for(0, pieces, kGrain, f);
}

void fill_mask(const Spec& spec, Box box, int64_t count, uint8_t* keep) {
  prepare_box(box);
  in_parallel((count + kPiece - 1) / kPiece, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * kPiece, to = end * kPiece < count ? end * kPiece : count;
    if (from < to) fill_box(spec, box, from, to, keep + from);
  });
}

struct Operands {
  const Tensor *x, *r, *y;
};

void run(const Spec& spec, const Box& box, const Operands& o) {
  Plan p;
  p.spec = spec;
  p.dtype = dtype_of(*o.x);
  p.x = o.x->const_data_ptr();
  p.r = o.r ? o.r->const_data_ptr() : nullptr;
  p.y = o.y->mutable_data_ptr();
  p.first = box.first;
  p.dims = box.dims;
  const auto sizes = o.x->sizes(), sx = o.x->strides(), sy = o.y->strides(), sr = o.r ? o.r->strides() : sx;
  int64_t step = 1;
  for (int d = box.dims - 1; d >= 0; --d) {
    const size_t i = static_cast<size_t>(d);
    STD_TORCH_CHECK(box.size[d] == sizes[i] || box.size[d] == 1,
                    "dropkit: mask_shape has x's size or 1 in each dimension; got ", box.size[d], " for ", sizes[i],
                    " in dimension ", d);
    const bool shared = box.size[d] == 1;
    p.dim[d] = Dim{sizes[i], sx[i], o.r ? sr[i] : 0, sy[i], shared ? 0 : box.step[d], shared ? 0 : step};
    step *= box.size[d];
  }
  prepare_plan(p);
  std::unique_ptr<uint8_t[]> table;
  if (p.needs_table) {
    table.reset(new uint8_t[static_cast<size_t>(step)]);
    fill_mask(spec, box, step, table.get());
    p.table = table.get();
  }
  in_parallel(p.pieces, [&](int64_t begin, int64_t end) { execute(p, begin, end); });
}

// Whether the elements fill a stretch of memory without gaps or overlaps, so that a result may take over the strides.
bool is_dense(const Tensor& x) {
  if (x.is_contiguous()) return true;
  const auto sizes = x.sizes(), strides = x.strides();
  int64_t expected = 1;
  for (size_t found = 0, d; found < sizes.size(); ++found) {  // looks for the dimension that comes next in memory
    for (d = 0; d < sizes.size() && !(sizes[d] > 1 && strides[d] == expected); ++d) {
    }
    if (d == sizes.size()) break;
    expected *= sizes[d];
  }
  return expected == x.numel();
}

// A result this large is always fresh memory from the system, and a first touch of every 4 KiB page costs eight times
// what the kernel does (2^24 floats: 25 ms of 28). Asks for 2 MiB pages, which the system grants where it is set to
// `madvise` or `always`. DROPKIT_HUGE_PAGES=0 in the environment turns this off.
void ask_for_huge_pages(const Tensor& y) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t(2) << 20, kFresh = uintptr_t(32) << 20;  // above it glibc reuses no block
  const uintptr_t bytes = static_cast<uintptr_t>(y.numel()) * y.element_size();
  if (bytes < kFresh) return;
  static const bool wanted = [] {
    const char* v = std::getenv("DROPKIT_HUGE_PAGES");
    return !v || std::strcmp(v, "0") != 0;
  }();
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(y.mutable_data_ptr()) + kHuge - 1) / kHuge * kHuge;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(y.mutable_data_ptr()) + bytes) / kHuge * kHuge;
  if (wanted && end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // refused is as well
#endif
}

Tensor result_like(const Tensor& x) {
  if (!is_dense(x)) return torch::stable::empty_like(x);
  int32_t dtype;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &dtype));
  AtenTensorHandle y;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(x.dim(), x.sizes().data(), x.strides().data(), dtype,
                                                  aoti_torch_device_type_cpu(), 0, &y));
  const Tensor result(y);
  ask_for_huge_pages(result);
  return result;
}

Tensor apply(const Tensor& x, const Tensor& seed, const Tensor& rate, const Ints& mask_shape, int64_t stream,
             bool rescale, const Ints& global_shape, const Ints& offsets) {
  const Spec spec = spec_of(seed, rate, stream, rescale);
  STD_TORCH_CHECK(static_cast<int64_t>(mask_shape.size()) == x.dim(),
                  "dropkit: mask_shape has as many dimensions as x");
  const Tensor y = result_like(x);
  run(spec, box_of(mask_shape, global_shape, offsets), {&x, nullptr, &y});
  return y;
}

void apply_inplace(Tensor x, const Tensor& seed, const Tensor& rate, const Ints& mask_shape, int64_t stream,
                   bool rescale, const Ints& global_shape, const Ints& offsets) {
  const Spec spec = spec_of(seed, rate, stream, rescale);
  STD_TORCH_CHECK(static_cast<int64_t>(mask_shape.size()) == x.dim(),
                  "dropkit: mask_shape has as many dimensions as x");
  for (int64_t d = 0; d < x.dim(); ++d) {
    STD_TORCH_CHECK(x.size(d) <= 1 || x.stride(d) != 0,
                    "dropkit: an in-place mask needs elements of their own; x is expanded; clone it");
  }
  run(spec, box_of(mask_shape, global_shape, offsets), {&x, nullptr, &x});
}

Tensor apply_add(const Tensor& residual, const Tensor& x, const Tensor& seed, const Tensor& rate,
                 const Ints& mask_shape, int64_t stream, bool rescale, const Ints& global_shape, const Ints& offsets) {
  const Spec spec = spec_of(seed, rate, stream, rescale);
  STD_TORCH_CHECK(static_cast<int64_t>(mask_shape.size()) == x.dim(),
                  "dropkit: mask_shape has as many dimensions as x");
  bool alike = residual.dim() == x.dim() && dtype_of(residual) == dtype_of(x) && residual.is_cpu();
  for (int64_t d = 0; alike && d < x.dim(); ++d) alike = residual.size(d) == x.size(d);
  STD_TORCH_CHECK(alike, "dropkit: residual has the shape, type and device of x; expand or convert it");
  const Tensor y = result_like(x);
  run(spec, box_of(mask_shape, global_shape, offsets), {&x, &residual, &y});
  return y;
}

Tensor keep_mask(const Tensor& seed, const Tensor& rate, const Ints& mask_shape, int64_t stream,
                 const Ints& global_shape, const Ints& offsets) {
  return make_keep_mask(spec_of(seed, rate, stream, true), mask_shape, global_shape, offsets);
}

Tensor noise(const Tensor& seed, const Ints& shape, int64_t stream, int64_t law) {
  STD_TORCH_CHECK(law == 0 || law == 1, "dropkit: a law of noise is 0 (uniform) or 1 (normal); got ", law);
  const Spec spec =
      make_spec(*static_cast<const uint64_t*>(seed.const_data_ptr()), static_cast<uint64_t>(stream), 0.0, false);
  Ints strides(shape.size());
  int64_t count = 1;
  for (size_t d = shape.size(); d-- > 0; count *= shape[d]) strides[d] = count;
  AtenTensorHandle h;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.data(), strides.data(),
                                                  aoti_torch_dtype_float32(), aoti_torch_device_type_cpu(), 0, &h));
  const Tensor values(h);
  if (!count) return values;
  ask_for_huge_pages(values);
  float* out = static_cast<float*>(values.mutable_data_ptr());
  const NoiseFn fill = active_kernels().noise;
  in_parallel((count + kPiece - 1) / kPiece, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * kPiece, to = end * kPiece < count ? end * kPiece : count;
    if (from < to) fill(spec, static_cast<uint64_t>(from) / 4, to - from, static_cast<int>(law), out + from);
  });
  return values;
}

}  // namespace

Tensor make_keep_mask(const Spec& spec, const Ints& mask_shape, const Ints& global_shape, const Ints& offsets) {
  const Box box = box_of(mask_shape, global_shape, offsets);
  Ints strides(mask_shape.size());
  int64_t count = 1;
  for (size_t d = mask_shape.size(); d-- > 0; count *= mask_shape[d]) strides[d] = count;
  AtenTensorHandle h;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(mask_shape.size()), mask_shape.data(),
                                                  strides.data(), aoti_torch_dtype_bool(), aoti_torch_device_type_cpu(),
                                                  0, &h));
  const Tensor keep(h);
  if (count) fill_mask(spec, box, count, static_cast<uint8_t*>(keep.mutable_data_ptr()));
  return keep;
}

}  // namespace dropkit

#define MASK_ARGS "Tensor seed, Tensor rate, SymInt[] mask_shape, int stream, "
#define SHARD_ARGS "SymInt[] global_shape, SymInt[] offsets"

STABLE_TORCH_LIBRARY(dropkit, m) {
  m.def("apply(Tensor x, " MASK_ARGS "bool rescale, " SHARD_ARGS ") -> Tensor");
  m.def("apply_(Tensor(a!) x, " MASK_ARGS "bool rescale, " SHARD_ARGS ") -> ()");
  m.def("apply_add(Tensor residual, Tensor x, " MASK_ARGS "bool rescale, " SHARD_ARGS ") -> Tensor");
  m.def("noise(Tensor seed, SymInt[] shape, int stream, int law) -> Tensor");
  m.def("keep_mask(" MASK_ARGS SHARD_ARGS ") -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dropkit, CPU, m) {
  m.impl("apply", TORCH_BOX(&dropkit::apply));
  m.impl("apply_", TORCH_BOX(&dropkit::apply_inplace));
  m.impl("apply_add", TORCH_BOX(&dropkit::apply_add));
  m.impl("noise", TORCH_BOX(&dropkit::noise));
  m.impl("keep_mask", TORCH_BOX(&dropkit::keep_mask));
}

static PyObject* isa(PyObject*, PyObject*) { return PyUnicode_FromString(dropkit::active_kernels().name); }

PyMODINIT_FUNC PyInit__native(void) {
  static PyMethodDef methods[] = {{"isa", isa, METH_NOARGS, "Name of the instruction set in use."},
                                  {nullptr, nullptr, 0, nullptr}};
  static PyModuleDef module = {
      PyModuleDef_HEAD_INIT, "_native", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};
  try {
    dropkit::active_kernels();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_ImportError, e.what());
    return nullptr;
  }
  return PyModule_Create(&module);
}
