// Checks of --profile.
#include <algorithm>

#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {

void check_profile(const ProfileConfig& config, int64_t steps, int world_size, Problems& problems) {
  const ProfileConfig defaults;
  if (!config.profile) {
    const bool untouched = config.profile_step_start == defaults.profile_step_start &&
                           config.profile_step_end == defaults.profile_step_end &&
                           config.profile_ranks == defaults.profile_ranks &&
                           config.profile_dir == defaults.profile_dir;
    problems.expect(untouched,
                    "Expected --profile with the other --profile-* options, but got none; add "
                    "--profile, or leave them out");
    return;
  }
  problems.at_least("--profile-step-start", config.profile_step_start, 0);
  problems.expect(config.profile_step_end > config.profile_step_start,
                  "Expected --profile-step-end above --profile-step-start ({}), but got {}; {} "
                  "records one step",
                  config.profile_step_start, config.profile_step_end,
                  config.profile_step_start + 1);
  problems.expect(steps < 1 || config.profile_step_end <= steps,  // check_can_start reports 0 steps
                  "Expected --profile-step-end of at most the run's {} steps, but got {}; "
                  "--profile-step-start {} and --profile-step-end {} would work",
                  steps, config.profile_step_end, std::max<int64_t>(steps - 2, 0), steps);
  problems.expect(!config.profile_ranks.empty(),
                  "Expected at least one rank in --profile-ranks, but got none; 0 works");
  for (const int64_t rank : config.profile_ranks) {
    problems.expect(rank >= 0 && rank < world_size,
                    "Expected --profile-ranks within 0 to {}, but got {}; 0 works", world_size - 1,
                    rank);
  }
  problems.expect(!config.profile_dir.empty(),
                  "Expected a folder for --profile-dir, but got none; leave it out for '{}'",
                  defaults.profile_dir);
}

}  // namespace megatron
