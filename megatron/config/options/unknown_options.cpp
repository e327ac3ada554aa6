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

enum class Verdict { leave_out, use_instead, absent, of_others, unknown };

struct Answer {
  Verdict verdict = Verdict::unknown;
  std::string text;    // what Megatron-LM's table says, or which subcommands take it
  bool listed = true;  // by Megatron-LM's table
};

const Option* option_of(const std::string& name) {
  if (name.starts_with("--")) return option_table().find_flag(name);
  return name.starts_with('-') ? nullptr : option_table().find_key(name).option;
}

Answer answer_to(Command command, const std::string& name) {
  const Option* option = option_of(name);
  if (option != nullptr && !contains(option->taken_by, command))
    return {Verdict::of_others, command_list(option->taken_by), false};
  if (const auto flag = find_megatron_lm_flag(name)) {
    constexpr std::array kVerdicts = {Verdict::leave_out, Verdict::use_instead, Verdict::absent};
    return {kVerdicts[static_cast<size_t>(flag->fate)], std::string(flag->text)};
  }
  return {Verdict::unknown, "", false};
}

std::string about_one(Command command, const OptionWording& wording, const UnknownOption& unknown) {
  const Answer answer = answer_to(command, unknown.name);
  const std::string lead = fmt::format("Expected {}, but got {}", wording.one, unknown.shown);
  switch (answer.verdict) {
    case Verdict::leave_out:
      return fmt::format("{}, which is Megatron-LM's; leave it out: {} ({} lists such flags)", lead,
                         answer.text, kPage);
    case Verdict::use_instead:
      return fmt::format("{}, which is Megatron-LM's; use {} ({} lists such flags)", lead,
                         answer.text, kPage);
    case Verdict::absent:
      return fmt::format("{}, which is Megatron-LM's and not in this version ({}); {} says what is",
                         lead, answer.text, kPage);
    case Verdict::of_others:
      return fmt::format("Expected {} of megatron {}, but got {}, which is one of: {}",
                         wording.noun, command_name(command), unknown.shown, answer.text);
    case Verdict::unknown:
      break;
  }
  return lead + (unknown.nearest.empty()
                     ? fmt::format("; megatron {} --help lists them", command_name(command))
                     : unknown.nearest);
}

// What is said of one within its group.
std::string detail_of(const Answer& answer, const UnknownOption& unknown) {
  if (answer.verdict == Verdict::use_instead) return "use " + answer.text;
  if (answer.verdict == Verdict::of_others) return "one of: " + answer.text;
  if (answer.verdict != Verdict::unknown) return answer.text;
  return unknown.nearest.empty() ? "" : unknown.nearest.substr(2);  // without "; "
}

}  // namespace

void refuse_unknown_options(Command command, const OptionWording& wording,
                            const std::vector<UnknownOption>& unknown) {
  if (unknown.empty()) return;
  if (unknown.size() == 1)
    throw UsageError(wording.where + about_one(command, wording, unknown.front()));
  constexpr std::array<std::string_view, 5> kGroups = {
      "leave out (always so here, or nothing to set)", "use another instead", "not in this version",
      "of other subcommands", "unknown"};
  size_t width = 0;
  for (const UnknownOption& one : unknown) width = std::max(width, one.shown.size());
  std::string details, summary;
  bool listed = false;
  for (size_t group = 0; group < kGroups.size(); ++group) {
    std::vector<std::string> names;
    std::string lines;
    for (const UnknownOption& one : unknown) {
      const Answer answer = answer_to(command, one.name);
      if (static_cast<size_t>(answer.verdict) != group) continue;
      const std::string detail = detail_of(answer, one);
      listed |= answer.listed;
      lines += detail.empty() ? fmt::format("  {}\n", one.shown)
                              : fmt::format("  {:<{}}  {}\n", one.shown, width, detail);
      const bool says_what = answer.verdict == Verdict::use_instead ||
                             (answer.verdict == Verdict::unknown && !detail.empty());
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
