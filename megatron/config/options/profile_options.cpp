// Options of the profiler.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

ProfileConfig& profile_of(Options& options) {
  return options.profile;
}

}  // namespace

void add_profile_options(OptionTable& table) {
  using P = ProfileConfig;
  const auto group = table.group("Profile", commands(Command::train, Command::bench), &profile_of,
                                 {.differs_between_runs = true});
  group.add(
      &P::profile,
      {.flag = "profile",
       .help = "Write a Chrome trace of a few steps for each profiled rank, with computation and "
               "communication"});
  group.shorthand({.flag = "use-pytorch-profiler",
                   .help = "Same as --profile; the profiler is libtorch's",
                   .sets = {{"profile", "true"}}});
  group.add(
      &P::profile_step_start,
      {.flag = "profile-step-start",
       .help =
           "Completed steps when the trace starts: with 10 it starts at iteration 11 of the log; "
           "bench counts its warm-up steps",
       .unit = "step"});
  group.add(
      &P::profile_step_end,
      {.flag = "profile-step-end",
       .help = "Completed steps when the trace ends: with 12 it ends after iteration 12 of the log",
       .unit = "step"});
  group.add(&P::profile_ranks,
            {.flag = "profile-ranks",
             .help = "Ranks to profile; ranks that are threads share one file with these ranks"});
  group.add(&P::profile_dir, {.flag = "profile-dir",
                              .help = "Directory of the traces",
                              .between_ranks = RankAgreement::none});
}

}  // namespace megatron
