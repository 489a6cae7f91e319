// The exponential function for loops that the compiler vectorises. Included once an instruction set, inside its namespace, with
// DROPKIT_UNIT before a function.

// e^x to 2e-7 relatively, for x in [-87, 88]; beyond, as at the ends. x = n ln 2 + r with |r| <= ln 2 / 2; the polynomial is a
// Chebyshev interpolant of (e^r - 1 - r) / r^2, rounded.
DROPKIT_UNIT float exponential(float x) {
  const float low = x < -87.0f ? -87.0f : x, in = low > 88.0f ? 88.0f : low;
  const float shifted = in * 0x1.715476p+0f + 0x1.8p+23f;  // rounds to a whole number, which its last bits then hold
  const float n = shifted - 0x1.8p+23f;
  const float r = (in - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  const float q =
      (((0x1.6d1606p-10f * r + 0x1.12106cp-7f) * r + 0x1.555516p-5f) * r + 0x1.5554d8p-3f) * r + 0x1p-1f;
  const float power = (r + r * r * q) + 1.0f;
  uint32_t whole, bits;
  std::memcpy(&whole, &shifted, 4);
  std::memcpy(&bits, &power, 4);
  bits += whole << 23;
  float y;
  std::memcpy(&y, &bits, 4);
  return x == x ? y : x;
}
