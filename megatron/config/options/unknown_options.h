// Errors for flags and keys that a subcommand does not accept, grouped by remedy.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "megatron/config/options/command.h"

namespace megatron {

struct UnknownOption {
  std::string name;     // flag with dashes, or key
  std::string shown;    // name in messages
  std::string nearest;  // nearest_hint() or empty
};

// Wording of the messages.
struct OptionWording {
  std::string_view noun;  // "a flag"
  std::string one;        // expected in place of one: "a flag of megatron train"
  std::string many;       // expected in place of several
  std::string where;      // prefix ("file.yaml: ") or empty
};

// Throws UsageError if `unknown` is not empty. With several unknown options, details() has one line
// for each.
void refuse_unknown_options(Command command, const OptionWording& wording,
                            const std::vector<UnknownOption>& unknown);

}  // namespace megatron
