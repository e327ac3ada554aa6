#include "megatron/convert/conversion_check.h"

#include <algorithm>
#include <functional>
#include <random>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/options/options_json.h"
#include "megatron/convert/export_weights.h"
#include "megatron/convert/gguf_architecture.h"
#include "megatron/convert/gguf_differences.h"
#include "megatron/convert/gguf_model.h"
#include "megatron/convert/hf_tensors.h"
#include "megatron/formats/gguf_file.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/ops/quantization/ggml_blocks.h"
#include "megatron/pipeline/pipeline_forward.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

// A folder that is removed when it goes out of scope.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const fs::path& beside) {
    std::random_device random;
    path_ = fs::absolute(beside);
    if (!path_.has_filename()) path_ = path_.parent_path();
    path_ += fmt::format(".verify-{:08x}", random());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// The ids of a fixed prompt: spread over the vocabulary.
at::Tensor fixed_prompt(const GPTModelConfig& model) {
  const int64_t length = std::min<int64_t>(16, model.max_sequence_length());
  return (at::arange(1, length + 1, at::kLong) * 7919).remainder(*model.vocab_size).unsqueeze(0);
}

// Logits [1, s, v] in fp32 of a one-rank model whose shards `load` fills.
at::Tensor logits_of(GPTModelConfig config,
                     const std::function<void(const ShardedStateDict&)>& load) {
  config.reset_layout();
  config.transformer.perform_initialization = false;
  config.transformer.bf16 = config.transformer.fp16 = false;
  config.transformer.params_dtype = at::kFloat;
  drop_unused_fields(config);  // those of bf16
  const at::Tensor tokens = fixed_prompt(config);
  config.seq_length = tokens.size(1);
  const auto groups = ProcessGroupCollection::single_rank();
  const auto model = GPTModelBuilder(std::move(config), {.device = at::kCPU}).build_model(groups);
  load(model->sharded_state_dict());
  at::Tensor logits;
  run_pipeline_forward(
      {model},
      {{.input = {.input_ids = tokens,
                  .position_ids = at::arange(tokens.size(1), at::kLong).unsqueeze(0)},
        .context = ForwardContext::make(/*training=*/false, 0, at::zeros({1}, at::kLong),
                                        at::arange(tokens.size(1), at::kLong),
                                        /*sequence_parallel=*/false, 0, 1)}},
      {.on_output = [&](int64_t, const at::Tensor& output) { return logits = output.clone(); }});
  return logits.narrow(-1, 0, *model->config().vocab_size);
}

at::Tensor logits_of_source(SourceModel& source) {
  return logits_of(source.config,
                   [&](const ShardedStateDict& state) { load_source_model(source, state); });
}

// With the weights rounded to the types of the folder's tensors.
at::Tensor logits_of_checkpoint(const fs::path& load, const SourceModel& folder) {
  auto checkpoint = CheckpointReader::open(load);
  const Options stored = from_json(checkpoint.common().at("options"));
  return logits_of(stored.model, [&](const ShardedStateDict& state) {
    checkpoint.load(state, {.allow_lossy_conversion = true});
    for (const ShardedTensor& shard : state) {
      const MapPart& part = folder.map.find_parameter(shard.key)->parts.front();
      shard.data.copy_(shard.data.to(folder.record.dtype_of(part.tensor)));
    }
  });
}

std::string check_logits(const at::Tensor& folder, const at::Tensor& checkpoint) {
  check(at::equal(folder, checkpoint),
        "Expected the same logits of the folder and of the checkpoint, but they differ by up to {}",
        (folder - checkpoint).abs().max().item<double>());
  check(folder.isfinite().all().item<bool>(), "Expected finite logits, but got others");
  return fmt::format("logits of {} fixed tokens: equal, largest {:.4f}\n", folder.size(1),
                     folder.abs().max().item<double>());
}

// `values` as a tensor of `type` holds them.
at::Tensor rounded_to(GgmlType type, const at::Tensor& values) {
  const at::Tensor from = values.contiguous();
  const int64_t columns = from.dim() == 0 ? 1 : from.size(-1);
  std::vector<std::byte> blocks(
      static_cast<size_t>(ggml_row_bytes(type, columns) * (from.numel() / columns)));
  quantize_ggml(type, from, blocks);
  at::Tensor rounded = at::empty_like(from);
  dequantize_ggml(type, blocks, rounded);
  return rounded;
}

