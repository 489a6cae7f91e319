// Torch-free check of every table this machine has against the scalar definition, for sanitizers and for emulated
// processors. Buffers are exactly as long as the run, so that a read or write past an end is caught.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "element.h"
#include "kernels.h"
#include "noise_map.h"

using namespace dropkit;

static uint64_t state = 88172645463325252ull;
static uint64_t next() {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static std::vector<uint8_t> data(DType t, int64_t n) {
  std::vector<uint8_t> v(static_cast<size_t>(n * dtype_size(t)));
  for (auto& b : v) b = static_cast<uint8_t>(next() >> 32);  // raw bits: NaN, infinities and subnormals included
  return v;
}

// NaNs are compared as NaNs: two operands' payloads may come out of an addition either way.
static bool is_nan(DType t, const uint8_t* p) {
  if (t == kFloat32) {
    uint32_t u;
    std::memcpy(&u, p, 4);
    return (u & 0x7FFFFFFFu) > 0x7F800000u;
  }
  if (t == kFloat64) {
    uint64_t u;
    std::memcpy(&u, p, 8);
    return (u << 1) > 0xFFE0000000000000ull;
  }
  uint16_t u;
  std::memcpy(&u, p, 2);
  return (u & 0x7FFFu) > (t == kFloat16 ? 0x7C00u : 0x7F80u);
}

static bool same(DType t, const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  const auto w = static_cast<size_t>(dtype_size(t));
  for (size_t i = 0; i < a.size(); i += w) {
    if (std::memcmp(&a[i], &b[i], w) && !(is_nan(t, &a[i]) && is_nan(t, &b[i]))) return false;
  }
  return true;
}

static int failures = 0;
static void check(bool ok, const char* isa, const char* what, int t, int add, uint64_t n0, int64_t n, double p) {
  if (ok) return;
  ++failures;
  std::printf("FAIL %s %s type %d add %d n0 %llu n %lld p %g\n", isa, what, t, add, (unsigned long long)n0,
              (long long)n, p);
}

static void compare(const Kernels& k, const Spec& s, uint64_t n0, int64_t n, double p) {
  const Kernels& ref = *scalar_kernels();
  std::vector<uint8_t> keep(static_cast<size_t>(n)), got(static_cast<size_t>(n));
  ref.fill(s, n0, n, keep.data());
  k.fill(s, n0, n, got.data());
  check(keep == got, k.name, "fill", 0, 0, n0, n, p);
  for (int t = 0; t < kDTypes; ++t) {
    const DType d = static_cast<DType>(t);
    const auto x = data(d, n), r = data(d, n);
    for (int add = 0; add < 2; ++add) {
      std::vector<uint8_t> a(x.size()), b(x.size());
      const void* rp = add ? r.data() : nullptr;
      ref.apply[t][add](s, n0, n, x.data(), rp, a.data());
      k.apply[t][add](s, n0, n, x.data(), rp, b.data());
      check(same(d, a, b), k.name, "apply", t, add, n0, n, p);
      k.select[t][add](keep.data(), n, x.data(), rp, b.data(), s.scale);
      check(same(d, a, b), k.name, "select", t, add, n0, n, p);
      for (int64_t rows = 1; rows <= n && rows <= 3; ++rows) {  // a gap after each row but the last
        const int64_t step = n / rows, count = rows == 1 ? n : step - step / 3;
        a.assign(a.size(), 0x55);
        b = a;
        for (int64_t r_inner = 0; r_inner < 2; ++r_inner) {
          ref.rows[t][add]({keep.data(), 1, rows, count, x.data(), rp, a.data(), step, step, step, r_inner, s.scale});
          k.rows[t][add]({keep.data(), 1, rows, count, x.data(), rp, b.data(), step, step, step, r_inner, s.scale});
          check(same(d, a, b), k.name, "rows", t, add, n0, n, p);
        }
      }
    }
    auto y = x;
    std::vector<uint8_t> a(x.size());
    ref.apply[t][0](s, n0, n, x.data(), nullptr, a.data());
    k.apply[t][0](s, n0, n, y.data(), nullptr, y.data());
    check(same(d, a, y), k.name, "in place", t, 0, n0, n, p);
  }
}

static void compare_noise(const Kernels& k, uint64_t n0, int64_t n) {
  const Kernels& ref = *scalar_kernels();
  const Spec s = make_noise_spec(next(), next() >> 4);
  std::vector<float> a(static_cast<size_t>(n)), b(a.size());
  for (int law : {kUniform, kNormal, kSigned}) {
    ref.noise(s, n0, n, law, a.data());
    k.noise(s, n0, n, law, b.data());
    check(n == 0 || !std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), k.name, "noise", law, 0, n0, n, 0);
    // The definition: values that are made one by one are those of the run.
    for (int64_t i = 0; i < n && n < 100; ++i) {
      float one;
      ref.noise(s, n0 + static_cast<uint64_t>(i), 1, law, &one);
      check(!std::memcmp(&one, &a[static_cast<size_t>(i)], sizeof one), "scalar", "one value", law, 0, n0, n, 0);
    }
  }
  for (int t = 0; t < kDTypes; ++t) {
    const DType d = static_cast<DType>(t);
    auto x = data(d, n);
    std::vector<uint8_t> y(x.size()), z(x.size());
    ref.multiply[t](a.data(), n, x.data(), y.data(), 0.37);
    k.multiply[t](a.data(), n, x.data(), z.data(), 0.37);
    check(same(d, y, z), k.name, "multiply", t, 0, n0, n, 0);
  }
}

int main() {
  // Random123's known answers for Philox4x32-10.
  const Words z = philox({{0, 0, 0, 0}}, 0, 0), f = philox({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u);
  const Words pi = philox({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, 0xa4093822u, 0x299f31d0u);
  const uint32_t kz[] = {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u},
                 kf[] = {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu};
  const uint32_t kp[] = {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u};
  check(!std::memcmp(z.w, kz, 16) && !std::memcmp(f.w, kf, 16) && !std::memcmp(pi.w, kp, 16), "scalar", "known answers",
        0, 0, 0, 0, 0);

  const Kernels* tables[] = {scalar_kernels(), avx2_kernels(), avx512_kernels(), neon_kernels()};
  const int64_t sizes[] = {0,   1,   2,   3,   7,   15,  16,  17,   31,   33,   63,   64,   65,   127,
                           128, 129, 255, 256, 257, 511, 513, 1021, 4095, 4096, 4097, 8191, 9001, 12288};
  const uint64_t starts[] = {
      0, 1, 5, 15, 16, 100, 4093, (1ull << 32) - 40, (1ull << 33) + 7, (1ull << 34) - 50, kRunLimit - 12288, kRunLimit * 3 + 9};
  const double rates[] = {1e-9, 1e-6, 0.1, 0.25, 0.3, 0.5, 0.9, 1 - 1e-6, 255.5 / 256};
  for (const Kernels* k : tables) {
    if (!k) continue;
    int64_t runs = 0;
    for (double p : rates) {
      const Spec s = make_spec(next(), next() >> 4, p, true);
      for (uint64_t n0 : starts) {
        for (int64_t n : sizes) {
          if (n > 600 && (next() & 3)) continue;
          compare(*k, s, n0, n, p);
          ++runs;
        }
      }
    }
    for (uint64_t n0 : starts) {
      for (int64_t n : sizes) compare_noise(*k, n0, n);
    }
    std::printf("%s: %lld runs, %d failures\n", k->name, (long long)runs, failures);
  }
  return failures != 0;
}
