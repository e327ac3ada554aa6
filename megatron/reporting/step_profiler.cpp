#include "megatron/reporting/step_profiler.h"

#include <cstdlib>
#include <filesystem>
#include <set>
#include <unistd.h>

#include <fmt/ranges.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include "megatron/base/device.h"
#include "megatron/base/error.h"
#include "megatron/reporting/trace_file.h"

namespace megatron {
namespace {

namespace profiler = torch::autograd::profiler;

std::set<int> traced_ranks(const ProfileConfig& config) {
  return {config.profile_ranks.begin(), config.profile_ranks.end()};
}

void begin_recording(bool on_gpu, bool all_threads) {
  using State = profiler::ProfilerState;
  using Activity = profiler::ActivityType;
  std::set<Activity> activities{Activity::CPU};
  if (on_gpu) activities.insert(Activity::CUDA);
  torch::profiler::impl::ExperimentalConfig details;
  details.profile_all_threads = all_threads;
  const profiler::ProfilerConfig config(State::KINETO, /*report_input_shapes=*/false,
                                        /*profile_memory=*/false, /*with_stack=*/false,
                                        /*with_flops=*/false, /*with_modules=*/false, details);
  // Kineto warns if it finds no GPU.
  if (!on_gpu) setenv("KINETO_LOG_LEVEL", "5", /*overwrite=*/0);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
}

// "step_3", "steps_3-4", numbered as in the log (from 1).
std::string recorded_steps(const ProfileConfig& config) {
  const int64_t first = config.profile_step_start + 1, last = config.profile_step_end;
  return first == last ? fmt::format("step_{}", first) : fmt::format("steps_{}-{}", first, last);
}

}  // namespace

void prepare_step_profiler(const Options& options) {
  const LaunchConfig& launch = options.launch;
  if (!options.profile.profile || !launch.threads_as_ranks || launch.nproc.value_or(1) <= 1) return;
  // Make an empty recording: a profiler that is only prepared would block the real one.
  begin_recording(launch.device != "cpu", /*all_threads=*/false);
  profiler::disableProfiler();
}

StepProfiler::StepProfiler(const ProfileConfig& config, const RankContext& rank,
                           ProcessGroupPtr world)
    : config_(config),
      rank_(rank),
      world_(std::move(world)),
      ranks_are_threads_(rank.transport && rank.transport->kind() == "threads") {
  if (!config_.profile || !records()) return;
  std::error_code error;
  std::filesystem::create_directories(config_.profile_dir, error);
  check(std::filesystem::is_directory(config_.profile_dir),
        "Expected --profile-dir to name a folder that exists or can be created, but got {}: {}",
        config_.profile_dir, error.message());
}

StepProfiler::~StepProfiler() {
  if (recording_) profiler::disableProfiler();
}

bool StepProfiler::records() const {
  const std::set<int> ranks = traced_ranks(config_);
  return ranks_are_threads_ ? rank_.rank == *ranks.begin() : ranks.contains(rank_.rank);
}

void StepProfiler::before_step(int64_t done) {
  if (!config_.profile || done != config_.profile_step_start) return;
  synchronize(rank_.device);
  rank_of_thread_ = ranks_by_thread();
  world_->barrier();
  if (records()) start();
  world_->barrier();
}

std::optional<std::string> StepProfiler::after_step(int64_t done,
                                                    const std::function<void()>& settle) {
  if (!config_.profile || done != config_.profile_step_end) return std::nullopt;
  settle();
  synchronize(rank_.device);
  world_->barrier();
  std::optional<std::string> file;
  if (recording_) file = stop();
  world_->barrier();
  return file;
}

std::map<int64_t, int> StepProfiler::ranks_by_thread() const {
  const at::Tensor mine = at::full({1}, static_cast<int64_t>(gettid()), at::kLong);
  if (!ranks_are_threads_) return {{mine.item<int64_t>(), rank_.rank}};
  const at::Tensor all = world_->all_gather(mine.to(world_->device())).to(at::kCPU);
  std::map<int64_t, int> ranks;
  for (int i = 0; i < world_->size(); ++i) ranks[all[i].item<int64_t>()] = world_->ranks()[i];
  return ranks;
}

void StepProfiler::start() {
  begin_recording(rank_.device.is_cuda(), ranks_are_threads_);
  recording_ = true;
}

std::string StepProfiler::stop() {
  const auto result = profiler::disableProfiler();
  recording_ = false;
  const std::set<int> ranks = ranks_are_threads_ ? traced_ranks(config_) : std::set{rank_.rank};
  const std::string file =
      fmt::format("{}/rank{}{}_{}.json", config_.profile_dir, ranks.size() == 1 ? "" : "s",
                  fmt::join(ranks, "_"), recorded_steps(config_));
  std::filesystem::remove(file);
  result->save(file);
  check(std::filesystem::exists(file),
        "Expected to write the trace {}, but could not; give another --profile-dir", file);
  arrange_trace(file, {.are_threads = ranks_are_threads_,
                       .ranks = ranks,
                       .rank_of_thread = rank_of_thread_,
                       .recorder = gettid(),
                       .process = getpid()});
  return file;
}

}  // namespace megatron
