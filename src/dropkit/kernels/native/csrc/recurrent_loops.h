// Loops over the units of a row, for the compiler to vectorise. Included by recurrent_kernels.cpp once an instruction set,
// with DROPKIT_NS naming it and DROPKIT_FN switching it on. Sums and products are rounded one by one, so that every
// instruction set gives the same floats.

namespace dropkit {
namespace DROPKIT_NS {
namespace {

#define DROPKIT_UNIT DROPKIT_FN static inline __attribute__((always_inline))
#include "exponential.h"

DROPKIT_UNIT float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }

// 1 - 2 / (e^2|x| + 1) cancels near 0, where a polynomial of x^2 takes over.
DROPKIT_UNIT float hyperbolic(float x) {
  const float a = x < 0.0f ? -x : x, s = x * x;
  const float p = ((((0x1.2c83cp-9f * s - 0x1.116a16p-7f) * s + 0x1.64a976p-6f) * s - 0x1.ba08c4p-5f) * s + 0x1.1110eap-3f) * s -
                  0x1.555556p-2f;
  const float near = x + x * s * p;
  const float far = 1.0f - 2.0f / (exponential(a + a) + 1.0f);
  return a < 0.625f ? near : x < 0.0f ? -far : far;
}

DROPKIT_UNIT double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }
DROPKIT_UNIT double hyperbolic(double x) { return std::tanh(x); }

template <class T>
DROPKIT_UNIT const T* row(const void* data, int64_t step, int64_t n) {
  return static_cast<const T*>(data) + step * n;
}
template <class T>
DROPKIT_UNIT T* row(void* data, int64_t step, int64_t n) {
  return static_cast<T*>(data) + step * n;
}
template <class T>
DROPKIT_UNIT const T* row(const Rows2d& rows, int64_t n) {
  return static_cast<const T*>(rows.data) + rows.step * n;
}

// The rows' pointers are arguments, which the compiler believes not to overlap.
template <class T>
DROPKIT_FN __attribute__((noinline)) void lstm_forward_row(
    int64_t units, const T* __restrict pi, const T* __restrict pf, const T* __restrict pg, const T* __restrict po,
    T* __restrict gates, T* __restrict h, T* __restrict c, T* __restrict out, T* __restrict previous, T* __restrict extra,
    const T* __restrict mask, const T* __restrict zone_c, const T* __restrict zone_h) {
  for (int64_t j = 0; j < units; ++j) {
    const T i = logistic(pi[j] + gates[j]), f = logistic(pf[j] + gates[units + j]);
    const T g = hyperbolic(pg[j] + gates[2 * units + j]), o = logistic(po[j] + gates[3 * units + j]);
    const T old = c[j], fresh = f * old + i * (g * mask[j]), shape = hyperbolic(fresh);
    gates[j] = i;
    gates[units + j] = f;
    gates[2 * units + j] = g;
    gates[3 * units + j] = o;
    previous[j] = old;
    extra[j] = shape;
    c[j] = zone_c[j] * old + (T(1) - zone_c[j]) * fresh;
    const T state = zone_h[j] * h[j] + (T(1) - zone_h[j]) * (o * shape);
    h[j] = state;
    out[j] = state;
  }
}

template <class T>
DROPKIT_FN void lstm_forward(const ForwardStep& s, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const T* p = row<T>(s.product, s.product_row, n);
    lstm_forward_row<T>(s.units, p, p + s.product_gate, p + 2 * s.product_gate, p + 3 * s.product_gate,
                        row<T>(s.gates, 4 * s.units, n), row<T>(s.h, s.units, n), row<T>(s.c, s.units, n),
                        row<T>(s.out, s.units, n), row<T>(s.previous, s.units, n),
                        row<T>(s.extra, s.units, n), row<T>(s.candidate, n), row<T>(s.zone_c, n), row<T>(s.zone_h, n));
  }
}

