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

// How the threads are named in debuggers and traces: this and the rank.
inline constexpr std::string_view kRankThreadName = "rank ";

struct ThreadRanksOutcome {
  int status = 0;            // the largest that a rank returned
  std::exception_ptr error;  // the first that a rank threw
  int failed_rank = -1;      // the rank that threw it
};

// Runs `body` on `count` threads, each with its own RankContext over the in-process backend, and
// waits for all. The first exception ends the other ranks' collectives. `device` names what all
// ranks compute on: on "cuda" they share the first GPU.
ThreadRanksOutcome run_thread_ranks(int count, int threads, const std::string& device,
                                    std::chrono::milliseconds timeout,
                                    const std::function<int(RankContext&)>& body);

// The same for a process that may end: when a rank failed and another has not noticed two seconds
// later (it hangs outside of collectives, and no thread can be ended from outside), calls
// `on_stuck` with the outcome so far and the ranks that still run; that function does not return.
ThreadRanksOutcome run_thread_ranks(
    int count, int threads, const std::string& device, std::chrono::milliseconds timeout,
    const std::function<int(RankContext&)>& body,
    const std::function<void(const ThreadRanksOutcome&, const std::vector<int>&)>& on_stuck);

}  // namespace megatron
