// The table's part about traces of a run.
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
  group.add(&P::profile, {.flag = "profile",
                          .help = "Write a Chrome trace of some steps for each profiled rank: "
                                  "compute, and communication beside it"});
  group.shorthand({.flag = "use-pytorch-profiler",
                   .help = "The same as --profile: the profiler is libtorch's",
                   .sets = {{"profile", "true"}}});
  group.add(&P::profile_step_start, {.flag = "profile-step-start",
                                     .help = "Steps done when the trace begins: with 10 its first "
                                             "step is the log's 11; the warm-up steps of bench "
                                             "count",
                                     .unit = "step"});
  group.add(&P::profile_step_end,
            {.flag = "profile-step-end",
             .help = "Steps done when the trace ends: with 12 its last step is the log's 12",
             .unit = "step"});
  group.add(&P::profile_ranks, {.flag = "profile-ranks",
                                .help = "Ranks that are traced; ranks that are threads share "
                                        "one file, with rows for these"});
  group.add(&P::profile_dir, {.flag = "profile-dir",
                              .help = "Folder for the traces",
                              .between_ranks = RankAgreement::none});
}

}  // namespace megatron
