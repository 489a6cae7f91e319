// What the vector generators share: round keys, and the first two rounds with everything that is constant along a run
// folded away.
//
// Along a run only counter word 0 varies (kernels.h, kRunLimit). So round 1 multiplies one word instead of two, and by
// consecutive numbers, which is an addition; round 2 again multiplies one word. That saves about a tenth of the work.
//   round 1: p = M0 * c0;                     c' = hi(p) ^ a,  d' = lo(p);  the other two words are constants
//   round 2: p = M1 * c';   a'' = hi(p) ^ b,  b'' = lo(p);     c'' = d' ^ c;  d'' is a constant, kept xored with round
//   3's key as d
#pragma once
#include "philox.h"

namespace dropkit {

struct Setup {
  uint64_t a, b, c, d;
  uint64_t k0[kRounds], k1[kRounds];
};

inline Setup prepare(const Spec& s, uint32_t index_high) {
  Setup u;
  uint32_t k0 = s.k0, k1 = s.k1;
  for (int r = 0; r < kRounds; ++r, k0 += kW0, k1 += kW1) {
    u.k0[r] = k0;
    u.k1[r] = k1;
  }
  const uint64_t p1 = uint64_t(kM1) * s.c2;
  const uint64_t p0 = uint64_t(kM0) * (uint32_t(p1 >> 32) ^ index_high ^ uint32_t(u.k0[0]));
  u.a = s.c3 ^ u.k1[0];
  u.b = uint32_t(p1) ^ u.k0[1];
  u.c = (p0 >> 32) ^ u.k1[1];
  u.d = uint32_t(p0) ^ u.k1[2];
  return u;
}

}  // namespace dropkit
