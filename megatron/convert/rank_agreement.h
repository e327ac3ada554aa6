// Steps that all ranks take together: where one fails, all of them throw.
#pragma once

#include <functional>
#include <string>

#include "megatron/parallel/process_group.h"

namespace megatron {

// Runs `step` on every rank and returns the first rank's result to all. If a rank's step throws,
// every rank runs `clean_up` and then throws Error: "Expected to `purpose`, but rank 2 failed: ...".
std::string agree_on_step(const ProcessGroup& world, const std::string& purpose,
                          const std::function<std::string()>& step,
                          const std::function<void()>& clean_up);

}  // namespace megatron
