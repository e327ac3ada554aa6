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
  for (size_t i = 0; i < flags.size();) {
    const Option* option = option_table().find_flag(flags[i]);
    check(option != nullptr, "Expected a flag, but got '{}'", flags[i]);
    ++i;
    std::vector<std::string> values;
    while (i < flags.size() && !flags[i].starts_with("--")) values.push_back(flags[i++]);
    const bool is_switch = option->is_shorthand() || is_bool(option->value(options));
    check(is_switch == values.empty(), "Expected {} behind {}, but got {} values",
          is_switch ? "no value" : "a value", option->display(), values.size());
    if (is_switch) values = {"true"};
    assignments.assign(*option, option->inverted, values, option->display());
  }
  derive_from_shorthands(options, given);
}

}  // namespace megatron
