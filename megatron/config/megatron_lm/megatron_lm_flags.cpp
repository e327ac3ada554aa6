#include "megatron/config/megatron_lm/megatron_lm_flags.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace megatron {
namespace {

// Prefixes of Megatron-LM flags, for flags of newer versions.
constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kFamilies = {
    {{"moe-", "mixture of experts"},
     {"fsdp-", "other process groups and communication"},
     {"megatron-fsdp-", "other process groups and communication"},
     {"fp8-", "FP8 and FP4"},
     {"fp4-", "FP8 and FP4"},
     {"rl-", "reinforcement learning"},
     {"grpo-", "reinforcement learning"},
     {"inference-", "inference servers and their settings"},
     {"mamba-", "Mamba, linear attention and hybrid models"},
     {"hybrid-", "Mamba, linear attention and hybrid models"},
     {"retro-", "BERT, T5 and retrieval"},
     {"vision-", "vision"},
     {"muon-", "other optimizers and schedules"},
     {"dist-ckpt-", "other checkpoint options"},
     {"inprocess-", "fault tolerance and health checks"},
     {"wandb-", "other logging"}}};

// Fields of Megatron's DistributedDataParallelConfig, which a file may name, and their flags.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kFlagOfField = {
    {{"average-in-collective", "ddp-average-in-collective"},
     {"gradient-reduce-div-fusion", "no-gradient-reduce-div-fusion"},
     {"nccl-ub", "use-nccl-ub"},
     {"param-name-patterns-for-fp32-local-accumulation",
      "ddp-param-name-patterns-for-fp32-local-accumulation"},
     {"reduce-scatter-with-fp32-accumulation", "ddp-reduce-scatter-with-fp32-accumulation"}}};

MegatronLmFlag absent_flag(std::string_view word, std::string_view theme) {
  const size_t mark = word.find('=');
  MegatronLmFlag flag{.name = word.substr(0, mark), .text = theme};
  if (mark == std::string_view::npos) return flag;
  const std::string_view count = word.substr(mark + 1);
  flag.values = count.empty()  ? 1
                : count == "*" ? MegatronLmFlag::kUpToTheNextFlag
                               : count.front() - '0';
  return flag;
}

std::vector<MegatronLmFlag> all_flags() {
  std::vector<MegatronLmFlag> flags = effectless_megatron_lm_flags();
  const std::vector<MegatronLmFlag>& replaced = replaced_megatron_lm_flags();
  flags.insert(flags.end(), replaced.begin(), replaced.end());
  constexpr std::string_view kBlank = " \n";
  for (const auto& [theme, text] : absent_megatron_lm_themes()) {
    for (size_t at = text.find_first_not_of(kBlank); at != std::string_view::npos;) {
      const size_t end = std::min(text.find_first_of(kBlank, at), text.size());
      flags.push_back(absent_flag(text.substr(at, end - at), theme));
      at = text.find_first_not_of(kBlank, end);
    }
  }
  return flags;
}

std::string with_dashes(std::string_view name) {
  std::string result(name);
  std::ranges::replace(result, '_', '-');
  return result;
}

// `--dataloader-type single`; alternatives are separated by a slash, because | ends a cell.
std::string name_in_table(const MegatronLmFlag& flag) {
  std::string accepted(flag.accepted);
  std::ranges::replace(accepted, '|', '/');
  return fmt::format("`--{}{}{}`", flag.name, accepted.empty() ? "" : " ", accepted);
}

std::string rows_of(MegatronLmFate fate, std::string_view heading) {
  std::string rows = fmt::format("| Megatron-LM | {} |\n|---|---|\n", heading);
  const std::vector<MegatronLmFlag>& flags = fate == MegatronLmFate::no_effect
                                                 ? effectless_megatron_lm_flags()
                                                 : replaced_megatron_lm_flags();
  // Adjacent flags with the same text share a row.
  std::string_view text;
  for (const MegatronLmFlag& flag : flags) {
    if (flag.fate != fate) continue;
    const std::string name = name_in_table(flag);
    if (!text.empty() && flag.text == text) {
      rows.insert(rows.rfind(" | "), ", " + name);
    } else {
      rows += fmt::format("| {} | {} |\n", name, flag.text);
    }
    text = flag.text;
  }
  return rows;
}

}  // namespace

const std::vector<MegatronLmFlag>& megatron_lm_flags() {
  static const std::vector<MegatronLmFlag> flags = all_flags();
  return flags;
}

std::optional<MegatronLmFlag> find_megatron_lm_flag(std::string_view flag) {
  flag.remove_prefix(std::min(flag.find_first_not_of('-'), flag.size()));
  for (const MegatronLmFlag& known : megatron_lm_flags()) {
    if (known.name == flag) return known;
  }
  std::string name = with_dashes(flag);
  for (const auto& [field, of_field] : kFlagOfField)
    if (name == field) name = of_field;
  for (const MegatronLmFlag& known : megatron_lm_flags()) {
    if (with_dashes(known.name) == name) return known;
  }
  for (const auto& [begin, theme] : kFamilies) {
    if (!name.starts_with(begin)) continue;
    return MegatronLmFlag{.name = flag, .values = MegatronLmFlag::kUpToTheNextFlag, .text = theme};
  }
  return std::nullopt;
}

std::string megatron_lm_flags_markdown() {
  std::string page =
      "## Accepted without effect\n\n"
      "What these flags ask for is always so. A run lists those that it was given in one line at "
      "its start; values that are not in the table are refused.\n\n" +
      rows_of(MegatronLmFate::no_effect, "what is always so") + "\n## To leave out\n\n" +
      rows_of(MegatronLmFate::leave_out, "why") + "\n## To replace\n\n" +
      rows_of(MegatronLmFate::use_instead, "replacement") +
      "\n## Not supported in this version\n\n| feature | flags |\n|---|---|\n";
  std::string_view theme;
  for (const MegatronLmFlag& flag : megatron_lm_flags()) {
    if (flag.fate != MegatronLmFate::absent) continue;
    if (flag.text != theme) {
      page += fmt::format("{}| {} | `--{}`", theme.empty() ? "" : " |\n", flag.text, flag.name);
    } else {
      page += fmt::format(" `--{}`", flag.name);
    }
    theme = flag.text;
  }
  return page + " |\n";
}

}  // namespace megatron