// Every tensor of the checkpoint, rounded as the file rounds it, must be that of the file. Returns
// their number.
int64_t check_equal_values(const fs::path& load, const fs::path& file, SourceModel& source) {
  auto checkpoint = CheckpointReader::open(load);
  const ExportedModel exported = exported_model(checkpoint);
  const GgufFile gguf = GgufFile::open(file);
  const GgufArchitecture& architecture = gguf_architecture_of(exported.record.model_type);
  const std::string& prefix = hf_family(exported.record.model_type).prefix;
  const auto groups = ProcessGroupCollection::single_rank();
  stream_tensors(
      exported.map, values_of_checkpoint(checkpoint), [](const auto&) { return at::kFloat; },
      *groups.world,
      [&](const std::string& tensor, const at::Tensor& values) {
        const bool is_bare = exported.record.prefix.empty() && !source.tensors->find(tensor);
        const std::string name = is_bare ? prefix + tensor : tensor;
        const double added = adds_one(architecture, name) ? 1 : 0;
        const GgmlType type = gguf.entry(*gguf_tensor_name(architecture, name)).type;
        const at::Tensor expected = rounded_to(type, values + added) - added;
        const at::Tensor actual =
            source.tensors->read(name, whole_rectangle(values.sizes().vec())).to(at::kFloat);
        source.tensors->release(name);
        check(
            at::equal(actual, expected),
            "Expected the values of the checkpoint as {} for {} in {}, but they differ by up to {}",
            ggml_type_name(type), name, file.string(),
            (actual - expected).abs().max().item<double>());
      });
  return std::ssize(exported.map.tensors);
}

}  // namespace

std::string check_gguf_export(const fs::path& load, const fs::path& output) {
  constexpr double kTolerance = 1e-4;
  SourceModel file = open_gguf_model(output);
  const int64_t tensors = check_equal_values(load, output, file);
  GPTModelConfig config;
  {
    const auto checkpoint = CheckpointReader::open(load);
    config = exported_model(checkpoint).config;
  }
  const std::string lost = gguf_differences(config, file.config);
  check(lost.empty(), "Expected the checkpoint's configuration in {}, but got {}", output.string(),
        lost);
  // The weights are known to be equal now, so that those of the file serve for both.
  const auto load_file = [&](const ShardedStateDict& state) { load_source_model(file, state); };
  const at::Tensor expected = logits_of(config, load_file), actual = logits_of_source(file);
  const double difference = (actual - expected).abs().max().item<double>(),
               largest = expected.abs().max().item<double>();
  check(difference <= kTolerance * largest,
        "Expected the same logits of the file and of the checkpoint, but they differ by up to {}",
        difference);
  return fmt::format(
      "read back: the configuration agrees, {} tensors equal those of the checkpoint in the file's "
      "types bit for bit\nlogits of {} fixed tokens: {}, largest {:.4f}\n",
      tensors, expected.size(1),
      difference == 0 ? std::string("equal") : fmt::format("differ by up to {:.1e}", difference),
      largest);
}

std::string check_import(SourceModel& source, const fs::path& save) {
  const TemporaryFolder copy(save);
  export_checkpoint(save, copy.path());
  HfTensors actual = HfTensors::open(copy.path());
  std::vector<std::string> buffers = source.family->buffers;
  for (std::string& pattern : buffers) {
    if (source.record.prefix.empty() && pattern.starts_with(source.family->prefix))
      pattern.erase(0, source.family->prefix.size());
  }
  const int64_t tensors = check_equal_tensors(*source.tensors, actual, buffers);
  return fmt::format("round trip: {} tensors equal bit for bit\n", tensors) +
         check_logits(logits_of_source(source), logits_of_checkpoint(save, source));
}

std::string check_export(const fs::path& load, const fs::path& output) {
  SourceModel folder = open_source_model(output);
  const std::string logits =
      check_logits(logits_of_source(folder), logits_of_checkpoint(load, folder));
  const TemporaryFolder checkpoint(output.string() + ".checkpoint"), copy(output);
  import_checkpoint(folder, checkpoint.path());
  export_checkpoint(checkpoint.path(), copy.path());
  HfTensors actual = HfTensors::open(copy.path());
  const int64_t tensors = check_equal_tensors(*folder.tensors, actual, {});
  return fmt::format("round trip: {} tensors equal bit for bit\n", tensors) + logits;
}

}  // namespace megatron
