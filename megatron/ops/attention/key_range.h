// A contiguous range of keys. Kernel headers include it, so it needs no tensor type.
#pragma once

#include <cstdint>

namespace megatron {

// The keys first .. last - 1, as rows of k; empty where first == last.
struct KeyRange {
  int64_t first, last;
};

}  // namespace megatron
