#include "cli/inference_model.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/options/options_json.h"
#include "megatron/config/validate/validate.h"
#include "megatron/convert/padding_groups.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/tokenizers/build_tokenizer.h"
#include "megatron/training/loaded_model.h"
#include "megatron/training/same_options.h"
#include "megatron/training/training_models.h"

namespace megatron {
namespace {

// The loaded model with the layout, dtype and sampling of the command line.
Options options_of_model(const LoadedModel& model, const ParsedCommand& command, Command name) {
  Options options = command.options;
  const Options& stored = model.options();
  options.model = stored.model;
  TransformerConfig& transformer = options.model.transformer;
  const TransformerConfig& asked = command.options.model.transformer;
  transformer.reset_layout();
  transformer.mla.cache_mla_latents = false;
  transformer.pipeline_dtype.reset();
  if (command.is_given("params_dtype") || command.is_given("bf16") || command.is_given("fp16")) {
    transformer.params_dtype = asked.params_dtype;
    transformer.bf16 = asked.bf16;
    transformer.fp16 = asked.fp16;
    drop_unused_fields(options.model);  // those of bf16 and fp16
  }
  const nlohmann::json flags = to_json(command.options, commands(name));
  for (const auto& [field, value] : flags.items()) {
    if (command.is_given(field)) set_field(options, field, value);
  }
  options.model = with_padding_groups(options.model, transformer.tensor_model_parallel_size);
  check(!transformer.sequence_parallel,
        "Expected no --sequence-parallel for {}, which decodes one position at a time, but got it; "
        "leave it out",
        command_name(name));
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

}  // namespace

RunRequestsOptions engine_options(const GenerationConfig& generation, const Tokenizer& tokenizer) {
  return {.scheduler = {.block_size = generation.inference_dynamic_batching_block_size,
                        .max_requests = generation.inference_dynamic_batching_max_requests,
                        .max_tokens = generation.inference_dynamic_batching_max_tokens,
                        .chunk_size = generation.inference_dynamic_batching_chunk_size,
                        .prefix_caching = generation.inference_dynamic_batching_prefix_caching,
                        .num_speculative_tokens = generation.num_speculative_tokens},
          .buffer_bytes = static_cast<int64_t>(
              generation.inference_dynamic_batching_buffer_size_gb * (1024.0 * 1024.0 * 1024.0)),
          .tokenizer = &tokenizer,
          .known_ids = known_ids(tokenizer)};
}

int run_with_model(const ParsedCommand& command, Command name,
                   const std::function<void(const InferenceModel&, const RankContext&)>& run) {
  const auto open_model = [&] { return LoadedModel::open(command.options.checkpoint.load); };
  if (const auto ranks = ranks_to_start(command.options.launch)) {
    Options options = options_of_model(open_model(), command, name);
    validate(options, *ranks, name);
  }
  return launch(command.options.launch, [&](RankContext& rank) {
    check_same_options(command.options, rank);
    LoadedModel model = open_model();
    InferenceModel loaded{.options = options_of_model(model, command, name)};
    Options& options = loaded.options;
    validate(options, rank.world_size, name);
    loaded.tokenizer = build_model_tokenizer(options);
    const std::string& trained_with = model.tokenizer_fingerprint();
    check(trained_with.empty() || trained_with == loaded.tokenizer->fingerprint(),
          "Expected the tokenizer that the checkpoint was trained with ({}), but got another ({})",
          trained_with, loaded.tokenizer->fingerprint());
    check(loaded.tokenizer->vocab_size() <= options.model.required_vocab_size(),
          "Expected a tokenizer of at most the model's {} tokens, but got one of {}",
          *options.model.vocab_size, loaded.tokenizer->vocab_size());
    loaded.groups = make_model_groups(options.model, rank);
    loaded.chunks = build_inference_models(options, loaded.groups, rank);
    model.load_weights(options, loaded.chunks);
    run(loaded, rank);
    return 0;
  });
}

}  // namespace megatron
