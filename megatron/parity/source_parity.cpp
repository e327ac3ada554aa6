#include "megatron/parity/source_parity.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/parameter_shards.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/options/options_json.h"
#include "megatron/convert/checkpoint_conversion.h"
#include "megatron/convert/export_weights.h"
#include "megatron/convert/hf_folder_writer.h"
#include "megatron/convert/hf_tensors.h"
#include "megatron/convert/model_options.h"
#include "megatron/convert/padding_groups.h"
#include "megatron/convert/rank_agreement.h"
#include "megatron/formats/gguf_file.h"
#include "megatron/formats/json_file.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/pipeline/pipeline_forward.h"
#include "megatron/tokenizers/tokenizer_folder.h"
#include "megatron/training/loaded_model.h"
#include "megatron/training/same_options.h"
#include "megatron/training/train_step.h"
#include "megatron/training/training_models.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

constexpr char kExpected[] = "expected.safetensors";
constexpr char kGradients[] = "grads.safetensors";
constexpr char kNorm[] = "grad_norm.";
constexpr char kDecoded[] = "dequantized.";

class SourceParity {
 public:
  SourceParity(SourceModel& source, const fs::path& folder, const fs::path& model,
               const Options& options, const RankContext& rank)
      : source_(source),
        folder_(folder),
        model_(model),
        options_(options),
        groups_(make_model_groups(options.model, rank)),
        device_(rank.device),
        expected_(SafetensorsFile::open(folder / kExpected)) {
    step_.emplace(build_training_models(options, groups_, rank,
                                        [this](const GPTModelChunks& chunks) {
                                          load_source_model(source_, sharded_state_dict(chunks));
                                        }),
                  options);
  }

  Comparison run() {
    compare_configurations();
    compare_decoded();
    compare_round_trip();
    compare_logits("input_ids", "logits");
    compare_logits("long_input_ids", "long_logits");
    compare_greedy();
    compare_gradients();
    compare_token_ids();
    comparison_.merge(*groups_.world);
    note_what_is_left();
    return std::move(comparison_);
  }

 private:
  const GPTModelChunks& chunks() const { return step_->chunks(); }
  bool is_last_stage() const { return chunks().back()->stage().post_process; }
  bool is_sequence_parallel() const { return options_.model.transformer.sequence_parallel; }

  at::Tensor take(const std::string& name) {
    compared_.insert(name);
    return expected_.tensor(name);
  }

  MicroBatch make_microbatch(const at::Tensor& tokens, int64_t first_row) const {
    MicroBatch microbatch;
    const int64_t rows = tokens.size(0), s = tokens.size(1);
    microbatch.tokens = tokens.contiguous().to(device_);
    microbatch.labels = tokens.roll(-1, 1).contiguous().to(device_);
    microbatch.loss_mask = at::ones({rows, s}, at::kFloat);
    microbatch.loss_mask.select(1, s - 1).zero_();  // the last token has no next one
    microbatch.loss_mask = microbatch.loss_mask.to(device_);
    microbatch.position_ids =
        at::arange(s, at::kLong).unsqueeze(0).expand({rows, s}).contiguous().to(device_);
    microbatch.sample_ordinals = at::arange(first_row, first_row + rows, at::kLong);
    return microbatch;
  }

  // Logits [b, s / cp, v] of this context-parallel rank's tokens, on the last stage; elsewhere
  // undefined. Without context parallelism, lengths that sequence parallelism does not divide are
  // padded at the end, where no earlier token sees them.
  at::Tensor logits_of(at::Tensor tokens) const {
    const int64_t s = tokens.size(1), tp = groups_.tp->size();
    const int64_t padding = is_sequence_parallel() ? (tp - s % tp) % tp : 0;
    tokens = at::constant_pad_nd(tokens, {0, padding});
    const MicroBatch microbatch = context_parallel_slice(make_microbatch(tokens, 0), *groups_.cp);
    at::Tensor result;
    run_pipeline_forward(
        chunks(),
        {{.input = {.input_ids = microbatch.tokens,
                    .position_ids = microbatch.position_ids,
                    .runtime_gather_output = true},
          .context =
              ForwardContext::make(/*training=*/false, 0, microbatch.sample_ordinals,
                                   token_positions(tokens.size(1), *groups_.cp),
                                   is_sequence_parallel(), tp > 1 ? groups_.tp->rank() : 0, tp)}},
        {.on_output = [&](int64_t, const at::Tensor& output) { return result = output.clone(); }});
    if (!is_last_stage()) return {};
    result = result.narrow(2, 0, *options_.model.vocab_size);
    return padding > 0 ? result.narrow(1, 0, s) : result;
  }

