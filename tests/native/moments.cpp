// The loop over moments, on buffers exactly as long as the run, against the textbook's formulas in double precision.
#include <cmath>
#include <cstdio>
#include <vector>

#include "moments.h"

using namespace dropkit;

static int failures = 0;

static void run(int64_t count, float slope) {
  const size_t size = static_cast<size_t>(count);
  std::vector<float> mean(size), variance(size), m(size), v(size);
  for (size_t i = 0; i < size; ++i) {
    mean[i] = 3 * std::sin(float(i) + 1);
    variance[i] = 2 + 1.9f * std::cos(float(7 * i));
  }
  (slope == 0 ? active_rectifiers().plain : active_rectifiers().leaky)(count, mean.data(), variance.data(), m.data(), v.data(), slope);
  for (size_t i = 0; i < size; ++i) {
    const double mu = mean[i], s = std::sqrt(double(variance[i])), a = mu / s, k = slope;
    const double above = 0.5 * std::erfc(-a / std::sqrt(2.0)), density = std::exp(-a * a / 2) / std::sqrt(2 * 3.14159265358979323846);
    const double first = mu * above + s * density, second = (mu * mu + s * s) * above + mu * s * density;  // of the part above 0
    const double below = mu - first, squared = mu * mu + s * s - second;
    const double wanted = first + k * below, spread = second + k * k * squared - wanted * wanted;
    if (std::fabs(m[i] - wanted) > 2e-6 || std::fabs(v[i] - spread) > 4e-6) {
      ++failures;
      std::printf("mean %g variance %g slope %g: %g %g, wanted %g %g\n", mu, s * s, k, m[i], v[i], wanted, spread);
    }
  }
}

int main() {
  for (int64_t count : {0, 1, 3, 7, 8, 9, 16, 31, 64, 1000}) {
    for (float slope : {0.0f, 0.1f}) run(count, slope);
  }
  std::printf("failures: %d\n", failures);
  return failures != 0;
}
