// A rank process: store, transport, main, and how it ends.
#include "megatron/parallel/rank_process.h"

#include <algorithm>
#include <cstdio>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <c10/util/Logging.h>
#include <fmt/ranges.h>

#include "megatron/base/device.h"
#include "megatron/base/error.h"
#include "megatron/parallel/compute_threads.h"
#include "megatron/parallel/gloo_transport.h"
#include "megatron/parallel/rendezvous.h"

#ifdef MEGATRON_USE_CUDA
#include "megatron/parallel/nccl_transport.h"
#endif

namespace megatron {
namespace {

constexpr const char* kArrivedKey = "megatron/arrived";
constexpr const char* kFinishedKey = "megatron/finished";
constexpr std::chrono::seconds kQuietWait{5};  // before a wait for missing ranks is printed
// How long the rank that serves the store outlives the others: after success, and after a failure,
// when a killed rank never announces its end.
constexpr std::chrono::seconds kLeaveLimit{30};
constexpr std::chrono::seconds kLeaveLimitOfFailed{3};

// The rank that serves the store waits for all others, and prints that it waits where that takes
// long: a missing rank is the most common launch mistake. Throws Error after `timeout`.
void wait_for_all_ranks(c10d::Store& store, const RankIdentity& identity,
                        std::chrono::milliseconds timeout) {
  int64_t here = store.add(kArrivedKey, 1);
  if (!identity.hosts_store) return;
  const auto begin = std::chrono::steady_clock::now();
  bool said = false;
  while (here < identity.world_size) {
    const auto waited = std::chrono::steady_clock::now() - begin;
    check(waited < timeout,
          "Expected {} ranks to meet at {}:{} within {:.4g} minutes, but {} came; start the others "
          "with the same MASTER_ADDR and MASTER_PORT, or unset RANK and WORLD_SIZE to run alone",
          identity.world_size, identity.master_addr, identity.master_port,
          double(timeout.count()) / 60000.0, here);
    if (waited > kQuietWait && !std::exchange(said, true)) {
      fmt::print(stderr, "rank 0 waits for {} more of {} ranks ({}'s variables) at {}:{}\n",
                 identity.world_size - here, identity.world_size, identity.launcher,
                 identity.master_addr, identity.master_port);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    here = store.add(kArrivedKey, 0);
  }
}

// Announces the end of this rank. The rank that serves the store then waits, up to `limit`, until
// all others have announced theirs.
void leave_rendezvous(c10d::Store& store, const RankIdentity& identity,
                      std::chrono::milliseconds limit) {
  try {
    leave_world(store, identity.rank);
    int64_t finished = store.add(kFinishedKey, 1);
    if (!identity.hosts_store) return;
    const auto end = std::chrono::steady_clock::now() + limit;
    while (finished < identity.world_size && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      finished = store.add(kFinishedKey, 0);
    }
  } catch (const std::exception&) {
    // The rank that serves the store has ended.
  }
}

// The result of `ask`, or nothing where it takes longer than `limit`: the store of a rank that
// hangs does not answer. The thread that asks may never end, so the process must end by _exit.
template <typename Ask>
auto answer_within(std::chrono::milliseconds limit, Ask ask) -> std::optional<decltype(ask())> {
  std::promise<decltype(ask())> answer;
  auto answered = answer.get_future();
  std::thread([ask = std::move(ask), answer = std::move(answer)]() mutable {
    answer.set_value(ask());
  }).detach();
  if (answered.wait_for(limit) != std::future_status::ready) return std::nullopt;
  return answered.get();
}

// Names the ranks that have not announced their end. The failed operation names its group only, and
// the rank that hangs may be outside of it.
std::string name_silent_ranks(const c10::intrusive_ptr<c10d::Store>& store,
                              const RankIdentity& identity) {
  const auto silent = answer_within(
      kLeaveLimitOfFailed + std::chrono::seconds(1),
      [store, rank = identity.rank, world_size = identity.world_size] {
        try {
          leave_world(*store, rank);
          return std::optional(ranks_still_running(*store, world_size, kLeaveLimitOfFailed));
        } catch (const std::exception&) {
          return std::optional<std::vector<int>>();
        }
      });
  if (!silent || !*silent) {
    return fmt::format("; the store at {}:{}, which rank 0 or its launcher serves, {}",
                       identity.master_addr, identity.master_port,
                       silent ? "is gone" : "does not answer");
  }
  const std::vector<int>& ranks = **silent;
  if (ranks.empty()) return "";
  return fmt::format("; rank{} [{}] had not given up {} s later", ranks.size() == 1 ? "" : "s",
                     fmt::join(ranks, ", "), kLeaveLimitOfFailed.count());
}

[[noreturn]] void end_failed_rank(const c10::intrusive_ptr<c10d::Store>& store,
                                  const RankIdentity& identity, std::chrono::milliseconds timeout,
                                  const RankFailure& failure) {
  bool reported = false;
  const auto launcher = process_environment()(kLauncherVariable);
  if (store && launcher == std::to_string(getppid())) {
    try {
      report_failure(*store, identity.rank, failure);
      reported = true;
    } catch (const std::exception&) {
      // Printed below instead.
    }
  }
  if (!reported) {
    const bool own = failure.kind == FailureKind::own;  // others name the rank themselves
    const std::string prefix = own ? fmt::format("rank {}: ", identity.rank) : "";
    const std::string silent = store && !own ? name_silent_ranks(store, identity) : "";
    fmt::print(stderr, "error: {}{}{}\n", prefix, failure.text, silent);
  }
  if (store) {
    const auto limit = std::min<std::chrono::milliseconds>(timeout, kLeaveLimitOfFailed);
    answer_within(limit + std::chrono::seconds(1), [store, identity, limit] {
      leave_rendezvous(*store, identity, limit);
      return true;
    });
  }
  std::fflush(nullptr);
  _exit(1);
}

std::shared_ptr<Transport> make_transport(const c10::intrusive_ptr<c10d::Store>& store,
                                          const RankIdentity& identity, const at::Device& device,
                                          std::chrono::milliseconds timeout) {
#ifdef MEGATRON_USE_CUDA
  if (device.is_cuda()) {
    return std::make_shared<NcclTransport>(store, identity.rank, device, timeout);
  }
#endif
  check(device.is_cpu(), "Expected a cpu device, but got {}", device.str());
  return std::make_shared<GlooTransport>(store, identity.rank, timeout, identity.all_local());
}

}  // namespace

int run_rank_process(const LaunchConfig& config, const RankIdentity& identity,
                     std::chrono::milliseconds timeout,
                     const std::function<int(RankContext&)>& main) {
  // libtorch would log the same failure with a stack trace, which buries our one line.
  if (!process_environment()("TORCH_CPP_LOG_LEVEL")) {
    setenv("TORCH_CPP_LOG_LEVEL", "FATAL", /*overwrite=*/0);
    c10::initLogging();  // reads it
  }
  c10::intrusive_ptr<c10d::Store> store;
  RankFailure failure;
  try {
    RankContext context;
    context.rank = identity.rank;
    context.world_size = identity.world_size;
    context.local_rank = identity.local_rank;
    context.threads =
        choose_compute_threads(config, identity.local_world_size, process_environment());
    set_compute_threads(context.threads);
    context.timeout = timeout;
    store = join_store(identity, timeout);
    wait_for_all_ranks(*store, identity, timeout);
    context.device = device_from_name(config.device, identity.local_rank);
    context.transport = make_transport(store, identity, context.device, timeout);
    const int status = main(context);
    if (status != 0) {
      std::fflush(nullptr);
      _exit(status & 0xff ? status & 0xff : 1);
    }
    leave_rendezvous(*store, identity, std::min<std::chrono::milliseconds>(timeout, kLeaveLimit));
    return 0;
  } catch (const CommunicationError& error) {
    failure = {error.kind(), error.what()};
  } catch (const std::exception& error) {
    failure = {FailureKind::own, error_message(error)};
  } catch (...) {
    failure = {FailureKind::own, "unknown exception"};
  }
  end_failed_rank(store, identity, timeout, failure);
}

}  // namespace megatron
