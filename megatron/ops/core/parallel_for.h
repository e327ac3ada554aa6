// at::parallel_for behind a plain function, so that kernel files need neither ATen's headers nor
// OpenMP flags. (In a file compiled without OpenMP, libtorch's template runs on one thread.)
#pragma once

#include <cstdint>

namespace megatron {

namespace detail {
void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  void (*body)(const void*, int64_t, int64_t), const void* context);
}  // namespace detail

// Calls body(first, last) for disjoint ranges that cover [begin, end), on the calling thread's
// intra-op threads. The ranges depend on the number of threads; results must not.
template <typename Body>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Body& body) {
  detail::parallel_for(
      begin, end, grain,
      [](const void* context, int64_t first, int64_t last) {
        (*static_cast<const Body*>(context))(first, last);
      },
      &body);
}

// Grain size for rows of `width` elements: about 16 thousand elements per task.
inline int64_t row_grain(int64_t width) {
  return width >= 16384 ? 1 : 16384 / (width + 1) + 1;
}

}  // namespace megatron
