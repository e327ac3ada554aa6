// megatron plan: parameters, FLOPs, memory and bubble of a layout, without starting ranks.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "megatron/base/error.h"
#include "megatron/config/options/accepted_flags.h"
#include "megatron/config/validate/validate.h"
#include "megatron/planner/layout_plan.h"
#include "megatron/tokenizers/build_tokenizer.h"
#include "megatron/training/adopted_model.h"

#include "cli/command.h"

namespace megatron {
namespace {

// The ranks that the options ask for; by default those of one model replica.
int planned_ranks(const Options& options) {
  constexpr int64_t kMostRanks = 1 << 20;
  const auto& asked = options.plan.world_size;
  const auto& started = options.launch.nproc;
  check(!asked || !started || *asked == *started,
        "Expected --world-size to be --nproc ({}), but got {}; leave one out", started.value_or(0),
        asked.value_or(0));
  const TransformerConfig& t = options.model.transformer;
  int64_t one_copy = 1;
  for (const int64_t size :
       {t.tensor_model_parallel_size, t.pipeline_model_parallel_size, t.context_parallel_size}) {
    one_copy = std::min(one_copy * std::clamp<int64_t>(size, 1, kMostRanks), kMostRanks + 1);
  }
  const int64_t ranks = asked.value_or(started.value_or(one_copy));
  check(ranks >= 1 && ranks <= kMostRanks,
        "Expected a plan for 1 to {} ranks, but got {}; give another --world-size", kMostRanks,
        ranks);
  return static_cast<int>(ranks);
}

}  // namespace

int run_plan(const ParsedCommand& command) {
  Options options = command.options;
  adopt_loaded_model(options, command.given);
  const std::string& file = options.plan.draw_schedule;
  check(file.empty() || std::filesystem::path(file).extension() == ".svg",
        "Expected a file that ends with .svg for --draw-schedule, but got '{}'; {} works", file,
        std::filesystem::path(file).replace_extension(".svg").string());
  const int world_size = planned_ranks(options);
  validate(options, world_size, Command::plan);
  // As in training, the tokenizer may determine the vocabulary size.
  build_run_tokenizer(options);
  validate(options, world_size, Command::plan);
  const LayoutPlan plan = plan_layout(options, world_size);
  std::cout << format_layout_plan(plan, options);
  if (!command.without_effect.empty())
    std::cout << flags_without_effect_line(command.without_effect) << "\n";
  if (!file.empty()) {
    const std::string picture = draw_layout_plan(plan);
    errno = 0;
    std::ofstream stream(file);
    stream << picture << std::flush;
    check(stream.good(), "Expected to write --draw-schedule {}, but could not: {}", file,
          errno != 0 ? std::strerror(errno) : "the system gives no reason");
    std::cout << "schedule drawn in " << file << "\n";
  }
  return 0;
}

}  // namespace megatron
