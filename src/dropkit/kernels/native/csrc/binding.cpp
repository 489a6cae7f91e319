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

uint64_t seed_of(const Tensor& seed, int64_t stream) {
  int32_t type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(seed.get(), &type));
  STD_TORCH_CHECK(seed.is_cpu() && seed.numel() == 1 && type == aoti_torch_dtype_int64(),
                  "dropkit: seed is an int64 CPU tensor of one element; make it with torch.tensor(n)");
  STD_TORCH_CHECK(stream >= 0 && stream >> 60 == 0, "dropkit: stream lies in [0, 2^60); got ", stream);
  return *static_cast<const uint64_t*>(seed.const_data_ptr());
}

double number_of(const Tensor& number, const char* name) {
  int32_t type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(number.get(), &type));
  STD_TORCH_CHECK(number.is_cpu() && number.numel() == 1 && type == aoti_torch_dtype_float64(), "dropkit: ", name,
                  " is a float64 CPU tensor of one element; make it with torch.tensor(p, dtype=torch.float64)");
  return *static_cast<const double*>(number.const_data_ptr());
}

Spec spec_of(const Tensor& seed, const Tensor& rate, int64_t stream, int64_t scaling) {
  const uint64_t key = seed_of(seed, stream);
  const double p = number_of(rate, "rate");
  STD_TORCH_CHECK(p >= 0 && p <= 1, "dropkit: rate lies in [0, 1]; got ", p);
  STD_TORCH_CHECK(scaling >= kUnscaled && scaling <= kAlpha,
                  "dropkit: scaling is 0 (none), 1 (inverted) or 2 (alpha); got ", scaling);
  return make_spec(key, static_cast<uint64_t>(stream), p, scaling);
}

Spec noise_spec_of(const Tensor& seed, int64_t stream, int64_t law) {
  STD_TORCH_CHECK(law == kUniform || law == kNormal, "dropkit: a law of noise is 0 (uniform) or 1 (normal); got ", law);
  return make_noise_spec(seed_of(seed, stream), static_cast<uint64_t>(stream));
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

// f(from, to) for stretches that together make up [0, count).
template <class F>
void in_stretches(int64_t count, const F& f) {
  in_parallel((count + kPiece - 1) / kPiece, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * kPiece, to = end * kPiece < count ? end * kPiece : count;
    if (from < to) f(from, to);
  });
}

void fill_mask(const Spec& spec, Box box, int64_t count, uint8_t* keep) {
  prepare_box(box);
  in_stretches(count, [&](int64_t from, int64_t to) { fill_box(spec, box, from, to, keep + from); });
}

void fill_noise(const Spec& spec, Box box, Law law, int64_t count, float* out) {
  prepare_box(box);
  in_stretches(count, [&](int64_t from, int64_t to) { fill_noise_box(spec, box, law, from, to, out + from); });
}

// The tensors of a plan; where `lead` is 1 their first dimension holds as many runs, and this is run number `at`.
struct Operands {
  const Tensor *x, *r, *y;
  size_t lead = 0;
  int64_t at = 0;
};

// Prepares a plan and returns how many elements the local mask has.
int64_t plan_for(const Spec& spec, const Box& box, const Operands& o, Plan& p) {
  p.spec = spec;
  p.dtype = dtype_of(*o.x);
  const int64_t size = static_cast<int64_t>(o.x->element_size());
  const auto skipped = [&](const Tensor& t) { return o.lead ? o.at * t.strides()[0] * size : 0; };
  p.x = static_cast<const char*>(o.x->const_data_ptr()) + skipped(*o.x);
  p.r = o.r ? o.r->const_data_ptr() : nullptr;
  p.y = static_cast<char*>(o.y->mutable_data_ptr()) + skipped(*o.y);
  p.first = box.first;
  p.dims = box.dims;
  const auto sizes = o.x->sizes(), sx = o.x->strides(), sy = o.y->strides(), sr = o.r ? o.r->strides() : sx;
  int64_t step = 1;
  for (int d = box.dims - 1; d >= 0; --d) {
    const size_t i = static_cast<size_t>(d) + o.lead;
    STD_TORCH_CHECK(box.size[d] == sizes[i] || box.size[d] == 1,
                    "dropkit: mask_shape has x's size or 1 in each dimension; got ", box.size[d], " for ", sizes[i],
                    " in dimension ", d);
    const bool shared = box.size[d] == 1;
    p.dim[d] = Dim{sizes[i], sx[i], o.r ? sr[i] : 0, sy[i], shared ? 0 : box.step[d], shared ? 0 : step};
    step *= box.size[d];
  }
  prepare_plan(p);
  return step;
}

