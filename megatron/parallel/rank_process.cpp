// The life of a rank process: store, transport, main, farewell.
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
constexpr std::chrono::seconds kPatience{5};
constexpr std::chrono::seconds kFarewell{30};
constexpr std::chrono::seconds kFarewellOfFailed{3};  // a rank that died says nothing

// The rank that serves the store waits for all others here, and says so where that takes long: a
// rank that never comes is the commonest mistake of a launch. Throws Error after `timeout`.
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
    if (waited > kPatience && !std::exchange(said, true)) {
      fmt::print(stderr, "rank 0 waits for {} more of {} ranks ({}'s variables) at {}:{}\n",
                 identity.world_size - here, identity.world_size, identity.launcher,
                 identity.master_addr, identity.master_port);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    here = store.add(kArrivedKey, 0);
  }
}

// A rank that serves the store stays until the others are done with it.
void say_farewell(c10d::Store& store, const RankIdentity& identity,
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
    // The serving rank is gone, so nobody waits for this one.
  }
}

// What `ask` returns, or nothing where it takes longer: the store of a rank that hangs does not
// answer. For a process that ends by _exit, since the question may never end.
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

// Which ranks the others waited for in vain: an operation's error names only its group, and the
// rank that hangs may be in none of them.
std::string name_silent_ranks(const c10::intrusive_ptr<c10d::Store>& store,
                              const RankIdentity& identity) {
  const auto silent = answer_within(
      kFarewellOfFailed + std::chrono::seconds(1),
      [store, rank = identity.rank, world_size = identity.world_size] {
        try {
          leave_world(*store, rank);
          return std::optional(ranks_still_there(*store, world_size, kFarewellOfFailed));
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
                     fmt::join(ranks, ", "), kFarewellOfFailed.count());
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
      // printed below
    }
  }
  if (!reported) {
    const std::string prefix = failure.communication ? "" : fmt::format("rank {}: ", identity.rank);
    const std::string silent =
        store && failure.communication ? name_silent_ranks(store, identity) : "";
    fmt::print(stderr, "error: {}{}{}\n", prefix, failure.text, silent);
  }
  if (store) {
    const auto limit = std::min<std::chrono::milliseconds>(timeout, kFarewellOfFailed);
    answer_within(limit + std::chrono::seconds(1), [store, identity, limit] {
      say_farewell(*store, identity, limit);
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
  // libtorch's messages and their stack traces would bury our own, which says the same.
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
    say_farewell(*store, identity, std::min<std::chrono::milliseconds>(timeout, kFarewell));
    return 0;
  } catch (const CommunicationError& error) {
    failure = {true, error.what()};
  } catch (const std::exception& error) {
    failure = {false, error_message(error)};
  } catch (...) {
    failure = {false, "unknown exception"};
  }
  end_failed_rank(store, identity, timeout, failure);
}

}  // namespace megatron