template <class T>
DROPKIT_FN __attribute__((noinline)) void lstm_backward_row(
    int64_t units, const T* __restrict grad_out, T* __restrict grad_h, T* __restrict grad_c, const T* __restrict acts,
    const T* __restrict previous, const T* __restrict extra, const T* __restrict mask, const T* __restrict zone_c,
    const T* __restrict zone_h, T* __restrict grad) {
  for (int64_t j = 0; j < units; ++j) {
    const T i = acts[j], f = acts[units + j], g = acts[2 * units + j], o = acts[3 * units + j], shape = extra[j];
    const T state = grad_h[j] + grad_out[j], memory = grad_c[j];
    const T proposed = state * (T(1) - zone_h[j]);
    const T fresh = memory * (T(1) - zone_c[j]) + proposed * o * (T(1) - shape * shape);
    grad_h[j] = state * zone_h[j];
    grad_c[j] = memory * zone_c[j] + fresh * f;
    grad[j] = fresh * (g * mask[j]) * (i * (T(1) - i));
    grad[units + j] = fresh * previous[j] * (f * (T(1) - f));
    grad[2 * units + j] = fresh * i * mask[j] * (T(1) - g * g);
    grad[3 * units + j] = proposed * shape * (o * (T(1) - o));
  }
}

template <class T>
DROPKIT_FN void lstm_backward(const BackwardStep& s, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    lstm_backward_row<T>(s.units, row<T>(s.grad_out, n), row<T>(s.grad_h, s.units, n), row<T>(s.grad_c, s.units, n),
                         row<T>(s.acts, 4 * s.units, n), row<T>(s.previous, s.units, n), row<T>(s.extra, s.units, n),
                         row<T>(s.candidate, n), row<T>(s.zone_c, n), row<T>(s.zone_h, n),
                         row<T>(s.grad_input, 4 * s.units, n));
  }
}

template <class T>
DROPKIT_FN __attribute__((noinline)) void gru_forward_row(
    int64_t units, const T* __restrict pr, const T* __restrict pz, const T* __restrict pn, T* __restrict gates,
    T* __restrict h, T* __restrict out, T* __restrict previous, T* __restrict extra,
    const T* __restrict bias, const T* __restrict mask, const T* __restrict zone_h) {
  for (int64_t j = 0; j < units; ++j) {
    const T r = logistic(pr[j] + gates[j]), z = logistic(pz[j] + gates[units + j]), inner = pn[j] + bias[j];
    const T n = hyperbolic(gates[2 * units + j] + r * inner), old = h[j];
    const T state = zone_h[j] * old + (T(1) - zone_h[j]) * ((T(1) - z) * (n * mask[j]) + z * old);
    gates[j] = r;
    gates[units + j] = z;
    gates[2 * units + j] = n;
    previous[j] = old;
    extra[j] = inner;
    h[j] = state;
    out[j] = state;
  }
}

template <class T>
DROPKIT_FN void gru_forward(const ForwardStep& s, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const T* p = row<T>(s.product, s.product_row, n);
    gru_forward_row<T>(s.units, p, p + s.product_gate, p + 2 * s.product_gate, row<T>(s.gates, 3 * s.units, n),
                       row<T>(s.h, s.units, n), row<T>(s.out, s.units, n),
                       row<T>(s.previous, s.units, n), row<T>(s.extra, s.units, n), row<T>(s.bias, 0, n),
                       row<T>(s.candidate, n), row<T>(s.zone_h, n));
  }
}

template <class T>
DROPKIT_FN __attribute__((noinline)) void gru_backward_row(
    int64_t units, const T* __restrict grad_out, T* __restrict grad_h, const T* __restrict acts,
    const T* __restrict previous, const T* __restrict extra, const T* __restrict mask, const T* __restrict zone_h,
    T* __restrict grad, T* __restrict grad_product) {
  for (int64_t j = 0; j < units; ++j) {
    const T r = acts[j], z = acts[units + j], n = acts[2 * units + j];
    const T state = grad_h[j] + grad_out[j], proposed = state * (T(1) - zone_h[j]);
    const T inside = proposed * (T(1) - z) * mask[j] * (T(1) - n * n);
    const T reset = inside * extra[j] * (r * (T(1) - r)), update = proposed * (previous[j] - n * mask[j]) * (z * (T(1) - z));
    grad_h[j] = state * zone_h[j] + proposed * z;
    grad[j] = reset;
    grad[units + j] = update;
    grad[2 * units + j] = inside;
    grad_product[j] = reset;
    grad_product[units + j] = update;
    grad_product[2 * units + j] = inside * r;
  }
}

template <class T>
DROPKIT_FN void gru_backward(const BackwardStep& s, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    gru_backward_row<T>(s.units, row<T>(s.grad_out, n), row<T>(s.grad_h, s.units, n), row<T>(s.acts, 3 * s.units, n),
                        row<T>(s.previous, s.units, n), row<T>(s.extra, s.units, n), row<T>(s.candidate, n),
                        row<T>(s.zone_h, n), row<T>(s.grad_input, 3 * s.units, n), row<T>(s.grad_product, 3 * s.units, n));
  }
}

