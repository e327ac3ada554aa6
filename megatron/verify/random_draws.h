// Models and parallel layouts drawn at random from what the option table allows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "megatron/config/options/option_table.h"
#include "megatron/verify/layout_name.h"

namespace megatron {

struct RandomDraw {
  std::vector<std::string> flags;  // of the model, as `megatron verify-layout` accepts them
  NamedLayout layout;              // fits the model; 2 to 8 ranks

  // The command that repeats this draw alone.
  std::string command() const;
};

// Draw `index` of a seed: a function of the two. Switches and choices come from the option table,
// so that a new option is drawn as soon as it is there; numbers come from a list of values by
// option. What validate() refuses beside the options drawn so far is left out.
RandomDraw random_draw(uint64_t seed, int64_t index);

// Whether an option belongs to a draw at all: what decides the model, its loss, recomputation and
// the optimizer's arithmetic.
bool is_drawn_section(const Option& option);

// Why an option of these sections is never drawn; empty where it is. Options that have neither
// values nor a reason are an error of this file, which a test finds.
std::string reason_not_drawn(const Option& option);
bool has_drawn_values(const Option& option);

}  // namespace megatron