void run(const Spec& spec, const Box& box, const Operands& o) {
  Plan p;
  const int64_t size = plan_for(spec, box, o, p);
  std::unique_ptr<uint8_t[]> table;
  if (p.needs_table) {
    table.reset(new uint8_t[static_cast<size_t>(size)]);
    fill_mask(spec, box, size, table.get());
    p.table = table.get();
  }
  in_parallel(p.pieces, [&](int64_t begin, int64_t end) { execute(p, begin, end); });
}

void run_noise(const Spec& spec, const Box& box, const Operands& o, Law law, double strength) {
  NoisePlan n{{}, law, strength, nullptr};
  const int64_t size = plan_for(spec, box, o, n.plan);
  std::unique_ptr<float[]> table;
  if (n.plan.needs_table) {
    table.reset(new float[static_cast<size_t>(size)]);
    fill_noise(spec, box, law, size, table.get());
    n.table = table.get();
  }
  in_parallel(n.plan.pieces, [&](int64_t begin, int64_t end) { execute_noise(n, begin, end); });
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

Tensor new_tensor(const Ints& shape, int32_t dtype) {
  Ints strides(shape.size());
  int64_t count = 1;
  for (size_t d = shape.size(); d-- > 0; count *= shape[d]) strides[d] = count;
  AtenTensorHandle y;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.data(), strides.data(), dtype,
                                                  aoti_torch_device_type_cpu(), 0, &y));
  return Tensor(y);
}

Tensor apply(const Tensor& x, const Tensor& seed, const Tensor& rate, const Ints& mask_shape, int64_t stream,
             int64_t scaling, const Ints& global_shape, const Ints& offsets) {
  const Spec spec = spec_of(seed, rate, stream, scaling);
  STD_TORCH_CHECK(static_cast<int64_t>(mask_shape.size()) == x.dim(),
                  "dropkit: mask_shape has as many dimensions as x");
  const Tensor y = result_like(x);
  run(spec, box_of(mask_shape, global_shape, offsets), {&x, nullptr, &y});
  return y;
}

void apply_inplace(Tensor x, const Tensor& seed, const Tensor& rate, const Ints& mask_shape, int64_t stream,
                   int64_t scaling, const Ints& global_shape, const Ints& offsets) {
  const Spec spec = spec_of(seed, rate, stream, scaling);
  STD_TORCH_CHECK(static_cast<int64_t>(mask_shape.size()) == x.dim(),
                  "dropkit: mask_shape has as many dimensions as x");
  for (int64_t d = 0; d < x.dim(); ++d) {
    STD_TORCH_CHECK(x.size(d) <= 1 || x.stride(d) != 0,
                    "dropkit: an in-place mask needs elements of their own; x is expanded; clone it");
  }
  run(spec, box_of(mask_shape, global_shape, offsets), {&x, nullptr, &x});
}

Tensor apply_add(const Tensor& residual, const Tensor& x, const Tensor& seed, const Tensor& rate,
                 const Ints& mask_shape, int64_t stream, int64_t scaling, const Ints& global_shape, const Ints& offsets) {
  const Spec spec = spec_of(seed, rate, stream, scaling);
  STD_TORCH_CHECK(static_cast<int64_t>(mask_shape.size()) == x.dim(),
                  "dropkit: mask_shape has as many dimensions as x");
  bool alike = residual.dim() == x.dim() && dtype_of(residual) == dtype_of(x) && residual.is_cpu();
  for (int64_t d = 0; alike && d < x.dim(); ++d) alike = residual.size(d) == x.size(d);
  STD_TORCH_CHECK(alike, "dropkit: residual has the shape, type and device of x; expand or convert it");
  const Tensor y = result_like(x);
  run(spec, box_of(mask_shape, global_shape, offsets), {&x, &residual, &y});
  return y;
}

