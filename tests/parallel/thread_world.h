// Runs a world of ranks as threads inside a test.
#pragma once

#include <chrono>
#include <exception>
#include <functional>

#include "megatron/parallel/rank_context.h"
#include "megatron/parallel/thread_ranks.h"

namespace megatron {

// Calls `body` on `ranks` threads with one compute thread each and waits for all. The first
// exception ends the other ranks' collectives and is thrown here. gtest's EXPECT and ASSERT work
// inside `body`.
inline void run_thread_world(int ranks, const std::function<void(RankContext&)>& body,
                             std::chrono::milliseconds timeout = std::chrono::seconds(120)) {
  const auto outcome =
      run_thread_ranks(ranks, /*threads=*/1, "cpu", timeout, [&](RankContext& context) {
        body(context);
        return 0;
      });
  if (outcome.error) std::rethrow_exception(outcome.error);
}

}  // namespace megatron
