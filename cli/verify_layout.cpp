// megatron verify-layout: parallel layouts of a model against one rank, as threads in fp64.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <set>
#include <utility>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/config/options/accepted_flags.h"
#include "megatron/config/options/options_json.h"
#include "megatron/models/common/builder_registry.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/reporting/terminal.h"
#include "megatron/training/adopted_model.h"
#include "megatron/verify/random_draws.h"
#include "megatron/verify/verification_model.h"
#include "megatron/verify/verification_report.h"

#include "cli/command.h"

namespace megatron {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int width_of(const std::vector<NamedLayout>& layouts) {
  size_t width = std::string_view("layout").size();
  for (const NamedLayout& layout : layouts) width = std::max(width, layout.name.size());
  return static_cast<int>(width);
}

// Prints the table, to standard error if the JSON goes to standard output (--json -).
class Output {
 public:
  explicit Output(const std::string& json_file)
      : json_file_(json_file), terminal_(json_file == "-" ? stderr : stdout) {}

  Terminal& terminal() { return terminal_; }

  void write_json(const nlohmann::json& json) {
    if (json_file_.empty()) return;
    const std::string text = json.dump(2) + "\n";
    if (json_file_ == "-") {
      std::cout << text << std::flush;
      return;
    }
    errno = 0;
    std::ofstream stream(json_file_);
    stream << text << std::flush;
    check(stream.good(), "Expected to write --json {}, but could not: {}", json_file_,
          errno != 0 ? std::strerror(errno) : "the system gives no reason");
  }