// x[k] masked with seeds[k], for all k.
Tensor apply_batch(const Tensor& x, const Tensor& seeds, const Tensor& rate, const Ints& mask_shape, int64_t stream,
                   int64_t scaling, const Ints& global_shape, const Ints& offsets) {
  int32_t type, dtype;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(seeds.get(), &type));
  STD_TORCH_CHECK(seeds.is_cpu() && seeds.dim() == 1 && type == aoti_torch_dtype_int64() && seeds.is_contiguous() &&
                      x.dim() == static_cast<int64_t>(mask_shape.size()) + 1 && x.size(0) == seeds.size(0),
                  "dropkit: seeds are contiguous int64 on the CPU, one for each entry of x's first dimension");
  const auto* keys = static_cast<const uint64_t*>(seeds.const_data_ptr());
  const Box box = box_of(mask_shape, global_shape, offsets);
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &dtype));
  const Tensor y = new_tensor(Ints(x.sizes().begin(), x.sizes().end()), dtype);
  ask_for_huge_pages(y);
  STD_TORCH_CHECK(stream >= 0 && stream >> 60 == 0, "dropkit: stream lies in [0, 2^60); got ", stream);
  const double p = number_of(rate, "rate");
  STD_TORCH_CHECK(p >= 0 && p <= 1 && scaling >= kUnscaled && scaling <= kAlpha,
                  "dropkit: rate lies in [0, 1] and scaling is 0, 1 or 2");
  for (int64_t k = 0; k < x.size(0); ++k) {
    run(make_spec(keys[k], static_cast<uint64_t>(stream), p, scaling), box, {&x, nullptr, &y, 1, k});
  }
  return y;
}

Tensor keep_mask(const Tensor& seed, const Tensor& rate, const Ints& mask_shape, int64_t stream,
                 const Ints& global_shape, const Ints& offsets) {
  return make_keep_mask(spec_of(seed, rate, stream, kUnscaled), mask_shape, global_shape, offsets);
}

Tensor noise(const Tensor& seed, const Ints& shape, int64_t stream, int64_t law, const Ints& global_shape,
             const Ints& offsets) {
  const Spec spec = noise_spec_of(seed, stream, law);
  const Box box = box_of(shape, global_shape, offsets);
  const Tensor values = new_tensor(shape, aoti_torch_dtype_float32());
  ask_for_huge_pages(values);
  fill_noise(spec, box, static_cast<Law>(law), values.numel(), static_cast<float*>(values.mutable_data_ptr()));
  return values;
}

Tensor apply_noise(const Tensor& x, const Tensor& seed, const Tensor& strength, int64_t law, const Ints& mask_shape,
                   int64_t stream, const Ints& global_shape, const Ints& offsets) {
  const Spec spec = noise_spec_of(seed, stream, law);
  const double s = number_of(strength, "strength");
  STD_TORCH_CHECK(static_cast<int64_t>(mask_shape.size()) == x.dim(),
                  "dropkit: mask_shape has as many dimensions as x");
  const Tensor y = result_like(x);
  run_noise(spec, box_of(mask_shape, global_shape, offsets), {&x, nullptr, &y}, law == kNormal ? kNormal : kSigned, s);
  return y;
}

}  // namespace

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

Tensor make_keep_mask(const Spec& spec, const Ints& mask_shape, const Ints& global_shape, const Ints& offsets) {
  const Box box = box_of(mask_shape, global_shape, offsets);
  const Tensor keep = new_tensor(mask_shape, aoti_torch_dtype_bool());
  fill_mask(spec, box, keep.numel(), static_cast<uint8_t*>(keep.mutable_data_ptr()));
  return keep;
}

}  // namespace dropkit

#define MASK_ARGS "Tensor seed, Tensor rate, SymInt[] mask_shape, int stream, "
#define SHARD_ARGS "SymInt[] global_shape, SymInt[] offsets"

STABLE_TORCH_LIBRARY(dropkit, m) {
  m.def("apply(Tensor x, " MASK_ARGS "int scaling, " SHARD_ARGS ") -> Tensor");
  m.def("apply_batch(Tensor x, Tensor seeds, Tensor rate, SymInt[] mask_shape, int stream, int scaling, " SHARD_ARGS
        ") -> Tensor");
  m.def("apply_(Tensor(a!) x, " MASK_ARGS "int scaling, " SHARD_ARGS ") -> ()");
  m.def("apply_add(Tensor residual, Tensor x, " MASK_ARGS "int scaling, " SHARD_ARGS ") -> Tensor");
  m.def("noise(Tensor seed, SymInt[] shape, int stream, int law, SymInt[] global_shape=[], SymInt[] offsets=[]) -> Tensor");
  m.def("apply_noise(Tensor x, Tensor seed, Tensor strength, int law, SymInt[] mask_shape, int stream, " SHARD_ARGS
        ") -> Tensor");
  m.def("keep_mask(" MASK_ARGS SHARD_ARGS ") -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dropkit, CPU, m) {
  m.impl("apply", TORCH_BOX(&dropkit::apply));
  m.impl("apply_batch", TORCH_BOX(&dropkit::apply_batch));
  m.impl("apply_", TORCH_BOX(&dropkit::apply_inplace));
  m.impl("apply_add", TORCH_BOX(&dropkit::apply_add));
  m.impl("noise", TORCH_BOX(&dropkit::noise));
  m.impl("apply_noise", TORCH_BOX(&dropkit::apply_noise));
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
