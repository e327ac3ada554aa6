// megatron generate: text from a checkpoint, or from a model of another library.
#include <iostream>
#include <map>

#include "megatron/base/error.h"
#include "megatron/config/options/fields_as_flags.h"
#include "megatron/formats/output_file.h"
#include "megatron/inference/request_json.h"

#include "cli/command.h"
#include "cli/inference_model.h"

namespace megatron {
namespace {

// check_request() with flags in place of field names.
void check_flags_of_request(const GPTModelConfig& config, const InferenceRequest& request) {
  try {
    check_request(config, request);
  } catch (const Error& error) {
    fail("{}", fields_as_flags(error.what()));
  }
}

// What the flags ask for, without a prompt.
InferenceRequest request_of_flags(const Options& options, const Tokenizer& tokenizer) {
  const GenerationConfig& generation = options.generation;
  InferenceRequest request{.max_new_tokens = generation.max_new_tokens,
                           .n = generation.num_samples,
                           .sampling = {.temperature = generation.temperature,
                                        .top_k = generation.top_k,
                                        .top_p = generation.top_p,
                                        .seed = static_cast<uint64_t>(options.training.seed)}};
  if (tokenizer.eod()) request.stop_ids = {*tokenizer.eod()};
  return request;
}

// The acceptance of speculation, once a copy of the model that proposed tokens.
void print_speculation(const SchedulerStatistics& statistics) {
  if (statistics.drafted_tokens > 0)
    fmt::print(stderr, "speculation: {} of {} proposed tokens held\n", statistics.accepted_tokens,
               statistics.drafted_tokens);
}

// Continues --prompt. A single text is printed as it comes.
void continue_prompt(const Options& options, const Tokenizer& tokenizer,
                     const GPTModelChunks& chunks, const RankContext& rank) {
  const std::string& prompt = options.generation.prompt;
  InferenceRequest request = request_of_flags(options, tokenizer);
  request.prompt = tokenizer.encode(prompt);
  if (request.prompt.empty() && tokenizer.eod()) request.prompt = {*tokenizer.eod()};
  check_flags_of_request(options.model, request);
  const bool prints = rank.rank == 0;
  const bool streams = prints && request.n == 1;
  RunRequestsOptions engine = engine_options(options.generation, tokenizer);
  if (streams) {
    std::cout << prompt << std::flush;
    engine.on_token = [](int64_t, int64_t, int64_t, const std::string& text) {
      std::cout << text << std::flush;
    };
  }
  const RequestsOutcome outcome = run_requests(chunks, {request}, engine);
  if (streams) std::cout << std::endl;
  if (!prints) return;
  print_speculation(outcome.statistics);
  const std::vector<Completion>& completions = outcome.results.at(0).completions;
  for (size_t i = 0; i < completions.size(); ++i) {
    check(completions[i].error.empty(), "{}", completions[i].error);
    if (!streams)
      std::cout << fmt::format("--- sample {} of {}\n{}{}\n", i + 1, completions.size(), prompt,
                               completions[i].text);
  }
}

void write_lines(const std::string& path, const std::vector<std::string>& lines) {
  if (path.empty()) {
    for (const std::string& line : lines) std::cout << line << '\n';
    std::cout << std::flush;
    return;
  }
  OutputFile file(path);
  for (const std::string& line : lines) {
    file.write(line.data(), line.size());
    file.write("\n", 1);
  }
  file.commit();
}

// Serves the requests of --prompts-file. One that fails does not end the others: its line of the
// output says why, and so does the error at the end.
void serve_prompts_file(const Options& options, const Tokenizer& tokenizer,
                        const GPTModelChunks& chunks, const ProcessGroupCollection& groups) {
  const std::string& path = options.generation.prompts_file;
  InferenceRequest defaults = request_of_flags(options, tokenizer);
  defaults.logprobs = true;
  const std::vector<RequestLine> lines = read_request_lines(path, defaults, tokenizer);
  check(!lines.empty(), "Expected requests in {}, but got an empty file", path);
  std::vector<InferenceRequest> requests;
  std::vector<size_t> line_of;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!lines[i].request) continue;
    requests.push_back(*lines[i].request);
    line_of.push_back(i);
  }
  const RequestsOutcome outcome =
      run_requests(chunks, requests, engine_options(options.generation, tokenizer));
  print_speculation(outcome.statistics);
  std::map<int64_t, std::string> own;
  for (const auto& [index, result] : outcome.results) {
    const size_t line = line_of[index];
    nlohmann::json written = result_to_json(result, requests[index]);
    if (written.contains("error"))
      written["error"] = fmt::format("{} line {}: {}", path, lines[line].number,
                                     written["error"].get<std::string>());
    own[static_cast<int64_t>(line)] =
        written.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  std::map<int64_t, std::string> written = gather_by_request(own, *groups.world);
  if (!groups.world->is_first()) return;
  std::vector<std::string> output, errors;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto found = written.find(static_cast<int64_t>(i));
    const nlohmann::json line = found != written.end() ? nlohmann::json::parse(found->second)
                                                       : nlohmann::json{{"error", lines[i].error}};
    output.push_back(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    if (line.contains("error")) errors.push_back(line["error"].get<std::string>());
  }
  write_lines(options.generation.output, output);
  check(errors.empty(), "{} of {} requests failed; the first: {}", errors.size(), lines.size(),
        errors.empty() ? "" : errors.front());
}

}  // namespace

int run_generate(const ParsedCommand& command) {
  return run_with_model(
      command, Command::generate, [](const InferenceModel& model, const RankContext& rank) {
        if (model.options.generation.prompts_file.empty()) {
          continue_prompt(model.options, *model.tokenizer, model.chunks, rank);
        } else {
          serve_prompts_file(model.options, *model.tokenizer, model.chunks, model.groups);
        }
      });
}

}  // namespace megatron