 private:
  std::string json_file_;
  Terminal terminal_;
};

int finish(const VerificationReport& report, const std::vector<LayoutResult>& results,
           double seconds, Output& output, nlohmann::json json) {
  output.terminal().clear_status();
  output.terminal().line("");
  output.terminal().line(report.verdict(results, seconds));
  const std::string failure = report.failure(results);
  json["holds"] = failure.empty();
  json["seconds"] = seconds;
  output.write_json(json);
  check(failure.empty(), "{}", failure);
  return 0;
}

// The layouts given by name, else the options' own layout if it has several ranks.
std::vector<NamedLayout> layouts_to_verify(const ParsedCommand& command, const Options& options) {
  const std::vector<std::string>& names = command.options.verify_layout.layouts;
  if (!names.empty()) return layouts_from_names(names);
  std::vector<NamedLayout> layouts;
  const auto& launch = command.options.launch;
  const TransformerConfig& t = options.model.transformer;
  const int64_t model_ranks =
      t.tensor_model_parallel_size * t.pipeline_model_parallel_size * t.context_parallel_size;
  check(model_ranks >= 1 && model_ranks <= kMostLocalRanks,
        "Expected parallel sizes of at least 1 and at most {} ranks, but got {} x {} x {}",
        kMostLocalRanks, t.tensor_model_parallel_size, t.pipeline_model_parallel_size,
        t.context_parallel_size);
  const bool is_sharded = options.ddp.use_distributed_optimizer || options.ddp.use_megatron_fsdp ||
                          options.ddp.use_torch_fsdp2 || options.ddp.overlap_grad_reduce;
  const auto ranks = static_cast<int>(launch.nproc.value_or(model_ranks * (is_sharded ? 2 : 1)));
  if (ranks > 1) {
    const std::string name = layout_name_of(options, ranks);
    layouts.push_back(layout_from_name(name));
  }
  return layouts;
}

// Takes the architecture of the Hugging Face folder or GGUF file that --load names, or of a checkpoint
// that came from one. Other checkpoints need the options of their run, as training does. Returns the
// options that are given then.
std::set<std::string> adopt_model_to_verify(Options& options, std::set<std::string> given) {
  if (options.checkpoint.load.empty()) return given;
  adopt_loaded_model(options, given);
  check(options.model.transformer.num_layers > 0,
        "Expected --load to name a Hugging Face folder, a GGUF file or a checkpoint that came from "
        "one, but {} is none; --num-layers and the other options of the run describe any model",
        options.checkpoint.load);
  given.insert("num_layers");
  if (options.model.transformer.hidden_size > 0) given.insert("hidden_size");
  if (options.model.transformer.num_attention_heads > 0) given.insert("num_attention_heads");
  return given;
}

int verify_model(const ParsedCommand& command) {
  const auto start = Clock::now();
  const VerifyLayoutConfig& wanted = command.options.verify_layout;
  Options options = command.options;
  complete_verification_model(options, adopt_model_to_verify(options, command.given));
  std::vector<NamedLayout> layouts = layouts_to_verify(command, options);
  if (wanted.shrink) shrink_model(options, layouts);
  if (wanted.layouts.empty()) {
    for (NamedLayout& layout : default_layouts(options)) layouts.push_back(std::move(layout));
  }
  // Report layouts that do not fit before any layout runs.
  options_in_layout(options, layout_from_name("dp1"));
  for (const NamedLayout& layout : layouts) {
    const std::string reason = misfit(layout, options);
    check(reason.empty(), "Expected layouts that fit the model, but {} does not: {}", layout.name,
          reason);
  }

  Output output(command.options.parity.json);
  Terminal& terminal = output.terminal();
  terminal.line("model  " + describe_model(options));
  terminal.line("       " + describe_verification(options) + "\n");
  if (!command.without_effect.empty())
    terminal.line(flags_without_effect_line(command.without_effect) + "\n");
  // Before the table, and once: each layout builds the same layers.
  if (std::exchange(options.logging.verbose, false)) {
    const Options one_rank = options_in_layout(options, layout_from_name("dp1"));
    for (const std::string& line : make_builder<GPTModel>(one_rank.model)->description())
      terminal.line(line);
    terminal.line("");
  }
  const VerificationReport report(wanted.bound, width_of(layouts));
  terminal.line(report.head());
  nlohmann::json json = {{"model", describe_model(options) + ", " + describe_verification(options)},
                         {"bound", wanted.bound},
                         {"layouts", nlohmann::json::array()}};
  LayoutVerification verification(options);
  terminal.status("one rank ...");
  std::vector<LayoutResult> results;
  for (const NamedLayout& layout : layouts) {
    terminal.status(
        fmt::format("{} ({} of {}) ...", layout.name, results.size() + 1, layouts.size()));
    results.push_back(verification.verify(layout));
    terminal.line(report.row(results.back()));
    json["layouts"].push_back(report.to_json(results.back()));
  }
  return finish(report, results, seconds_since(start), output, std::move(json));
}

// An exception counts as a failed draw: validation accepted the options.
LayoutResult verify_draw(const RandomDraw& draw) {
  try {
    ParsedCommand drawn = parse_options(Command::verify_layout, draw.flags);
    complete_verification_model(drawn.options, drawn.given);
    return LayoutVerification(drawn.options).verify(draw.layout);
  } catch (const std::exception& error) {
    return {.layout = draw.layout.name,
            .ranks = draw.layout.world_size,
            .differences = {},
            .error = error_message(error)};
  }
}

int verify_random(const ParsedCommand& command) {
  const auto start = Clock::now();
  const VerifyLayoutConfig& wanted = command.options.verify_layout;
  const std::set<std::string> allowed = {"random", "seed", "bound", "json"};
  for (const std::string& name : command.given) {
    check(allowed.contains(name),
          "Expected --random with no options but --seed, --bound and --json, but got '{}' too; "
          "--random draws models and layouts itself",
          name);
  }
  Output output(command.options.parity.json);
  Terminal& terminal = output.terminal();
  const auto seed = static_cast<uint64_t>(command.options.training.seed);
  terminal.line(fmt::format("{} models and layouts from seed {}, in fp64\n", wanted.random,
                            command.options.training.seed));
  const VerificationReport report(wanted.bound, /*name_width=*/48);
  terminal.line(report.head());
  nlohmann::json json = {
      {"seed", seed}, {"bound", wanted.bound}, {"draws", nlohmann::json::array()}};
  std::vector<LayoutResult> results;
  for (int64_t index = 0; index < wanted.random; ++index) {
    terminal.status(fmt::format("draw {} of {} ...", index + 1, wanted.random));
    const RandomDraw draw = random_draw(seed, index);
    results.push_back(verify_draw(draw));
    std::string row = report.row(results.back());
    if (!results.back().holds(wanted.bound)) row += "\n    " + draw.command();
    terminal.line(row);
    json["draws"].push_back(report.to_json(results.back()));
    json["draws"].back()["command"] = draw.command();
  }
  return finish(report, results, seconds_since(start), output, std::move(json));
}

}  // namespace

int run_verify_layout(const ParsedCommand& command) {
  const VerifyLayoutConfig& wanted = command.options.verify_layout;
  check(wanted.bound > 0, "Expected --bound above 0, but got {}; 1e-8 is the default",
        wanted.bound);
  check(wanted.random >= 0, "Expected --random of at least 1, but got {}", wanted.random);
  return wanted.random > 0 ? verify_random(command) : verify_model(command);
}

}  // namespace megatron
