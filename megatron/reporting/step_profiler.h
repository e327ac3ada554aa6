// --profile: traces of some steps, by libtorch's profiler (Kineto).
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

// Starts libtorch's profiler on the calling thread, which must be the one that the program began
// on: Kineto complains where another is the first. Only ranks that are threads need it, before they
// start; a process that starts ranks as processes must not have the profiler's threads.
void prepare_step_profiler(const Options& options);

class StepProfiler {
 public:
  // Throws Error where a rank that records cannot make profile_dir.
  StepProfiler(const ProfileConfig& config, const RankContext& rank, ProcessGroupPtr world);
  // Ends a recording that goes on, and writes nothing.
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  // To be called around each step with the number of steps done (since iteration 0). They begin and
  // end the recording: there they are collective over the world, so that no rank's step is cut.
  //
  // after_step first calls `settle` where the recording ends: to wait for what the step left in
  // flight, whose ranges would be cut. It returns the file that this rank has written, if any: in
  // profile_dir, rankR_steps_A-B.json with the first and the last step as the log counts them,
  // from 1. The profiler is the process's: ranks that are threads write one file, ranks..., with
  // rows for each. Throws Error where it cannot be written.
  void before_step(int64_t done);
  std::optional<std::string> after_step(int64_t done, const std::function<void()>& settle);

 private:
  void start();
  std::string stop();
  // Of several ranks in a process, the first that is traced records for all.
  bool records() const;
  // The ranks of this process by the system's number of their thread. Collective where they are
  // threads.
  std::map<int64_t, int> ranks_by_thread() const;

  ProfileConfig config_;
  RankContext rank_;
  ProcessGroupPtr world_;
  bool ranks_are_threads_;
  bool recording_ = false;
  std::map<int64_t, int> rank_of_thread_;  // known from the start of a recording
};

}  // namespace megatron
