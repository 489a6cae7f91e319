// Writes the mask bytes of the contract to standard output without end, for a battery of statistical tests.
//   raw_stream index          one site, block after block
//   raw_stream streams        block 0 of 4,096 sites named layers.0, layers.1 .., then block 1 of each, ..
//   raw_stream steps          block 0 of one site at step 0, 1, 2, .. of one run: the seeds that dk.keyed derives
//   raw_stream seeds          block 0 at seeds 0, 1, 2, ..
// The stream numbers of the sites are read from the file named by the second argument, one a line.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "philox.h"

using dropkit::Words;

static Words block(uint64_t seed, uint64_t stream, uint64_t index) {
  return dropkit::mask_block(dropkit::make_spec(seed, stream, 0.5, false), index);
}

static uint64_t derived_seed(uint64_t seed, uint64_t step) {
  const Words w = dropkit::philox({{uint32_t(step), uint32_t(step >> 32), 0, 15u << 28}}, uint32_t(seed), uint32_t(seed >> 32));
  return w.w[0] | uint64_t(w.w[1]) << 32;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  std::vector<uint64_t> streams;
  std::ifstream file(argv[2]);
  for (uint64_t stream; file >> stream;) streams.push_back(stream);
  std::vector<Words> out(4096);
  for (uint64_t n = 0;; n += out.size()) {
    for (size_t i = 0; i < out.size(); ++i) {
      const uint64_t k = n + i;
      if (!std::strcmp(argv[1], "index")) out[i] = block(2026, streams[0], k);
      else if (!std::strcmp(argv[1], "streams")) out[i] = block(2026, streams[k % streams.size()], k / streams.size());
      else if (!std::strcmp(argv[1], "steps")) out[i] = block(derived_seed(2026, k), streams[0], 0);
      else out[i] = block(k, streams[0], 0);
    }
    if (std::fwrite(out.data(), sizeof(Words), out.size(), stdout) != out.size()) return 0;
  }
}
