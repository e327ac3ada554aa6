// megatron generate: text from a checkpoint.
#include "megatron/inference/generate.h"

#include <iostream>

#include "megatron/base/error.h"
#include "megatron/config/options_json.h"
#include "megatron/config/validate.h"
#include "megatron/data/build_tokenizer.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/launch.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/training_state.h"

#include "cli/command.h"

namespace megatron {
namespace {

// The checkpoint's model, in the layout, dtype and sampling that the command line asks for.
Options options_of_checkpoint(const CheckpointReader& checkpoint, const ParsedCommand& command) {
  Options options = command.options;
  const TransformerConfig layout = options.model.transformer;
  const Options stored = from_json(checkpoint.common().at("options"));
  options.model = stored.model;
  TransformerConfig& transformer = options.model.transformer;
  transformer.tensor_model_parallel_size = layout.tensor_model_parallel_size;
  transformer.pipeline_model_parallel_size = layout.pipeline_model_parallel_size;
  transformer.context_parallel_size = layout.context_parallel_size;
  transformer.sequence_parallel = false;
  transformer.mla.cache_mla_latents = layout.mla.cache_mla_latents;
  if (command.is_given("params_dtype") || command.is_given("bf16")) {
    transformer.params_dtype = layout.params_dtype;
    transformer.bf16 = layout.bf16;
  }
  if (options.tokenizer.tokenizer_model.empty() && options.tokenizer.vocab_file.empty()) {
    options.tokenizer = stored.tokenizer;
  }
  return options;
}

}  // namespace

int run_generate(const ParsedCommand& command) {
  return launch(command.options.launch, [&](RankContext& rank) {
    auto checkpoint = CheckpointReader::open(command.options.checkpoint.load);
    Options options = options_of_checkpoint(checkpoint, command);
    validate(options, rank.world_size, Command::generate);
    const auto tokenizer = build_tokenizer(options.tokenizer, options.model.vocab_size);
    const std::string trained_with = checkpoint.common().value("tokenizer_fingerprint", "");
    check(trained_with.empty() || trained_with == tokenizer->fingerprint(),
          "Expected the tokenizer that the checkpoint was trained with ({}), but got another ({})",
          trained_with, tokenizer->fingerprint());

    const ProcessGroupCollection groups = make_model_groups(options.model.transformer, rank);
    const auto model = build_gpt_model(options.model, groups, rank.device);
    load_weights(checkpoint, options, *model);

    GenerateRequest request{.prompt = tokenizer->encode(options.generation.prompt),
                            .num_samples = options.generation.num_samples,
                            .max_new_tokens = options.generation.max_new_tokens,
                            .end_token = tokenizer->eod(),
                            .sampling = {.temperature = options.generation.temperature,
                                         .top_k = options.generation.top_k,
                                         .top_p = options.generation.top_p,
                                         .seed = static_cast<uint64_t>(options.training.seed)}};
    if (request.prompt.empty() && tokenizer->eod()) request.prompt = {*tokenizer->eod()};
    const bool speaks = rank.rank == 0;
    const bool streams = speaks && request.num_samples == 1;
    if (streams) std::cout << options.generation.prompt << std::flush;
    const auto stream = [&](const std::vector<int64_t>& tokens) {
      if (streams && tokens[0] != request.end_token)
        std::cout << tokenizer->token_bytes(tokens[0]) << std::flush;
    };
    auto continuations = generate(*model, request, stream);
    if (streams) std::cout << std::endl;
    if (speaks && !streams) {
      for (size_t i = 0; i < continuations.size(); ++i) {
        auto& ids = continuations[i];
        if (!ids.empty() && ids.back() == request.end_token) ids.pop_back();
        std::cout << fmt::format("--- sample {} of {}\n{}{}\n", i + 1, continuations.size(),
                                 options.generation.prompt, tokenizer->decode(ids));
      }
    }
    return 0;
  });
}

}  // namespace megatron
