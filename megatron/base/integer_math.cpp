#include "megatron/base/integer_math.h"

#include "megatron/base/error.h"

namespace megatron {

int64_t divide(int64_t numerator, int64_t denominator, const char* name) {
  check(numerator % denominator == 0, "Expected {} to be a multiple of {}, but got {}; {} works",
        name, denominator, numerator, (numerator / denominator + 1) * denominator);
  return numerator / denominator;
}

}  // namespace megatron
