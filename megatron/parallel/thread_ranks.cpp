// Threads, their contexts, and the end of all when one fails.
#include "megatron/parallel/thread_ranks.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <set>
#include <thread>
#include <vector>

#include "megatron/base/device.h"
#include "megatron/base/error.h"
#include "megatron/parallel/compute_threads.h"
#include "megatron/parallel/thread_backend.h"

namespace megatron {
namespace {

// For the other ranks to notice a failure: 2 s, counted in waits, so that a pause of the whole
// program does not use it up.
constexpr std::chrono::milliseconds kThreadPoll{50};
constexpr int kThreadGracePolls = 40;

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
  std::mutex mutex;  // guards the outcome and the set of ranks that run
  std::condition_variable changed;
  std::set<int> running;
  for (int rank = 0; rank < count; ++rank) running.insert(rank);

  const auto run_rank = [&](int rank) {
    const auto failed = [&](const std::string& text) {
      const std::lock_guard lock(mutex);
      if (outcome.error) return;
      outcome.error = std::current_exception();
      outcome.failed_rank = rank;
      world->abort(fmt::format("rank {} failed: {}", rank, text));
    };
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
    } catch (const std::exception& error) {
      failed(error_message(error));
    } catch (...) {
      failed("unknown exception");
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
    world->abort("not all rank threads could be started");
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
