// What is said about flags and keys that a subcommand does not take: all of them at once, by what
// to do about each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "megatron/config/options/command.h"

namespace megatron {

struct UnknownOption {
  std::string name;     // of the flag with its dashes, or of the key
  std::string shown;    // how messages name it
  std::string nearest;  // a hint as of nearest_hint(), or empty
};

// How messages name what they are about.
struct OptionWording {
  std::string_view noun;  // "a flag"
  std::string one;        // what was expected in place of one: "a flag of megatron train"
  std::string many;       // and of several
  std::string where;      // in front of the text ("file.yaml: "), or empty
};

// Throws UsageError unless `unknown` is empty. One is told in a line; of several the error's
// details() have a line each.
void refuse_unknown_options(Command command, const OptionWording& wording,
                            const std::vector<UnknownOption>& unknown);

}  // namespace megatron
