// megatron generate: text from a checkpoint, or from a model of another library.
#include "megatron/inference/generate.h"

#include <iostream>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/options/fields_as_flags.h"
#include "megatron/config/options/options_json.h"
#include "megatron/config/validate/validate.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/launch.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/tokenizers/build_tokenizer.h"
#include "megatron/training/loaded_model.h"
#include "megatron/training/same_options.h"
#include "megatron/training/training_models.h"

#include "cli/command.h"

namespace megatron {
namespace {

// The loaded model with the layout, dtype and sampling of the command line.
Options options_of_model(const LoadedModel& model, const ParsedCommand& command) {
  Options options = command.options;
  const Options& stored = model.options();
  options.model = stored.model;
  TransformerConfig& transformer = options.model.transformer;
  const TransformerConfig& asked = command.options.model.transformer;
  transformer.reset_layout();
  transformer.mla.cache_mla_latents = false;
  transformer.pipeline_dtype.reset();
  if (command.is_given("params_dtype") || command.is_given("bf16")) {
    transformer.params_dtype = asked.params_dtype;
    transformer.bf16 = asked.bf16;
    drop_unused_fields(options.model);  // those of bf16
  }
  const nlohmann::json flags = to_json(command.options, commands(Command::generate));
  for (const auto& [field, value] : flags.items()) {
    if (command.is_given(field)) set_field(options, field, value);
  }
  check(!transformer.sequence_parallel,
        "Expected no --sequence-parallel for generate, which decodes one position at a time, but "
        "got it; leave it out");
  const TokenizerConfig& files = options.tokenizer;
  if (!files.tokenizer_type && files.tokenizer_model.empty() && files.vocab_file.empty() &&
      files.merge_file.empty()) {
    options.tokenizer = stored.tokenizer;
    if (command.is_given("tokenizer_hf_include_special_tokens")) {
      options.tokenizer.tokenizer_hf_include_special_tokens =
          command.options.tokenizer.tokenizer_hf_include_special_tokens;
    }
  }
  return options;
}

// [v] bool: the ids that have text, or end a document. A vocabulary may have gaps.
at::Tensor known_ids(const Tokenizer& tokenizer) {
  at::Tensor known = at::zeros({tokenizer.vocab_size()}, at::kBool);
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id)
    known.data_ptr<bool>()[id] = !tokenizer.token_bytes(id).empty();
  if (tokenizer.eod()) known.data_ptr<bool>()[*tokenizer.eod()] = true;
  return known;
}

// check_request() with flags in place of field names.
void check_flags_of_request(const GPTModelConfig& config, const GenerateRequest& request) {
  try {
    check_request(config, request);
  } catch (const Error& error) {
    fail("{}", fields_as_flags(error.what()));
  }
}

}  // namespace

int run_generate(const ParsedCommand& command) {
  if (const auto ranks = ranks_to_start(command.options.launch)) {
    Options options = options_of_model(LoadedModel::open(command.options.checkpoint.load), command);
    validate(options, *ranks, Command::generate);
  }
  return launch(command.options.launch, [&](RankContext& rank) {
    check_same_options(command.options, rank);
    LoadedModel model = LoadedModel::open(command.options.checkpoint.load);
    Options options = options_of_model(model, command);
    validate(options, rank.world_size, Command::generate);
    const auto tokenizer = build_model_tokenizer(options);
    const std::string& trained_with = model.tokenizer_fingerprint();
    check(trained_with.empty() || trained_with == tokenizer->fingerprint(),
          "Expected the tokenizer that the checkpoint was trained with ({}), but got another ({})",
          trained_with, tokenizer->fingerprint());
    check(tokenizer->vocab_size() <= options.model.required_vocab_size(),
          "Expected a tokenizer of at most the model's {} tokens, but got one of {}",
          *options.model.vocab_size, tokenizer->vocab_size());

    const ProcessGroupCollection groups = make_model_groups(options.model, rank);
    const GPTModelChunks chunks = build_inference_models(options, groups, rank);
    model.load_weights(options, chunks);

    GenerateRequest request{.prompt = tokenizer->encode(options.generation.prompt),
                            .num_samples = options.generation.num_samples,
                            .max_new_tokens = options.generation.max_new_tokens,
                            .end_token = tokenizer->eod(),
                            .sampling = {.temperature = options.generation.temperature,
                                         .top_k = options.generation.top_k,
                                         .top_p = options.generation.top_p,
                                         .seed = static_cast<uint64_t>(options.training.seed)},
                            .known_ids = known_ids(*tokenizer)};
    if (request.prompt.empty() && tokenizer->eod()) request.prompt = {*tokenizer->eod()};
    check_flags_of_request(options.model, request);
    const bool prints = rank.rank == 0;
    const bool streams = prints && request.num_samples == 1;
    if (streams) std::cout << options.generation.prompt << std::flush;
    const auto stream = [&](const std::vector<int64_t>& tokens) {
      if (streams && tokens[0] != request.end_token)
        std::cout << tokenizer->token_bytes(tokens[0]) << std::flush;
    };
    auto continuations = generate(chunks, request, stream);
    if (streams) std::cout << std::endl;
    if (prints && !streams) {
      for (size_t i = 0; i < continuations.size(); ++i) {
        auto& ids = continuations[i];
        if (!ids.empty() && ids.back() == request.end_token) ids.pop_back();
        std::cout << fmt::format("--- sample {} of {}\n{}{}\n", i + 1, continuations.size(),
                                 options.generation.prompt, tokenizer->continuation(ids));
      }
    }
    return 0;
  });
}

}  // namespace megatron
