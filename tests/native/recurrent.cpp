// One step of every recurrent cell, forward and backward, and how states enter it, on buffers exactly as long as the step, so
// that AddressSanitizer sees a value too many; with masks for all rows and for each, and with inputs far beyond where the
// functions saturate.
#include "recurrent.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

using namespace dropkit;

namespace {

std::mt19937 random_bits(7);
int failures = 0;

template <class T>
std::vector<T> made(int64_t count, double scale = 1) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T& v : values) v = static_cast<T>(scale * (static_cast<double>(random_bits()) / 2147483648.0 - 1.0));
  return values;
}

template <class T>
void check(const std::vector<T>& values, const char* name, int cell) {
  for (T v : values) {
    if (!std::isfinite(v)) {
      ++failures;
      std::printf("%s of cell %d is not finite\n", name, cell);
      return;
    }
  }
}

template <class T>
void step(int cell, int64_t units, int64_t rows, bool apart, double scale) {
  const int64_t gates = gates_of(cell), wide = gates * units;
  auto product = made<T>(rows * wide, scale), values = made<T>(rows * wide, scale);
  auto h = made<T>(rows * units), c = made<T>(rows * units), out = made<T>(rows * units);
  auto previous = made<T>(rows * units), extra = made<T>(rows * units), bias = made<T>(units);
  auto mask = made<T>(rows * units), zone = std::vector<T>(static_cast<size_t>(units), T(0.25));
  ForwardStep f{};
  f.units = units;
  f.product = product.data();
  f.product_row = apart ? units : wide;
  f.product_gate = apart ? rows * units : units;
  f.gates = values.data();
  f.h = h.data();
  f.c = c.data();
  f.out = out.data();
  f.previous = previous.data();
  f.extra = extra.data();
  f.bias = bias.data();
  f.candidate = {mask.data(), units};
  f.zone_c = f.zone_h = {zone.data(), 0};
  active_recurrent_kernels().forward[cell][sizeof(T) == 8](f, 0, rows);
  check(values, "gates", cell);
  check(h, "state", cell);
  check(c, "memory", cell);
  auto incoming = made<T>(units), grad_h = made<T>(rows * units), grad_c = made<T>(rows * units);
  auto to_input = made<T>(rows * wide), to_product = made<T>(rows * wide);
  BackwardStep b{};
  b.units = units;
  b.grad_out = {incoming.data(), 0};
  b.grad_h = grad_h.data();
  b.grad_c = grad_c.data();
  b.acts = values.data();
  b.previous = previous.data();
  b.extra = extra.data();
  b.candidate = {mask.data(), units};
  b.zone_c = b.zone_h = {zone.data(), 0};
  b.grad_input = to_input.data();
  b.grad_product = to_product.data();
  active_recurrent_kernels().backward[cell][sizeof(T) == 8](b, 0, rows);
  check(grad_h, "gradient of the state", cell);
  check(to_input, "gradient of the gates", cell);
}

// States through their masks and back, which must give what a plain loop gives.
template <class T>
void pass(int64_t units, int64_t rows, int64_t masks, bool each) {
  const int64_t size = rows * units;
  auto h = made<T>(size), mask = made<T>(masks * (each ? size : units)), entered = made<T>(masks * size), grad = made<T>(size);
  const auto before = grad;
  const int64_t apart = each ? size : units;
  Entry e{units, masks, h.data(), {mask.data(), each ? units : 0}, entered.data(), apart, size};
  active_recurrent_kernels().enter[sizeof(T) == 8](e, 0, rows);
  e.h = grad.data();
  active_recurrent_kernels().leave[sizeof(T) == 8](e, 0, rows);
  for (int64_t i = 0; i < size; ++i) {
    T sum = before[i];
    for (int64_t k = 0; k < masks; ++k) {
      const T m = mask[k * apart + (each ? i : i % units)], product = h[i] * m;
      failures += entered[k * size + i] != product;
      sum += product * m;
    }
    failures += grad[i] != sum;
  }
}

}  // namespace

int main() {
  for (int cell = 0; cell < kCells; ++cell) {
    for (int64_t units : {1, 2, 7, 16, 33, 64, 129}) {
      for (int64_t rows : {1, 3}) {
        pass<float>(units, rows, gates_of(cell), rows > 1);
        pass<double>(units, rows, 1, rows == 1);
        for (double scale : {1.0, 100.0, 1e30}) {
          if (cell == kRelu && scale > 1e3) continue;  // grows without bound by design
          step<float>(cell, units, rows, rows > 1, scale);
          step<double>(cell, units, rows, rows == 1, scale);
        }
      }
    }
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
