// Scalar runs: the whole of the scalar table, and the heads and tails of the vector loops.
#pragma once
#include <cstring>

#include "element.h"
#include "kernels.h"

namespace dropkit {

template <class T, bool ADD>
inline void put(bool keep, const T* x, const T* r, T* y, typename Element<T>::Compute scale) {
  using C = typename Element<T>::Compute;
  C v = keep ? static_cast<C>(Element<T>::load(x) * scale) : C(0);
  if (ADD) v = Element<T>::load(r) + v;
  Element<T>::store(y, v);
}

template <class T, bool ADD>
inline void select_scalar(const uint8_t* keep, int64_t count, const void* x, const void* r, void* y, double scale) {
  const auto s = static_cast<typename Element<T>::Compute>(scale);
  const T *xs = static_cast<const T*>(x), *rs = static_cast<const T*>(r);
  T* ys = static_cast<T*>(y);
  for (int64_t i = 0; i < count; ++i) put<T, ADD>(keep[i] != 0, xs + i, ADD ? rs + i : nullptr, ys + i, s);
}

template <class T, bool ADD>
inline void rows_scalar(const Rows& a) {
  const auto s = static_cast<typename Element<T>::Compute>(a.scale);
  for (int64_t j = 0; j < a.rows; ++j) {
    const T *x = static_cast<const T*>(a.x) + j * a.x_step,
            *r = ADD ? static_cast<const T*>(a.r) + j * a.r_step : nullptr;
    T* y = static_cast<T*>(a.y) + j * a.y_step;
    for (int64_t i = 0; i < a.count; ++i)
      put<T, ADD>(a.keep[j * a.keep_step] != 0, x + i, ADD ? r + i * a.r_inner : nullptr, y + i, s);
  }
}

inline void fill_scalar(const Spec& s, uint64_t n0, int64_t count, uint8_t* keep) {
  uint64_t n = n0;
  const uint64_t end = n0 + static_cast<uint64_t>(count);
  while (n < end) {
    const Words w = mask_block(s, n / kBlock);
    for (unsigned k = n % kBlock; k < kBlock && n < end; ++k, ++n) {
      *keep++ = byte_kept(s, static_cast<uint8_t>(w.w[k / 4] >> 8 * (k % 4)), n);
    }
  }
}

// Pointers moved by i elements of T; a null residual stays null.
template <class T>
inline const void* ahead(const void* p, int64_t i) {
  return p ? static_cast<const T*>(p) + i : nullptr;
}
template <class T>
inline void* ahead(void* p, int64_t i) {
  return static_cast<T*>(p) + i;
}

}  // namespace dropkit
