// Torch-free check of plans: random shapes, strides, shared dimensions, shards and residuals against the definition,
// element by element; and of noise that is laid over the same.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <vector>

#include "plan.h"
#include "runs_common.h"

using namespace dropkit;

static uint64_t state = 88172645463325252ull;
static uint64_t next() {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}
static int64_t below(int64_t n) { return static_cast<int64_t>((next() >> 16) % static_cast<uint64_t>(n)); }

struct Layout {
  std::vector<int64_t> stride;
  std::vector<float> memory;
};

// Random order of dimensions in memory, sometimes with gaps; inputs sometimes expanded (stride 0).
static Layout layout(const std::vector<int64_t>& size, bool may_overlap) {
  std::vector<int> order(size.size());
  std::iota(order.begin(), order.end(), 0);
  if (below(2))
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
  Layout l{std::vector<int64_t>(size.size()), {}};
  int64_t step = below(4) ? 1 : 2, last = 0;
  for (size_t i = order.size(); i-- > 0;) {
    const auto d = static_cast<size_t>(order[i]);
    l.stride[d] = may_overlap && below(8) == 0 ? 0 : step;
    if (l.stride[d]) step *= size[d];
    if (below(5) == 0) step += below(4);
    last += l.stride[d] * std::max<int64_t>(0, size[d] - 1);
  }
  l.memory.resize(static_cast<size_t>(last + 1));
  for (auto& f : l.memory) f = static_cast<float>(below(2001) - 1000) / 64;
  return l;
}

// Where element `e` of a plan that is not prepared yet lies in input and output, and its index in the global mask.
struct Spot {
  size_t x, y;
  uint64_t index;
};
static Spot spot(const Plan& p, int64_t e) {
  Spot s{0, 0, p.first};
  for (int d = p.dims; d-- > 0; e /= p.dim[d].size) {
    const int64_t c = e % p.dim[d].size;
    s.x += static_cast<size_t>(c * p.dim[d].x);
    s.y += static_cast<size_t>(c * p.dim[d].y);
    s.index += static_cast<uint64_t>(c * p.dim[d].mask);
  }
  return s;
}

static bool noise_is_laid_right(Plan raw, const Box& box, int64_t local, int64_t total, const Layout& x, Layout y) {
  static const Law laws[] = {kNormal, kSigned};
  NoisePlan n{raw, laws[below(2)], 0.37, nullptr};
  n.plan.spec = make_noise_spec(next(), next() >> 4);
  n.plan.y = y.memory.data();
  std::vector<float> want = y.memory, table(static_cast<size_t>(local));
  for (int64_t e = 0; e < total; ++e) {
    const Spot s = spot(n.plan, e);
    float value;
    scalar_kernels()->noise(n.plan.spec, s.index, 1, n.law, &value);
    want[s.y] = x.memory[s.x] * (0.37f * value + 1.0f);
  }
  prepare_plan(n.plan);
  for (int64_t i = 0, m; i < local; i += m)
    fill_noise_box(n.plan.spec, box, n.law, i, i + (m = std::min<int64_t>(local - i, 1 + below(900))), table.data() + i);
  if (n.plan.needs_table) n.table = table.data();
  for (int64_t i = 0, m; i < n.plan.pieces; i += m)
    execute_noise(n, i, i + (m = std::min<int64_t>(n.plan.pieces - i, 1 + below(3))));
  return std::memcmp(want.data(), y.memory.data(), want.size() * sizeof(float)) == 0;
}

static bool one() {
  static const int64_t sizes[] = {1, 1, 2, 3, 5, 7, 8, 16, 17, 49, 64, 130, 300};
  const double rates[] = {0, 1, 0.1, 0.3, 0.5};
  std::vector<int64_t> size(static_cast<size_t>(1 + below(5)));
  int64_t total = 1;
  for (auto& s : size) {
    s = sizes[below(13)];
    if (total * s > 60000) s = 1;
    total *= s;
  }
  const size_t n = size.size();
  const Layout x = layout(size, true), r = layout(size, true);
  Layout y = layout(size, false);
  const bool add = below(3) == 0;
  Plan p;
  p.spec = make_spec(next(), next() >> 4, rates[below(5)], below(2));
  p.dtype = kFloat32;
  p.x = x.memory.data();
  p.r = add ? r.memory.data() : nullptr;
  p.y = y.memory.data();
  p.dims = static_cast<int>(n);
  p.first = 0;
  int64_t step = 1, local = 1;
  Box box;
  box.dims = p.dims;
  for (size_t d = n; d-- > 0;) {
    const bool shared = below(3) == 0;
    const int64_t here = shared ? 1 : size[d], whole = below(3) ? here : here + below(50),
                  offset = below(whole - here + 1);
    p.dim[d] = Dim{size[d],
                   x.stride[d],
                   add ? r.stride[d] : 0,
                   y.stride[d],
                   shared || here == 1 ? 0 : step,
                   shared || here == 1 ? 0 : local};
    box.size[d] = here;
    box.step[d] = step;
    p.first += static_cast<uint64_t>(offset * step);
    step *= whole;
    local *= here;
  }
  const std::vector<Dim> dims(p.dim, p.dim + n);
  box.first = p.first;
  prepare_box(box);
  if (!add && total <= 20000 && !noise_is_laid_right(p, box, local, total, x, y)) return false;
  prepare_plan(p);
  std::vector<uint8_t> table(static_cast<size_t>(local));
  for (int64_t i = 0, m; i < local; i += m)
    fill_box(p.spec, box, i, i + (m = std::min<int64_t>(local - i, 1 + below(9000))), table.data() + i);
  if (p.needs_table) p.table = table.data();
  const std::vector<float> before = y.memory;
  for (int64_t i = 0, m; i < p.pieces; i += m) execute(p, i, i + (m = std::min<int64_t>(p.pieces - i, 1 + below(3))));
  std::vector<float> want = before;
  for (int64_t e = 0; e < total; ++e) {
    int64_t rest = e, ix = 0, ir = 0, iy = 0, mask = 0;
    for (size_t d = n; d-- > 0;) {
      const int64_t c = rest % size[d];
      rest /= size[d];
      ix += c * dims[d].x;
      ir += c * dims[d].r;
      iy += c * dims[d].y;
      mask += c * dims[d].mask;
    }
    const uint64_t index = p.first + static_cast<uint64_t>(mask);
    const Words w = mask_block(p.spec, index / 16);
    const bool keep = p.spec.mode == Mode::kRandom
                          ? byte_kept(p.spec, static_cast<uint8_t>(w.w[index % 16 / 4] >> 8 * (index % 4)), index)
                          : p.spec.mode == Mode::kKeepAll;
    float v = keep ? x.memory[static_cast<size_t>(ix)] * static_cast<float>(p.spec.scale) : 0.0f;
    if (add) v = r.memory[static_cast<size_t>(ir)] + v;
    want[static_cast<size_t>(iy)] = v;
  }
  return std::memcmp(want.data(), y.memory.data(), want.size() * sizeof(float)) ==
         0;  // gaps between the rows untouched, too
}

int main() {
  int failures = 0;
  for (int i = 0; i < 3000; ++i) failures += !one();
  std::printf("%s: 3000 plans, %d failures\n", active_kernels().name, failures);
  return failures != 0;
}
