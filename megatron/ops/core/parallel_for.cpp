// The only file of ops/ that is compiled with OpenMP, whose runtime is libtorch's thread pool.
#include "megatron/ops/core/parallel_for.h"

#include <omp.h>
#include <thread>

#include <ATen/Parallel.h>

#include "megatron/ops/core/thread_team.h"

namespace megatron {
namespace {

inline void pause_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// About 20 microseconds: longer than an operator of a decode step, shorter than a time slice.
constexpr int kSpins = 1000;

}  // namespace

namespace detail {

void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  void (*body)(const void*, int64_t, int64_t), const void* context) {
  at::parallel_for(begin, end, grain,
                   [=](int64_t first, int64_t last) { body(context, first, last); });
}

void run_team(void (*body)(const void*, ThreadTeam&), const void* context) {
  ThreadTeam::Barrier barrier;
  const int wanted = at::in_parallel_region() ? 1 : at::get_num_threads();
#pragma omp parallel num_threads(wanted)
  {
    // OpenMP may give fewer threads than asked for.
    ThreadTeam team(barrier, omp_get_thread_num(), omp_get_num_threads());
    body(context, team);
  }
}

}  // namespace detail

void ThreadTeam::barrier() {
  if (size_ == 1) return;
  const uint32_t generation = barrier_.generation.load(std::memory_order_acquire);
  if (barrier_.arrived.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    barrier_.arrived.store(0, std::memory_order_relaxed);
    barrier_.generation.store(generation + 1, std::memory_order_release);
    return;
  }
  int spins = 0;
  while (barrier_.generation.load(std::memory_order_acquire) == generation) {
    if (++spins < kSpins) {
      pause_processor();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace megatron
