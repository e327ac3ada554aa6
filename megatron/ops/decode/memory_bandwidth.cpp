#include "megatron/ops/decode/memory_bandwidth.h"

#include <algorithm>
#include <chrono>

#include "megatron/base/error.h"
#include "megatron/ops/core/thread_team.h"
#include "megatron/ops/decode/page_buffer.h"
#include "megatron/ops/decode/row_kernels.h"

namespace megatron {

double measure_read_bandwidth(int64_t bytes, int repeats) {
  const int64_t count = bytes / static_cast<int64_t>(sizeof(float));
  check(count > 0 && repeats > 0, "Expected bytes and repeats above 0, but got {} and {}", bytes,
        repeats);
  const PageBuffer buffer(bytes);
  auto* values = static_cast<float*>(buffer.data());
  double best = 0;
  // The first pass writes: pages that were never written share one page of zeros.
  for (int pass = 0; pass <= repeats; ++pass) {
    std::atomic<float> total = 0;
    const auto start = std::chrono::steady_clock::now();
    run_team([&](ThreadTeam& team) {
      const WorkRange part = team.part(count);
      if (pass == 0) {
        std::fill(values + part.first, values + part.last, 1.0f);
        return;
      }
      with_kernel_level([&](auto level) {
        const float sum = kernels::read_floats<level>(values + part.first, part.last - part.first);
        total.store(sum, std::memory_order_relaxed);
      });
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (pass > 0)
      best = std::max(best, static_cast<double>(count * sizeof(float)) / seconds.count());
  }
  return best;
}

}  // namespace megatron
