#include "megatron/config/options/accepted_flags.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

bool is_whole_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool holds_for(std::string_view accepted, std::string_view value) {
  for (size_t at = 0; at <= accepted.size();) {
    const size_t end = std::min(accepted.find('|', at), accepted.size());
    const std::string_view one = accepted.substr(at, end - at);
    if (one == value || (one == "N" && is_whole_number(value))) return true;
    at = end + 1;
  }
  return false;
}

std::string expected_values(std::string_view accepted) {
  if (accepted == "N") return "a whole number";
  std::string text(accepted);
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.replace(at, 1, ", ");
  return text.size() == accepted.size() ? text : "one of " + text;
}

// Whether a switch of the option table is on.
bool is_on(const Option& option, const Options& options) {
  return *std::get<bool*>(option.value(const_cast<Options&>(options))) != option.inverted;
}

void check_backend(const std::string& backend, const Options& options) {
  const bool cuda = options.launch.device == "cuda";
  const std::string_view expected = cuda ? "nccl" : "gloo";
  if (backend == expected) return;
  throw UsageError(
      fmt::format("Expected --distributed-backend {} with --device {}, but got {}; --device {} "
                  "selects {}, or leave --distributed-backend out",
                  expected, options.launch.device, backend, cuda ? "cpu" : "cuda", backend));
}

void check_local_rank(const std::string& rank) {
  const char* variable = std::getenv("LOCAL_RANK");
  const std::string actual = variable != nullptr ? variable : "0";
  if (rank == actual) return;
  throw UsageError(fmt::format(
      "Expected --local-rank {}, as {}, but got {}; leave it out: torchrun, SLURM and Open MPI set "
      "it in the environment",
      actual, variable != nullptr ? "LOCAL_RANK is" : "LOCAL_RANK is not set", rank));
}

}  // namespace

bool accepts_effectless_flags(Command command) {
  return contains(commands(Command::train, Command::plan, Command::verify_layout), command);
}

void check_accepted_value(const MegatronLmFlag& flag, std::string_view value,
                          std::string_view subject) {
  if (flag.values == 0) {
    if (value.empty() || value == "true" || value == "True") return;
    throw UsageError(fmt::format("Expected true for {}, but got '{}'; leave it out: {}", subject,
                                 value, flag.text));
  }
  if (holds_for(flag.accepted, value)) return;
  throw UsageError(fmt::format("Expected {} for {}, but got '{}'; {}",
                               expected_values(flag.accepted), subject, value, flag.otherwise));
}

void check_accepted_flags(const AcceptedFlags& accepted, const Options& options,
                          const std::set<std::string>& given) {
  for (const auto& [name, value] : accepted) {
    const auto flag = find_megatron_lm_flag(name);
    if (name == "distributed-backend") check_backend(value, options);
    if (name == "local-rank" || name == "local_rank") check_local_rank(value);
    if (flag->opposite.empty()) continue;
    const Option& opposite = *option_table().find_flag(flag->opposite);
    if (!given.contains(opposite.name()) || !is_on(opposite, options)) continue;
    throw UsageError(fmt::format("Expected --{}{}{} or {}, but got both; leave one out", name,
                                 value.empty() ? "" : " ", value, opposite.display()));
  }
}

std::vector<std::string> flags_without_effect(const AcceptedFlags& accepted,
                                              const Options& options) {
  std::vector<std::string> flags;
  for (const auto& [name, value] : accepted) {
    const bool logs_nothing =
        name.ends_with("-to-tensorboard") && options.logging.tensorboard_dir.empty();
    flags.push_back(
        fmt::format("--{}{}{}{}", name, value.empty() ? "" : " ", value,
                    logs_nothing ? " (with --tensorboard-dir, which is not given)" : ""));
  }
  return flags;
}

std::string flags_without_effect_line(const std::vector<std::string>& flags) {
  if (flags.empty()) return "";
  return fmt::format("Flags without effect here, because it is always so: {}",
                     fmt::join(flags, ", "));
}

}  // namespace megatron
