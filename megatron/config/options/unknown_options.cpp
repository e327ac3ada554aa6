#include "megatron/config/options/unknown_options.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "megatron/config/megatron_lm/megatron_lm_flags.h"
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

constexpr std::string_view kPage = "docs/from_megatron_lm.md";

enum class Remedy { leave_out, use_instead, absent, of_others, unknown };

struct Answer {
  Remedy remedy = Remedy::unknown;
  std::string text;    // from the table of Megatron-LM's flags, or the subcommands that accept it
  bool listed = true;  // in the table of Megatron-LM's flags
};

const Option* option_of(const std::string& name) {
  if (name.starts_with("--")) return option_table().find_flag(name);
  return name.starts_with('-') ? nullptr : option_table().find_key(name).option;
}

Answer answer_to(Command command, const std::string& name) {
  const Option* option = option_of(name);
  if (option != nullptr && !contains(option->taken_by, command))
    return {Remedy::of_others, command_list(option->taken_by), false};
  if (const auto flag = find_megatron_lm_flag(name)) {
    // Flags without effect are unknown to subcommands that do not read training options.
    constexpr std::array kRemedies = {Remedy::leave_out, Remedy::leave_out, Remedy::use_instead,
                                      Remedy::absent};
    return {kRemedies[static_cast<size_t>(flag->fate)], std::string(flag->text)};
  }
  return {Remedy::unknown, "", false};
}

std::string about_one(Command command, const OptionWording& wording, const UnknownOption& unknown) {
  const Answer answer = answer_to(command, unknown.name);
  const std::string lead = fmt::format("Expected {}, but got {}", wording.one, unknown.shown);
  switch (answer.remedy) {
    case Remedy::leave_out:
      return fmt::format("{}, a flag of Megatron-LM; leave it out: {} ({} lists such flags)", lead,
                         answer.text, kPage);
    case Remedy::use_instead:
      return fmt::format("{}, a flag of Megatron-LM; use {} ({} lists such flags)", lead,
                         answer.text, kPage);
    case Remedy::absent:
      return fmt::format(
          "{}, a flag of Megatron-LM that is not supported in this version ({}); {} lists such "
          "flags",
          lead, answer.text, kPage);
    case Remedy::of_others:
      return fmt::format("Expected {} of megatron {}, but got {}, which belongs to: {}",
                         wording.noun, command_name(command), unknown.shown, answer.text);
    case Remedy::unknown:
      break;
  }
  return lead + (unknown.nearest.empty()
                     ? fmt::format("; megatron {} --help lists them", command_name(command))
                     : unknown.nearest);
}

// The text for one option within its group.
std::string detail_of(const Answer& answer, const UnknownOption& unknown) {
  if (answer.remedy == Remedy::use_instead) return "use " + answer.text;
  if (answer.remedy == Remedy::of_others) return "belongs to: " + answer.text;
  if (answer.remedy != Remedy::unknown) return answer.text;
  return unknown.nearest.empty() ? "" : unknown.nearest.substr(2);  // without "; "
}

}  // namespace

void refuse_unknown_options(Command command, const OptionWording& wording,
                            const std::vector<UnknownOption>& unknown) {
  if (unknown.empty()) return;
  if (unknown.size() == 1)
    throw UsageError(wording.where + about_one(command, wording, unknown.front()));
  constexpr std::array<std::string_view, 5> kGroups = {
      "leave out", "replace", "not supported in this version", "of other subcommands", "unknown"};
  size_t width = 0;
  for (const UnknownOption& one : unknown) width = std::max(width, one.shown.size());
  std::string details, summary;
  bool listed = false;
  for (size_t group = 0; group < kGroups.size(); ++group) {
    std::vector<std::string> names;
    std::string lines;
    for (const UnknownOption& one : unknown) {
      const Answer answer = answer_to(command, one.name);
      if (static_cast<size_t>(answer.remedy) != group) continue;
      const std::string detail = detail_of(answer, one);
      listed |= answer.listed;
      lines += detail.empty() ? fmt::format("  {}\n", one.shown)
                              : fmt::format("  {:<{}}  {}\n", one.shown, width, detail);
      const bool says_what = answer.remedy == Remedy::use_instead ||
                             (answer.remedy == Remedy::unknown && !detail.empty());
      names.push_back(says_what ? fmt::format("{} ({})", one.shown, detail) : one.shown);
    }
    if (names.empty()) continue;
    details += fmt::format("{}:\n{}", kGroups[group], lines);
    summary += fmt::format("; {}: {}", kGroups[group], fmt::join(names, ", "));
  }
  throw UsageError(
      fmt::format("{}Expected {}, but got {} others{}{}", wording.where, wording.many,
                  unknown.size(), summary,
                  listed ? fmt::format("; {} lists those of Megatron-LM", kPage) : std::string()),
      std::move(details));
}

}  // namespace megatron
