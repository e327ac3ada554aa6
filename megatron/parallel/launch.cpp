// Chooses how the ranks are started.
#include "megatron/parallel/launch.h"

#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>
#include <unistd.h>

#include <fmt/ranges.h>

#include "megatron/base/device.h"
#include "megatron/base/error.h"
#include "megatron/parallel/compute_threads.h"
#include "megatron/parallel/local_processes.h"
#include "megatron/parallel/rank_environment.h"
#include "megatron/parallel/rank_process.h"
#include "megatron/parallel/thread_ranks.h"

namespace megatron {
namespace {

std::chrono::milliseconds collective_timeout(const LaunchConfig& config) {
  const double minutes = config.distributed_timeout_minutes;
  check(std::isfinite(minutes) && minutes >= 0.0001 && minutes <= 1e6,
        "Expected --distributed-timeout-minutes of 0.0001 to 1000000, but got {}", minutes);
  return std::chrono::milliseconds(std::llround(minutes * 60'000));
}

int print_error(const std::exception_ptr& error, int rank, int world_size) {
  std::string prefix = world_size > 1 ? fmt::format("rank {}: ", rank) : "";
  try {
    std::rethrow_exception(error);
  } catch (const CommunicationError& failure) {  // its text names the rank
    fmt::print(stderr, "error: {}\n", failure.what());
  } catch (const std::exception& failure) {
    fmt::print(stderr, "error: {}{}\n", prefix, error_message(failure));
  } catch (...) {
    fmt::print(stderr, "error: {}unknown exception\n", prefix);
  }
  return 1;
}

int launch_threads(const LaunchConfig& config, std::chrono::milliseconds timeout,
                   const std::function<int(RankContext&)>& main) {
  const int count = static_cast<int>(*config.nproc);
  const int threads = choose_compute_threads(config, count, process_environment());
  const auto end_stuck = [&](const ThreadRanksOutcome& outcome, const std::vector<int>& running) {
    fmt::print(stderr, "error: rank{} [{}] did not end by {} in time; the program ends now\n",
               running.size() == 1 ? "" : "s", fmt::join(running, ", "),
               running.size() == 1 ? "itself" : "themselves");
    print_error(outcome.error, outcome.failed_rank, count);
    std::fflush(nullptr);
    _exit(1);
  };
  const auto outcome = run_thread_ranks(count, threads, config.device, timeout, main, end_stuck);
  if (outcome.error) return print_error(outcome.error, outcome.failed_rank, count);
  return outcome.status;
}

int launch_single(const LaunchConfig& config, std::chrono::milliseconds timeout, int local_rank,
                  const std::function<int(RankContext&)>& main) {
  RankContext context;
  context.local_rank = local_rank;
  context.threads = choose_compute_threads(config, /*local_world_size=*/1, process_environment());
  context.timeout = timeout;
  context.device = device_from_name(config.device, local_rank);
  set_compute_threads(context.threads);
  try {
    return main(context);
  } catch (...) {
    return print_error(std::current_exception(), 0, 1);
  }
}

}  // namespace

std::optional<int> ranks_to_start(const LaunchConfig& config) {
  const int64_t count = config.nproc.value_or(1);
  if (count < 1 || count > kMostLocalRanks) return std::nullopt;  // refused by launch()
  if (identity_from_environment(config, process_environment())) return std::nullopt;
  return static_cast<int>(count);
}

int launch(const LaunchConfig& config, const std::function<int(RankContext&)>& main) {
  // A write to a rank that has ended must fail as an operation, which names the rank, instead of
  // ending this process. (Python ignores the signal as well.)
  std::signal(SIGPIPE, SIG_IGN);
  const auto timeout = collective_timeout(config);
  if (config.nproc) {
    check(*config.nproc >= 1 && *config.nproc <= kMostLocalRanks,
          "Expected --nproc of 1 to {}, but got {}", kMostLocalRanks, *config.nproc);
  }
  if (config.master_port) {
    check(*config.master_port >= 1 && *config.master_port <= 65535,
          "Expected --master-port of 1 to 65535, but got {}", *config.master_port);
  }
  check(!config.threads_as_ranks || config.nproc,
        "Expected --nproc N with --threads-as-ranks, but got none; --nproc 2 starts two ranks");

  choose_compute_threads(config, /*local_world_size=*/1, process_environment());  // checks numbers

  const auto identity = identity_from_environment(config, process_environment());
  if (identity) {
    check(!config.nproc || *config.nproc == identity->world_size,
          "Expected --nproc to be the world size of the launcher, {} ({}), but got {}; leave "
          "--nproc out under a launcher, or unset its variables",
          identity->world_size, identity->launcher, *config.nproc);
    check(!config.threads_as_ranks || identity->world_size == 1,
          "Expected no launcher with --threads-as-ranks, but {} started {} processes; leave one "
          "of the two out",
          identity->launcher, identity->world_size);
    if (identity->world_size > 1) return run_rank_process(config, *identity, timeout, main);
  }
  if (config.nproc.value_or(1) > 1) {
    return config.threads_as_ranks ? launch_threads(config, timeout, main)
                                   : run_local_processes(config, timeout);
  }
  return launch_single(config, timeout, identity ? identity->local_rank : 0, main);
}

}  // namespace megatron
