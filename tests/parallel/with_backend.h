// Runs rank threads over one in-process backend.
#pragma once

#include <functional>
#include <numeric>
#include <vector>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "tests/parallel/thread_world.h"

namespace megatron {

// Calls body(backend, rank) on `size` rank threads in one group.
inline void with_backend(int size,
                         const std::function<void(c10::intrusive_ptr<c10d::Backend>, int)>& body,
                         std::chrono::milliseconds timeout = std::chrono::seconds(120)) {
  std::vector<int> everyone(size);
  std::iota(everyone.begin(), everyone.end(), 0);
  run_thread_world(
      size,
      [&](RankContext& context) {
        body(context.transport->make_backend("test", everyone), context.rank);
      },
      timeout);
}

}  // namespace megatron
