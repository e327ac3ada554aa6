// Threads that run one function together and meet at barriers: for chains of short operators, such
// as a decode step, where a parallel region per operator would cost more than the operator.
#pragma once

#include <atomic>
#include <cstdint>

namespace megatron {

// [first, last)
struct WorkRange {
  int64_t first = 0, last = 0;
};

// What one thread of a team knows. Every thread calls barrier() equally often.
class ThreadTeam {
 public:
  struct Barrier {
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<uint32_t> generation{0};
  };

  ThreadTeam(Barrier& barrier, int thread, int size)
      : barrier_(barrier), thread_(thread), size_(size) {}

  int thread() const { return thread_; }
  int size() const { return size_; }

  // This thread's part of [0, count): contiguous, of equal sizes as far as possible.
  WorkRange part(int64_t count) const {
    return {count * thread_ / size_, count * (thread_ + 1) / size_};
  }

  // Waits for all threads of the team; what they wrote before is visible after. Spins for some
  // microseconds, then yields the processor while it waits.
  void barrier();

 private:
  Barrier& barrier_;
  int thread_, size_;
};

namespace detail {
void run_team(void (*body)(const void*, ThreadTeam&), const void* context);
}  // namespace detail

// Calls body(team) on each of the calling thread's intra-op threads at the same time. The body must
// not throw, and must not start parallel regions. Results must not depend on the number of threads.
template <typename Body>
void run_team(const Body& body) {
  detail::run_team(
      [](const void* context, ThreadTeam& team) { (*static_cast<const Body*>(context))(team); },
      &body);
}

}  // namespace megatron
