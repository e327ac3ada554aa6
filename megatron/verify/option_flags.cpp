#include "megatron/verify/option_flags.h"

#include <iterator>
#include <sstream>

#include "megatron/base/error.h"
#include "megatron/config/options/assignments.h"

namespace megatron {

std::vector<std::string> split_flags(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

void apply_flags(const std::vector<std::string>& flags, Options& options,
                 std::set<std::string>& given) {
  Assignments assignments(options, given);
  for (size_t i = 0; i < flags.size(); ++i) {
    const Option* option = option_table().find_flag(flags[i]);
    check(option != nullptr, "Expected a flag, but got '{}'", flags[i]);
    const bool is_switch = option->is_shorthand() || is_bool(option->value(options));
    check(is_switch || i + 1 < flags.size(), "Expected a value behind {}, but got none", flags[i]);
    assignments.assign(*option, option->inverted, {is_switch ? "true" : flags[++i]},
                       option->display());
  }
  derive_from_shorthands(options, given);
}

}  // namespace megatron
