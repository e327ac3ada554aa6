#include "megatron/parity/parity_case.h"

#include <algorithm>
#include <fstream>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/model/norm_keys.h"
#include "megatron/config/options/options_json.h"
#include "megatron/parity/case_bounds.h"
#include "megatron/parity/case_checks.h"

namespace megatron {
namespace {

// The fields of a case; the first five describe its origin, the last one its tensors.
constexpr std::string_view kFields[] = {"case",
                                        "peer",
                                        "torch",
                                        "patched",
                                        "same_as",
                                        "resolved",
                                        "gpt_model",
                                        "optimizer",
                                        "ddp",
                                        "transformer_config",
                                        "steps",
                                        "seq_length",
                                        "loss_mask",
                                        "num_microbatches",
                                        "micro_batch_size",
                                        "step_loss",
                                        "weight_after3",
                                        "attention_mask",
                                        "step_grad_norm",
                                        "moe_metrics_per_step",
                                        "mtp_loss_per_step",
                                        "scaler",
                                        "tensor_dtypes"};

// The tensors of a case that this program reads.
constexpr std::string_view kTensorKinds[] = {"weight/",
                                             "grad/",
                                             "weight_after3/",
                                             "main_after3/",
                                             "buffer0/rotary_pos_emb.",
                                             "buffer_after3/rotary_pos_emb.",
                                             "router_probs/",
                                             "router_map/"};
constexpr std::string_view kTensors[] = {"input/tokens",
                                         "input/labels",
                                         "input/loss_mask",
                                         "input/position_ids",
                                         "input/attention_mask",
                                         "logits",
                                         "per_token_loss",
                                         "mean_loss",
                                         "step_loss",
                                         "step_grad_norm"};

uint64_t fnv1a64(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

// SplitMix64 (Steele et al., 2014) at position i of the stream that the name starts.
uint64_t split_mix(uint64_t start, uint64_t i) {
  uint64_t z = start + (i + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
  return z ^ z >> 31;
}

struct ClosedForm {
  double offset, amplitude;
};

ClosedForm closed_form_of(const std::string& name, size_t dimensions) {
  if (name.ends_with("softmax_offset")) return {0, 0.5};
  if (dimensions == 1)
    return name.ends_with("norm.weight") ? ClosedForm{1, 0.1} : ClosedForm{0, 0.05};
  if (name.starts_with("embedding.")) return {0, 0.5};
  if (name.ends_with("router.weight")) return {0, 0.3};
  return {0, 0.15};
}

// Without fp16 nothing scales the loss.
void drop_loss_scaling(OptimizerConfig& optimizer) {
  const OptimizerConfig defaults;
  optimizer.loss_scale = defaults.loss_scale;
  optimizer.initial_loss_scale = defaults.initial_loss_scale;
  optimizer.min_loss_scale = defaults.min_loss_scale;
  optimizer.loss_scale_window = defaults.loss_scale_window;
  optimizer.hysteresis = defaults.hysteresis;
}

}  // namespace

bool is_rotary_table(std::string_view tensor) {
  return (tensor.starts_with("buffer0/") || tensor.starts_with("buffer_after3/")) &&
         (tensor.ends_with("rotary_pos_emb.cos_cached") ||
          tensor.ends_with("rotary_pos_emb.sin_cached"));
}

bool is_router_state(std::string_view tensor) {
  constexpr std::string_view kNames[] = {"expert_bias", "local_tokens_per_expert", "ga_steps",
                                         "global_tokens_per_expert"};
  const size_t at = tensor.rfind(".router.");
  return (tensor.starts_with("buffer0/") || tensor.starts_with("buffer_after3/")) &&
         at != std::string_view::npos &&
         std::ranges::find(kNames, tensor.substr(at + std::string_view(".router.").size())) !=
             std::end(kNames);
}

at::Tensor closed_form_weight(const std::string& name, at::IntArrayRef shape) {
  const ClosedForm form = closed_form_of(name, shape.size());
  const uint64_t start = fnv1a64(name);
  at::Tensor weight = at::empty(shape, at::kFloat);
  float* values = weight.data_ptr<float>();
  for (int64_t i = 0; i < weight.numel(); ++i) {
    const double x = static_cast<double>(split_mix(start, i) >> 40) / 8388608.0 - 1.0;
    values[i] = static_cast<float>(form.offset + form.amplitude * x);
  }
  return weight;
}

at::Tensor closed_form_integers(const std::string& name, at::IntArrayRef shape, int64_t bound) {
  const uint64_t start = fnv1a64(name);
  at::Tensor integers = at::empty(shape, at::kLong);
  int64_t* values = integers.data_ptr<int64_t>();
  for (int64_t i = 0; i < integers.numel(); ++i) {
    values[i] = static_cast<int64_t>((split_mix(start, i) >> 33) % static_cast<uint64_t>(bound));
  }
  return integers;
}

ParityCase ParityCase::open(const std::filesystem::path& json_file) {
  ParityCase result;
  std::ifstream stream(json_file);
  check(stream.good(), "Expected a parity case in {}, but could not read it", json_file.string());
  try {
    result.json_ = nlohmann::json::parse(stream);
  } catch (const nlohmann::json::exception& error) {
    fail("Expected JSON in {}, but got: {}", json_file.string(), error.what());
  }
  const nlohmann::json& json = result.json_;
  check(json.is_object(), "Expected an object in {}, but got something else", json_file.string());
  for (const auto& [field, value] : json.items()) {
    check(std::ranges::find(kFields, field) != std::end(kFields),
          "Expected only supported fields in {}, but got '{}'; the nearest supported one is '{}'",
          json_file.string(), field, nearest_name(field, {std::begin(kFields), std::end(kFields)}));
  }
  for (const char* section : {"transformer_config", "gpt_model", "optimizer"}) {
    check(json.contains(section) && json[section].is_object(),
          "Expected an object '{}' in {}, but found none", section, json_file.string());
  }
  check_case_fields(json);
  result.name_ = json.value("case", json_file.stem().string());
  result.steps_ = json["steps"].get<int64_t>();
  result.num_microbatches_ = json["num_microbatches"].get<int64_t>();
  result.micro_batch_size_ = json["micro_batch_size"].get<int64_t>();
  result.seq_length_ = json["seq_length"].get<int64_t>();
  result.vocab_size_ = json["gpt_model"]["vocab_size"].get<int64_t>();
  const std::string loss_mask = json.value("loss_mask", "ones");
  check(loss_mask == "ones" || loss_mask == "random",
        "Expected a loss_mask of 'ones' or 'random' in {}, but got '{}'", json_file.string(),
        loss_mask);

  std::filesystem::path tensor_file = json_file;
  result.tensors_ = SafetensorsFile::open(tensor_file.replace_extension(".safetensors"));
  for (const std::string& tensor : result.tensors_->names()) {
    const bool known =
        std::ranges::find(kTensors, tensor) != std::end(kTensors) ||
        std::ranges::any_of(kTensorKinds,
                            [&](std::string_view kind) { return tensor.starts_with(kind); }) ||
        is_rotary_table(tensor) || is_router_state(tensor);
    check(known, "Expected only supported tensors in {}, but got '{}'", tensor_file.string(),
          tensor);
  }
  const bool has_mask = json.contains("attention_mask") && !json["attention_mask"].is_null();
  check(!has_mask || result.contains("input/attention_mask"),
        "Expected the tensor input/attention_mask in {} for attention_mask {}, but found none",
        tensor_file.string(), json["attention_mask"].dump());
  check_case_tensors(json, *result.tensors_);
  const auto is_fused = [](const std::string& name) {
    return standalone_norm_name(name).has_value();
  };
  const nlohmann::json statistics = json.value("weight_after3", nlohmann::json::object());
  result.has_fused_norm_names_ = std::ranges::any_of(result.tensors_->names(), is_fused);
  for (const auto& entry : statistics.items())
    result.has_fused_norm_names_ |= is_fused(entry.key());
  return result;
}

std::vector<std::string> ParityCase::configure(Options& options, bool keep_params_dtype) const {
  TransformerConfig& transformer = options.model.transformer;
  const at::ScalarType params_dtype = transformer.compute_dtype();
  // The peer's constructor defaults, where they differ from those of the command line.
  options.model.should_pad_vocab = false;
  options.model.share_embeddings_and_output_weights = false;
  transformer.hidden_dropout = transformer.attention_dropout = 0;
  // In Megatron-LM the scheduler applies the multipliers of weight decay (0 for biases and norms)
  // and of the learning rate (MuP). The cases come from the optimizer alone, without the scheduler,
  // so these multipliers are 1.
  options.optimizer.apply_wd_to_1d_parameters = true;
  options.optimizer.mup_scales_learning_rate = false;
  set_case_options(options, json_);
  const nlohmann::json resolved = json_.value("resolved", nlohmann::json::object());
  for (const auto& [field, ours] : {std::pair{"mup_width_mult", transformer.mup_width_mult()}}) {
    const double theirs = resolved.value(field, ours);
    check(theirs == ours, "Expected a {} of {} in case {}, but got {}", field, ours, name_, theirs);
  }
  if (keep_params_dtype) {
    transformer.params_dtype = params_dtype;
    transformer.bf16 = params_dtype == at::kBFloat16;
    transformer.fp16 = params_dtype == at::kHalf;
    if (!transformer.fp16) drop_loss_scaling(options.optimizer);
  }
  options.model.vocab_size = vocab_size_;
  options.model.seq_length = seq_length_;
  options.batch.micro_batch_size = micro_batch_size_;
  return clear_options_that_the_peer_ignores(options);
}

at::ScalarType ParityCase::params_dtype() const {
  Options options;
  configure(options, /*keep_params_dtype=*/false);
  return options.model.transformer.compute_dtype();
}

std::string ParityCase::name_of(const std::string& parameter) const {
  if (has_fused_norm_names_) return parameter;
  return standalone_norm_name(parameter).value_or(parameter);
}

at::Tensor ParityCase::weight(const std::string& name, at::IntArrayRef shape) const {
  const std::string stored = "weight/" + name;
  return contains(stored) ? tensor(stored, shape) : closed_form_weight(name, shape);
}

at::Tensor ParityCase::tensor(const std::string& name, at::IntArrayRef shape) const {
  const at::Tensor result = tensor(name);
  check(result.sizes() == shape, "Expected {} of shape [{}] in case {}, but got [{}]", name,
        fmt::join(shape, ", "), name_, fmt::join(result.sizes(), ", "));
  return result;
}

ParityCase::Input ParityCase::input(int64_t step, int64_t microbatch) const {
  const auto stored = [&](const char* name) {
    return tensor(name).select(0, step).select(0, microbatch);
  };
  Input input;
  if (contains("input/tokens")) {
    input.tokens = stored("input/tokens").to(at::kLong);
    input.labels = stored("input/labels").to(at::kLong);
  } else {
    const at::Tensor rows = closed_form_integers(fmt::format("tokens.{}.{}", step, microbatch),
                                                 {micro_batch_size_, seq_length_ + 1}, vocab_size_);
    input.tokens = rows.narrow(1, 0, seq_length_).contiguous();
    input.labels = rows.narrow(1, 1, seq_length_).contiguous();
  }
  if (contains("input/loss_mask")) {
    input.loss_mask = stored("input/loss_mask").to(at::kDouble);
  } else if (json_.value("loss_mask", "ones") == "random") {
    input.loss_mask = closed_form_integers(fmt::format("loss_mask.{}.{}", step, microbatch),
                                           {micro_batch_size_, seq_length_}, 4)
                          .ne(0)
                          .to(at::kDouble);
  } else {
    input.loss_mask = at::ones({micro_batch_size_, seq_length_}, at::kDouble);
  }
  input.position_ids =
      contains("input/position_ids")
          ? tensor("input/position_ids").to(at::kLong)
          : at::arange(seq_length_, at::kLong).expand({micro_batch_size_, seq_length_});
  input.position_ids = input.position_ids.contiguous();
  if (contains("input/attention_mask")) {
    input.attention_mask = tensor("input/attention_mask").to(at::kBool);
    if (input.attention_mask.dim() == 3) input.attention_mask = input.attention_mask.unsqueeze(1);
  }
  return input;
}

}  // namespace megatron
