// Runs ranks as threads of this process.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "megatron/parallel/rank_context.h"

namespace megatron {

// Prefix of the threads' names in debuggers and traces, before the rank.
inline constexpr std::string_view kRankThreadName = "rank ";

struct ThreadRanksOutcome {
  int status = 0;            // the largest that a rank returned
  std::exception_ptr error;  // of failed_rank; null where no rank threw
  int failed_rank = -1;      // of the least FailureKind, the lowest rank
};

// Runs `body` on `count` threads, each with its own RankContext over the in-process backend, and
// waits for all. Collectives that need a rank that has ended fail. Which error is reported does not
// depend on timing. `device` is the device of all ranks: on "cuda" they share the first GPU.
ThreadRanksOutcome run_thread_ranks(int count, int threads, const std::string& device,
                                    std::chrono::milliseconds timeout,
                                    const std::function<int(RankContext&)>& body);

// For a caller that can end the process: where a rank still runs two seconds after another failed
// (it hangs outside of collectives, and a thread cannot be ended from outside), calls `on_stuck`
// with the outcome so far and the ranks that still run. `on_stuck` must not return.
ThreadRanksOutcome run_thread_ranks(
    int count, int threads, const std::string& device, std::chrono::milliseconds timeout,
    const std::function<int(RankContext&)>& body,
    const std::function<void(const ThreadRanksOutcome&, const std::vector<int>&)>& on_stuck);

}  // namespace megatron
