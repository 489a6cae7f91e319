#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace dropkit {
namespace {

const Kernels& choose() {
  const Kernels* tables[] = {avx512_kernels(), neon_kernels(), avx2_kernels(), scalar_kernels()};
  const char* wanted = std::getenv("DROPKIT_KERNEL");
  std::string here;
  for (const Kernels* t : tables) {
    if (!t) continue;
    if (!wanted || !*wanted || std::strcmp(wanted, t->name) == 0) return *t;
    here += here.empty() ? t->name : std::string(", ") + t->name;
  }
  throw std::runtime_error("DROPKIT_KERNEL names an instruction set that this processor can run; got '" +
                           std::string(wanted) + "'; set it to one of " + here + ", or unset it");
}

}  // namespace

const Kernels& active_kernels() {
  static const Kernels& table = choose();
  return table;
}

}  // namespace dropkit