  void compare_logits(const std::string& input, const std::string& output) {
    if (!expected_.contains(input) || !expected_.contains(output)) return;
    const at::Tensor tokens = take(input), theirs = take(output).to(at::kDouble);
    const at::Tensor ours = logits_of(tokens);
    if (!ours.defined()) return;
    const at::Tensor expected =
        theirs.index_select(1, token_positions(tokens.size(1), *groups_.cp));
    check(ours.sizes() == expected.sizes(), "Expected {} of shape {} as in {}, but got {}", output,
          expected.sizes().vec(), folder_.string(), ours.sizes().vec());
    comparison_.record(ParityKind::source_logits, output,
                       (ours.cpu().to(at::kDouble) - expected).abs().max().item<double>());
  }

  // Full passes without a cache, so that every layout can run them.
  void compare_greedy() {
    if (!expected_.contains("greedy") || !expected_.contains("greedy_prompt")) return;
    if (groups_.cp->size() > 1) {
      comparison_.note("not compared with context parallelism: greedy");
      return;
    }
    const at::Tensor theirs = take("greedy");
    at::Tensor tokens = take("greedy_prompt");
    while (tokens.size(1) < theirs.size(1)) {
      const at::Tensor logits = logits_of(tokens);
      at::Tensor next = logits.defined()
                            ? logits.select(1, tokens.size(1) - 1).argmax(1, true).contiguous()
                            : at::empty({tokens.size(0), 1}, tokens.options().device(device_));
      groups_.pp->broadcast(next, groups_.pp->size() - 1);
      tokens = at::cat({tokens, next.cpu()}, 1);
    }
    comparison_.record(ParityKind::greedy_tokens, "greedy",
                       double(tokens.ne(theirs).sum().item<int64_t>()));
  }

  // This data-parallel rank's rows, one a micro-batch. All rows have as many tokens, so the mean of
  // the rows' means is the mean.
  std::vector<MicroBatch> microbatches() {
    const at::Tensor tokens = take("input_ids");
    const int64_t rows = tokens.size(0), dp = groups_.dp->size();
    check(rows % dp == 0, "Expected a data-parallel size that divides the {} rows, but got {}",
          rows, dp);
    std::vector<MicroBatch> result;
    for (int64_t i = 0; i < rows / dp; ++i) {
      const int64_t row = groups_.dp->rank() * (rows / dp) + i;
      result.push_back(make_microbatch(tokens.narrow(0, row, 1), row));
    }
    return result;
  }

  // The shards of the gradients, as those of the weights.
  ShardedStateDict gradient_state() const {
    ShardedStateDict state;
    std::set<const Parameter*> done;
    for (const ShardedTensor& shard : sharded_state_dict(chunks())) {
      if (!done.insert(shard.parameter).second) continue;
      for (ShardedTensor& gradient : parameter_shards(*shard.parameter, shard.parameter->main_grad,
                                                      shard.key, shard.replica_id))
        state.push_back(std::move(gradient));
    }
    return state;
  }

  void compare_gradients() {
    if (!expected_.contains("input_ids")) return;
    const TrainStep::Losses losses =
        step_->forward_backward(microbatches(), BatchSharing::whole_microbatches);
    if (expected_.contains("loss")) {
      comparison_.record(ParityKind::source_loss, "loss",
                         std::abs(losses.loss - take("loss").item<double>()));
    }
    step_->unshard_gradients();
    std::optional<SafetensorsFile> whole;
    if (fs::exists(folder_ / kGradients)) whole = SafetensorsFile::open(folder_ / kGradients);
    stream_tensors(
        source_.map, values_of_state(gradient_state()), [](const auto&) { return at::kFloat; },
        *groups_.world,
        [&](const std::string& name, const at::Tensor& gradient) {
          const at::Tensor ours = gradient.to(at::kDouble);
          if (expected_.contains(kNorm + name)) {
            const double theirs = take(kNorm + name).item<double>();
            comparison_.record(
                ParityKind::source_grad_norm, name,
                std::abs(ours.norm().item<double>() - theirs) / std::max(1.0, std::abs(theirs)));
          }
          if (whole && whole->contains(name)) {
            const at::Tensor theirs = whole->tensor(name).to(at::kDouble);
            check(ours.sizes() == theirs.sizes(),
                  "Expected the gradient of {} of shape {}, but got {}", name, theirs.sizes().vec(),
                  ours.sizes().vec());
            comparison_.record(ParityKind::source_gradient, name,
                               (ours - theirs).abs().max().item<double>());
            gradients_.insert(name);
          }
        });
    for (const std::string& name : whole ? whole->names() : std::vector<std::string>()) {
      if (!gradients_.contains(name)) comparison_.note("not compared: gradient of " + name);
    }
  }

