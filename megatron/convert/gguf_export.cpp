// Checkpoints as GGUF files.
#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/convert/export_weights.h"
#include "megatron/convert/gguf_config.h"
#include "megatron/convert/gguf_differences.h"
#include "megatron/convert/gguf_model.h"
#include "megatron/convert/gguf_tensors.h"
#include "megatron/formats/gguf_writer.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/tokenizers/gguf_tokenizer.h"

namespace megatron {
namespace {

constexpr int64_t kSmallBlock = 32;  // of Q8_0

GgmlType type_of_dtype(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return GgmlType::BF16;
  return dtype == at::kHalf ? GgmlType::F16 : GgmlType::F32;
}

// llama.cpp's number for a file of mostly this type.
uint32_t file_type(GgmlType type) {
  switch (type) {
    case GgmlType::F16:
      return 1;
    case GgmlType::Q8_0:
      return 7;
    case GgmlType::BF16:
      return 32;
    default:
      return 0;
  }
}

class GgufExport {
 public:
  GgufExport(const SourceRecord& record, const GPTModelConfig& model, const TensorMap& map,
             GgmlType type)
      : record_(record),
        model_(model),
        architecture_(gguf_architecture_of(record.model_type)),
        map_(map),
        type_(type) {
    check_expressible();
    if (const auto divisors = rope_divisors(model)) divisors_ = at::tensor(*divisors);
  }

  std::vector<std::string> write(const std::filesystem::path& output,
                                 const ParameterValues& values) {
    const std::vector<GgufTensorInfo> infos = tensor_infos();
    const GgufMetadata header = metadata();
    check_nothing_lost(header, infos);
    GgufWriter writer(output.string(), header, infos);
    size_t next = 0;
    if (divisors_.defined()) writer.write(infos[next++].name, divisors_);
    const ProcessGroupCollection single = ProcessGroupCollection::single_rank();
    stream_tensors(
        map_, values, [](const auto&) { return at::kFloat; }, *single.world,
        [&](const std::string& name, const at::Tensor& tensor) {
          writer.write(infos[next++].name, stored_values(name, tensor));
        });
    writer.commit();
    return std::move(notes_);
  }

 private:
  const TransformerConfig& transformer() const { return model_.transformer; }

  void check_expressible() const {
    check(
        architecture_.has_window || transformer().window_size.empty(),
        "Expected a model without a sliding window for a GGUF file of the architecture {}, but got "
        "one of {} tokens",
        architecture_.name,
        transformer().window_size.empty() ? 0 : transformer().window_size[0] + 1);
    const bool biases = transformer().add_bias_linear || transformer().add_qkv_bias;
    check(!biases || std::string_view(architecture_.name) == "llama" ||
              std::string_view(architecture_.name) == "qwen2",
          "Expected a model without biases for a GGUF file of the architecture {}, but it has them",
          architecture_.name);
  }

  // Reads the file's header as an import would. Throws Error for what it does not say of the model.
  void check_nothing_lost(const GgufMetadata& metadata,
                          const std::vector<GgufTensorInfo>& infos) const {
    GgufHeader header{.metadata = metadata, .rope_factors = divisors_};
    for (const GgufTensorInfo& info : infos) header.shapes[info.name] = info.shape;
    const HfFamily& family = hf_family(architecture_.model_types.front());
    const std::string lost = gguf_differences(
        model_, read_hf_config(family, hf_config_of_gguf(header, architecture_), "the GGUF file"));
    check(lost.empty(),
          "Expected a model that a GGUF file of the architecture {} can express, but got {}; a "
          "Hugging Face folder (--to-hf) holds it",
          architecture_.name, lost);
  }

  GgmlType type_of(const std::vector<int64_t>& shape) {
    if (shape.size() < 2) return GgmlType::F32;
    if (type_ != GgmlType::Q8_0 || shape.back() % kSmallBlock == 0) return type_;
    return GgmlType::F16;
  }

