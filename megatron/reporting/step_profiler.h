// Traces of selected steps (--profile) with libtorch's profiler (Kineto).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "megatron/config/options/options.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// Initializes Kineto on the calling thread, which must be the main thread: otherwise Kineto prints
// a warning. Does something only for ranks as threads, and must be called before they start. A
// process that forks ranks must not have profiler threads.
void prepare_step_profiler(const Options& options);

class StepProfiler {
 public:
  // Throws Error if a recording rank cannot create profile_dir.
  StepProfiler(const ProfileConfig& config, const RankContext& rank, ProcessGroupPtr world);
  // Stops a running recording without writing it.
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  // Call around each step with the number of completed steps since iteration 0. They start and end
  // the recording; those calls are collective over the world, so that no rank's step is cut off.
  //
  // At the end of the recording, after_step first calls `settle`, which must wait for communication
  // that the step left in flight. Returns the file that this rank wrote, if any:
  // profile_dir/rankR_steps_A-B.json, where A and B are step numbers as in the log (from 1). Ranks
  // as threads share the process's profiler and write one file, ranks..., with rows for each of
  // them. Throws Error if the file cannot be written.
  void before_step(int64_t done);
  std::optional<std::string> after_step(int64_t done, const std::function<void()>& settle);

 private:
  void start();
  std::string stop();
  // Whether this rank records. If ranks are threads, the first traced rank records for all.
  bool records() const;
  // The ranks of this process by thread id. Collective if ranks are threads.
  std::map<int64_t, int> ranks_by_thread() const;

  ProfileConfig config_;
  RankContext rank_;
  ProcessGroupPtr world_;
  bool ranks_are_threads_;
  bool recording_ = false;
  std::map<int64_t, int> rank_of_thread_;  // set when a recording starts
};

}  // namespace megatron