  void compare_token_ids() {
    const fs::path file = folder_ / "tokenizer_expected.json";
    if (!fs::exists(file) || groups_.world->rank() != 0) return;
    const nlohmann::json expected = read_json_file(file.string(), "the ids of texts");
    const auto tokenizer = load_hugging_face_tokenizer(model_.string());
    int64_t number = 0;
    for (const auto& sample : expected.at("samples")) {
      const auto ids = sample.at("ids").get<std::vector<int64_t>>();
      const auto text = sample.at("text").get<std::string>();
      const bool same = tokenizer->encode(text) == ids &&
                        (!sample.contains("decoded") ||
                         tokenizer->decode(ids) == sample["decoded"].get<std::string>());
      comparison_.record(ParityKind::token_ids, fmt::format("text {}: {}", number++, text),
                         same ? 0 : 1);
    }
  }

  // The first rows of some tensors of a GGUF file, as fp32.
  void compare_decoded() {
    if (!GgufFile::is_gguf(model_)) return;
    const GgufFile file = GgufFile::open(model_);
    for (const std::string& name : expected_.names()) {
      if (!name.starts_with(kDecoded)) continue;
      const at::Tensor theirs = take(name);
      const at::Tensor ours = file.tensor(name.substr(std::strlen(kDecoded)));
      const bool same = theirs.dim() == ours.dim() && theirs.size(0) <= ours.size(0) &&
                        at::equal(ours.narrow(0, 0, theirs.size(0)), theirs);
      comparison_.record(ParityKind::decoded_values, name, same ? 0 : 1);
    }
  }

  // Both spellings of the configuration give one model.
  void compare_configurations() {
    const fs::path file = folder_ / "config_v4.json";
    if (!fs::exists(file) || groups_.world->rank() != 0) return;
    Options left, right;
    left.model = source_.config;
    right.model = read_hf_config(*source_.family, read_json_file(file.string(), "a configuration"),
                                 file.string());
    const auto differences = architecture_differences(left, right);
    comparison_.record(ParityKind::source_config, "config_v4.json", double(differences.size()));
    for (const ArchitectureDifference& difference : differences)
      comparison_.record(ParityKind::source_config, difference.field, 1);
  }

  // Writes the folder again from the shards of all ranks, in the types of the source.
  void compare_round_trip() {
    const std::string output = agree_on_step(
        *groups_.world, "make a temporary folder",
        [] {
          std::random_device random;
          return (fs::temp_directory_path() / fmt::format("megatron-parity-{:08x}", random()))
              .string();
        },
        [] {});
    write_hf_folder(output, source_.record, source_.map,
                    values_of_state(sharded_state_dict(chunks())), *groups_.world);
    agree_on_step(
        *groups_.world, "compare the folder that was written",
        [&] {
          if (groups_.world->rank() == 0) compare_folder(output);
          return std::string();
        },
        [&] { remove(output); });
    if (groups_.world->rank() == 0) remove(output);
  }

  static void remove(const fs::path& folder) {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }

  void compare_folder(const fs::path& output) {
    SourceModel written = open_source_model(output);
    const auto compare = [&](const std::string& name) {
      const bool equal = equal_tensors(*source_.tensors, *written.tensors, name);
      comparison_.record(ParityKind::round_trip, name, equal ? 0 : 1);
    };
    for (const MappedTensor& tensor : source_.map.tensors) compare(tensor.name);
    for (const std::string& name : source_.record.tied_copies) compare(name);
    comparison_.record(ParityKind::round_trip, "config.json",
                       written.record.config == source_.record.config ? 0 : 1);
  }

  void note_what_is_left() {
    for (const std::string& name : expected_.names()) {
      if (!compared_.contains(name)) comparison_.note("not compared: " + name);
    }
    for (const std::string& note : source_.notes) comparison_.note(note);
  }

  SourceModel& source_;
  const fs::path folder_, model_;
  const Options& options_;
  ProcessGroupCollection groups_;
  at::Device device_;
  SafetensorsFile expected_;
  std::optional<TrainStep> step_;
  std::set<std::string> compared_, gradients_;
  Comparison comparison_;
};

}  // namespace

void configure_source_parity(Options& options, const fs::path& folder, const fs::path& model) {
  const int64_t tp = options.model.transformer.tensor_model_parallel_size;
  adopt_model(options, with_padding_groups(read_source_config(model), tp), /*given=*/{},
              model.string());
  const SafetensorsFile expected = SafetensorsFile::open(folder / kExpected);
  TransformerConfig& transformer = options.model.transformer;
  transformer.params_dtype = at::kFloat;
  transformer.bf16 = transformer.fp16 = false;
  transformer.hidden_dropout = 0;
  transformer.attention_dropout = 0;
  drop_unused_fields(options.model);  // those of bf16
  options.model.seq_length = expected.entry("input_ids").shape.at(1);
  options.batch.micro_batch_size = 1;
}

Comparison run_source_parity(SourceModel& source, const fs::path& folder, const fs::path& model,
                             const Options& options, const RankContext& rank) {
  check_same_options(options, rank);
  return SourceParity(source, folder, model, options, rank).run();
}

}  // namespace megatron