  std::vector<GgufTensorInfo> tensor_infos() {
    std::vector<GgufTensorInfo> infos;
    if (divisors_.defined())
      infos.push_back({"rope_freqs.weight", GgmlType::F32, divisors_.sizes().vec()});
    int64_t kept = 0;
    for (const MappedTensor& tensor : map_.tensors) {
      // Files of the bare model lack the prefix.
      const std::string& prefix = hf_family(record_.model_type).prefix;
      const bool bare = record_.prefix.empty() && tensor.name != "lm_head.weight";
      const auto name = gguf_tensor_name(architecture_, bare ? prefix + tensor.name : tensor.name);
      check(name.has_value(),
            "Expected tensors that the architecture {} has in a GGUF file, but got {}",
            architecture_.name, tensor.name);
      infos.push_back({*name, type_of(tensor.shape), tensor.shape});
      kept += tensor.shape.size() > 1 && infos.back().type != type_ ? 1 : 0;
    }
    if (kept > 0) {
      notes_.push_back(
          fmt::format("{} matrices are F16: their rows are no multiple of {}, which {} needs", kept,
                      kSmallBlock, ggml_type_name(type_)));
    }
    return infos;
  }

  at::Tensor stored_values(const std::string& name, const at::Tensor& tensor) const {
    if (architecture_.interleaves_query_key) {
      if (name.find(".q_proj.") != std::string::npos)
        return interleave_halves(tensor, transformer().num_attention_heads);
      if (name.find(".k_proj.") != std::string::npos)
        return interleave_halves(tensor, transformer().query_groups());
    }
    return adds_one(architecture_, name) ? tensor + 1 : tensor;
  }

  void add_rope(const std::string& prefix, GgufMetadata& metadata) const {
    metadata.add(prefix + "rope.freq_base", static_cast<float>(model_.rotary_base));
    metadata.add(prefix + "rope.dimension_count", static_cast<uint32_t>(transformer().head_dim()));
    if (model_.position_embedding_type == PositionEmbeddingType::yarn) {
      const YarnConfig& yarn = transformer().yarn;
      check(
          yarn.mscale == 1 && yarn.mscale_all_dim == 0 && yarn.correction_range_round_to_int,
          "Expected YaRN with its default attention factor and truncation for a GGUF file, but got "
          "others");
      metadata.add(prefix + "rope.scaling.type", std::string("yarn"));
      metadata.add(prefix + "rope.scaling.factor", static_cast<float>(yarn.rotary_scaling_factor));
      metadata.add(prefix + "rope.scaling.original_context_length",
                   static_cast<uint32_t>(yarn.original_max_position_embeddings));
      metadata.add(prefix + "rope.scaling.yarn_beta_fast", static_cast<float>(yarn.beta_fast));
      metadata.add(prefix + "rope.scaling.yarn_beta_slow", static_cast<float>(yarn.beta_slow));
    } else if (model_.seq_len_interpolation_factor) {
      metadata.add(prefix + "rope.scaling.type", std::string("linear"));
      metadata.add(prefix + "rope.scaling.factor",
                   static_cast<float>(*model_.seq_len_interpolation_factor));
    }
  }

  void add_gemma(const std::string& prefix, GgufMetadata& metadata) const {
    if (!architecture_.has_window) return;
    const TransformerConfig& t = transformer();
    check_gemma();
    const auto add = [&](const char* key, const std::optional<double>& value) {
      if (value) metadata.add(prefix + key, static_cast<float>(*value));
    };
    metadata.add(prefix + "attention.sliding_window",
                 static_cast<uint32_t>(t.window_size.at(0) + 1));
    add("attn_logit_softcapping", t.attn_logit_softcapping);
    add("final_logit_softcapping", t.final_logit_softcapping);
    if (std::string_view(architecture_.name) == "gemma3")
      add("rope.freq_base_swa", model_.rotary_base_local);
  }

