// Threads that take the next task of a list when they are free.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include <ATen/Parallel.h>

#include "megatron/ops/core/parallel_for.h"

namespace megatron::grouped {

// Calls body(task, scratch) once for each task in [0, count), on the calling thread's intra-op threads;
// each thread makes its own scratch. Tasks start in order, so long tasks belong to the front. Which
// thread runs a task depends on timing; results must not.
template <typename MakeScratch, typename Body>
void run_tasks(int64_t count, const MakeScratch& make_scratch, const Body& body) {
  std::atomic<int64_t> next{0};
  parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    int64_t task = next.fetch_add(1, std::memory_order_relaxed);
    if (task >= count) return;
    auto scratch = make_scratch();
    for (; task < count; task = next.fetch_add(1, std::memory_order_relaxed)) body(task, scratch);
  });
}

}  // namespace megatron::grouped
