// Draws random models and parallel layouts from the option table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "megatron/config/options/option_table.h"
#include "megatron/verify/layout_name.h"

namespace megatron {

struct RandomDraw {
  std::vector<std::string> flags;  // model flags of `megatron verify-layout`
  NamedLayout layout;              // fits the model; 2 to 8 ranks

  // The command that runs this draw alone.
  std::string command() const;
};

// Draw `index` of a seed: a function of the two. Switches and choices come from the option table,
// so new options take part without further work; numbers come from a list of values per option.
// Skips options that validate() refuses in combination with those drawn before.
RandomDraw random_draw(uint64_t seed, int64_t index);

// Whether an option is in a section that draws cover: model, loss, recomputation, optimizer.
bool is_drawn_section(const Option& option);

// Why an option of these sections is never drawn; empty if it is. A test fails if an option has
// neither values nor a reason.
std::string reason_not_drawn(const Option& option);
bool has_drawn_values(const Option& option);

}  // namespace megatron
