// Runs a world of ranks as threads of a test.
#pragma once

#include <chrono>
#include <exception>
#include <functional>

#include "megatron/parallel/rank_context.h"
#include "megatron/parallel/thread_ranks.h"

namespace megatron {

// Calls `body` on `ranks` threads with one compute thread each and waits for all. Throws the error
// that run_thread_ranks reports, which does not depend on timing. gtest's EXPECT and ASSERT work
// within `body`.
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