  // What the file does not hold must be what readers of it assume.
  void check_gemma() const {
    const TransformerConfig& t = transformer();
    const int64_t scalar = gemma_query_scalar(architecture_, t.num_layers, t.hidden_size,
                                              t.num_attention_heads, t.head_dim());
    const double scale = t.softmax_scale.value_or(1 / std::sqrt(double(t.head_dim())));
    check(std::abs(scale * std::sqrt(double(scalar)) - 1) < 1e-6,
          "Expected query_pre_attn_scalar {} for a GGUF file of this size of {}, but got {}",
          scalar, architecture_.name, 1 / (scale * scale));
    const int64_t pattern = gemma_window_pattern(architecture_);
    check(!t.window_size.empty(), "Expected a sliding window for a GGUF file of {}, but got none",
          architecture_.name);
    for (int64_t layer = 1; layer <= t.num_layers; ++layer) {
      check(t.has_window(layer) == (layer % pattern != 0),
            "Expected every layer but each {}th with a window for a GGUF file of {}, but layer {} "
            "differs",
            pattern, architecture_.name, layer);
    }
  }

  GgufMetadata metadata() const {
    GgufMetadata metadata("the GGUF file");
    const std::string name = architecture_.name, prefix = name + ".";
    const auto size = [&](const char* key, int64_t value) {
      metadata.add(prefix + key, static_cast<uint32_t>(value));
    };
    metadata.add("general.architecture", name);
    metadata.add("general.type", std::string("model"));
    metadata.add("general.file_type", file_type(type_));
    metadata.add("general.quantization_version", uint32_t{2});
    size("vocab_size", model_.required_vocab_size());
    size("context_length", model_.max_sequence_length());
    size("embedding_length", transformer().hidden_size);
    size("block_count", transformer().num_layers);
    size("feed_forward_length", transformer().ffn_size());
    size("attention.head_count", transformer().num_attention_heads);
    size("attention.head_count_kv", transformer().query_groups());
    size("attention.key_length", transformer().head_dim());
    size("attention.value_length", transformer().head_dim());
    metadata.add(prefix + "attention.layer_norm_rms_epsilon",
                 static_cast<float>(transformer().layernorm_epsilon));
    add_rope(prefix, metadata);
    add_gemma(prefix, metadata);
    add_tokenizer(metadata);
    return metadata;
  }

  void add_tokenizer(GgufMetadata& metadata) const {
    const bool has_tokenizer =
        record_.files.contains("tokenizer.json") || record_.files.contains("tokenizer.model");
    if (!has_tokenizer) {
      metadata.add("tokenizer.ggml.model", std::string("none"));
      return;
    }
    const auto id = [&](const char* key) -> std::optional<int64_t> {
      const auto found = record_.config.find(key);
      if (found == record_.config.end()) return std::nullopt;
      // Several ends of a text: the first.
      const nlohmann::json value = found->is_array() && !found->empty() ? found->front() : *found;
      return value.is_number_integer() ? std::optional(value.get<int64_t>()) : std::nullopt;
    };
    add_gguf_tokenizer(record_.files, model_.required_vocab_size(),
                       {id("bos_token_id"), id("eos_token_id"), id("pad_token_id")}, metadata);
  }

  const SourceRecord& record_;
  const GPTModelConfig& model_;
  const GgufArchitecture& architecture_;
  const TensorMap& map_;
  const GgmlType type_;
  at::Tensor divisors_;  // rope_freqs.weight; undefined without it
  std::vector<std::string> notes_;
};

}  // namespace

ConvertedModel export_gguf(const std::filesystem::path& load, const std::filesystem::path& output,
                           std::optional<GgmlType> type) {
  check(!std::filesystem::exists(output), "Expected a new file, but {} exists; give another name",
        output.string());
  auto checkpoint = CheckpointReader::open(load);
  const auto [record, model, map] = exported_model(checkpoint);
  GgufExport writer(record, model, map, type.value_or(type_of_dtype(record.dtype)));
  int64_t parameters = 0;
  for (const MappedParameter& parameter : map.parameters)
    parameters += shape_volume(parameter.shape);
  return {.path = output,
          .tensors = std::ssize(map.tensors),
          .parameters = parameters,
          .notes = writer.write(output, values_of_checkpoint(checkpoint))};
}

}  // namespace megatron
