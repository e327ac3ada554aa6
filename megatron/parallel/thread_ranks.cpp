// Starts the rank threads and attributes their failure to one of them.
#include "megatron/parallel/thread_ranks.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

#include "megatron/base/device.h"
#include "megatron/base/error.h"
#include "megatron/parallel/communication_error.h"
#include "megatron/parallel/compute_threads.h"
#include "megatron/parallel/thread_backend.h"

namespace megatron {
namespace {

// Grace period for the other ranks to notice a failure: 2 s, counted in waits, so that it does not
// elapse while the entire process is stopped.
constexpr std::chrono::milliseconds kThreadPoll{50};
constexpr int kThreadGracePolls = 40;

// Records the failure of `rank` unless the recorded one is likelier to be the cause.
void keep_likelier_cause(ThreadRanksOutcome& outcome, const std::exception_ptr& error, int rank) {
  const auto order = [](const std::exception_ptr& of, int failed) {
    return std::tuple(failure_kind(of), failed);
  };
  if (outcome.error && order(outcome.error, outcome.failed_rank) < order(error, rank)) return;
  outcome.error = error;
  outcome.failed_rank = rank;
}

}  // namespace

ThreadRanksOutcome run_thread_ranks(int count, int threads, const std::string& device,
                                    std::chrono::milliseconds timeout,
                                    const std::function<int(RankContext&)>& body) {
  return run_thread_ranks(count, threads, device, timeout, body, nullptr);
}

ThreadRanksOutcome run_thread_ranks(
    int count, int threads, const std::string& device, std::chrono::milliseconds timeout,
    const std::function<int(RankContext&)>& body,
    const std::function<void(const ThreadRanksOutcome&, const std::vector<int>&)>& on_stuck) {
  check(count >= 1, "Expected at least one rank, but got {}", count);
  const auto world = std::make_shared<ThreadWorld>(count);
  ThreadRanksOutcome outcome;
  std::mutex mutex;  // guards the outcome and `running`
  std::condition_variable changed;
  std::set<int> running;
  for (int rank = 0; rank < count; ++rank) running.insert(rank);

  const auto run_rank = [&](int rank) {
    pthread_setname_np(pthread_self(), fmt::format("{}{}", kRankThreadName, rank).c_str());
    try {
      set_compute_threads(threads);
      RankContext context;
      context.rank = rank;
      context.world_size = count;
      context.local_rank = rank;
      context.threads = threads;
      context.device = device_from_name(device, /*local_rank=*/0);
      context.timeout = timeout;
      if (count > 1) context.transport = std::make_shared<ThreadTransport>(world, rank, timeout);
      const int status = body(context);
      const std::lock_guard lock(mutex);
      outcome.status = std::max(outcome.status, status == 0 ? 0 : std::max(status, 1));
    } catch (...) {
      const std::lock_guard lock(mutex);
      keep_likelier_cause(outcome, std::current_exception(), rank);
    }
    world->rank_ended(rank);
    const std::lock_guard lock(mutex);
    running.erase(rank);
    changed.notify_all();
  };

  std::vector<std::thread> ranks;
  try {
    for (int rank = 0; rank < count; ++rank) ranks.emplace_back(run_rank, rank);
  } catch (const std::system_error& error) {
    for (int rank = static_cast<int>(ranks.size()); rank < count; ++rank) world->rank_ended(rank);
    for (auto& rank : ranks) rank.join();
    fail("Expected to start {} rank threads, but the system refused at {}: {}; fewer ranks work",
         count, ranks.size(), error.what());
  }
  if (on_stuck) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return running.empty() || outcome.error; });
    for (int poll = 0; poll < kThreadGracePolls && !running.empty(); ++poll) {
      changed.wait_for(lock, kThreadPoll, [&] { return running.empty(); });
    }
    if (!running.empty()) on_stuck(outcome, {running.begin(), running.end()});
  }
  for (auto& rank : ranks) rank.join();
  return outcome;
}

}  // namespace megatron