template <class T, bool RELU>
DROPKIT_FN __attribute__((noinline)) void plain_forward_row(int64_t units, const T* __restrict p, T* __restrict gates,
                                                            T* __restrict h, T* __restrict out,
                                                            const T* __restrict zone_h) {
  for (int64_t j = 0; j < units; ++j) {
    const T sum = p[j] + gates[j], fresh = RELU ? (sum > T(0) || sum != sum ? sum : T(0)) : hyperbolic(sum);
    const T state = zone_h[j] * h[j] + (T(1) - zone_h[j]) * fresh;
    gates[j] = fresh;
    h[j] = state;
    out[j] = state;
  }
}

template <class T, bool RELU>
DROPKIT_FN void plain_forward(const ForwardStep& s, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    plain_forward_row<T, RELU>(s.units, row<T>(s.product, s.product_row, n), row<T>(s.gates, s.units, n),
                               row<T>(s.h, s.units, n), row<T>(s.out, s.units, n),
                               row<T>(s.zone_h, n));
  }
}

template <class T, bool RELU>
DROPKIT_FN __attribute__((noinline)) void plain_backward_row(int64_t units, const T* __restrict grad_out,
                                                             T* __restrict grad_h, const T* __restrict acts,
                                                             const T* __restrict zone_h, T* __restrict grad) {
  for (int64_t j = 0; j < units; ++j) {
    const T state = grad_h[j] + grad_out[j], proposed = state * (T(1) - zone_h[j]), fresh = acts[j];
    grad_h[j] = state * zone_h[j];
    grad[j] = RELU ? (fresh > T(0) ? proposed : T(0)) : proposed * (T(1) - fresh * fresh);
  }
}

template <class T, bool RELU>
DROPKIT_FN void plain_backward(const BackwardStep& s, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    plain_backward_row<T, RELU>(s.units, row<T>(s.grad_out, n), row<T>(s.grad_h, s.units, n), row<T>(s.acts, s.units, n),
                                row<T>(s.zone_h, n), row<T>(s.grad_input, s.units, n));
  }
}

template <class T>
DROPKIT_FN __attribute__((noinline)) void enter_row(int64_t units, const T* __restrict h, const T* __restrict mask,
                                                    T* __restrict entered) {
  for (int64_t j = 0; j < units; ++j) entered[j] = h[j] * mask[j];
}

template <class T>
DROPKIT_FN void enter(const Entry& s, int64_t begin, int64_t end) {
  for (int64_t k = 0; k < s.masks; ++k) {
    for (int64_t n = begin; n < end; ++n)
      enter_row<T>(s.units, row<T>(s.h, s.units, n), row<T>(s.mask, n) + k * s.mask_apart,
                   row<T>(s.entered, s.units, n) + k * s.entered_apart);
  }
}

template <class T>
DROPKIT_FN __attribute__((noinline)) void leave_row(int64_t units, T* __restrict grad_h, const T* __restrict mask,
                                                    const T* __restrict grad) {
  for (int64_t j = 0; j < units; ++j) grad_h[j] += grad[j] * mask[j];
}

template <class T>
DROPKIT_FN void leave(const Entry& s, int64_t begin, int64_t end) {
  for (int64_t k = 0; k < s.masks; ++k) {
    for (int64_t n = begin; n < end; ++n)
      leave_row<T>(s.units, row<T>(s.h, s.units, n), row<T>(s.mask, n) + k * s.mask_apart,
                   row<T>(s.entered, s.units, n) + k * s.entered_apart);
  }
}

const RecurrentKernels kTable = {
    {{lstm_forward<float>, lstm_forward<double>},
     {gru_forward<float>, gru_forward<double>},
     {plain_forward<float, false>, plain_forward<double, false>},
     {plain_forward<float, true>, plain_forward<double, true>}},
    {{lstm_backward<float>, lstm_backward<double>},
     {gru_backward<float>, gru_backward<double>},
     {plain_backward<float, false>, plain_backward<double, false>},
     {plain_backward<float, true>, plain_backward<double, true>}},
    {enter<float>, enter<double>},
    {leave<float>, leave<double>}};

#undef DROPKIT_UNIT

}  // namespace
}  // namespace DROPKIT_NS
}  // namespace dropkit
