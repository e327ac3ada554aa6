#include "megatron/convert/checkpoint_conversion.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/fingerprint.h"
#include "megatron/checkpoint/save_checkpoint.h"
#include "megatron/config/options/options_json.h"
#include "megatron/convert/export_weights.h"
#include "megatron/convert/hf_folder_writer.h"
#include "megatron/convert/import_weights.h"
#include "megatron/convert/padding_groups.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {
namespace {

int64_t count_elements(const TensorMap& map) {
  int64_t elements = 0;
  for (const MappedParameter& parameter : map.parameters) elements += shape_volume(parameter.shape);
  return elements;
}

// What training stores beside the tensors (training_state.cpp), of a run that has not begun.
nlohmann::json common_of_import(const Options& options) {
  return {{"options", to_json(options)},
          {"iteration", 0},
          {"consumed_samples", 0},
          {"scheduled_samples", 0},
          {"optimizer_steps", 0},
          {"has_optimizer_state", false},
          {"tokenizer_fingerprint", ""},
          {"extra_checkpoint_metadata", nullptr},
          {"fingerprint", to_json(Fingerprint::of_this_process())}};
}

}  // namespace

bool equal_tensors(TensorSource& left, TensorSource& right, const std::string& name) {
  const SourceTensor* a = left.find(name);
  const SourceTensor* b = right.find(name);
  if (a == nullptr || b == nullptr || a->dtype != b->dtype || a->shape != b->shape) return false;
  const Rectangle whole = whole_rectangle(a->shape);
  const bool equal = at::equal(left.read(name, whole).contiguous().view(-1).view(at::kByte),
                               right.read(name, whole).contiguous().view(-1).view(at::kByte));
  left.release(name);
  right.release(name);
  return equal;
}

Options options_of_source(const SourceModel& source) {
  Options options;
  options.model = source.config;
  TransformerConfig& transformer = options.model.transformer;
  transformer.bf16 = source.record.dtype == at::kBFloat16;
  transformer.params_dtype = transformer.bf16 ? at::kBFloat16 : at::kFloat;
  if (source.record.dtype == at::kDouble) transformer.params_dtype = at::kDouble;
  return options;
}

ConvertedModel import_checkpoint(SourceModel& source, const std::filesystem::path& save) {
  const std::vector<int64_t> stored = stored_iterations(save);
  check(stored.empty(),
        "Expected --save to name a folder without checkpoints, but {} holds iteration {}; give "
        "another",
        save.string(), stored.empty() ? 0 : stored.back());
  const ProcessGroupCollection single = ProcessGroupCollection::single_rank();
  const SavedCheckpoint saved =
      save_checkpoint(save, /*iteration=*/0, imported_state(*source.tensors, source.map),
                      common_of_import(options_of_source(source)), *single.world,
                      {.add_files = [&](const std::filesystem::path& directory) {
                        write_source_record(source.record, directory);
                      }});
  return {.path = saved.directory,
          .tensors = std::ssize(source.map.parameters),
          .parameters = count_elements(source.map),
          .notes = source.notes};
}

ExportedModel exported_model(const CheckpointReader& checkpoint) {
  const GPTModelConfig stored = from_json(checkpoint.common().at("options")).model;
  ExportedModel model;
  model.record = export_record(read_source_record(checkpoint.directory()), stored,
                               stored.transformer.params_dtype);
  model.map = map_of_record(model.record, stored);
  model.config =
      without_padding_groups(stored, read_hf_config(hf_family(model.record.model_type),
                                                    model.record.config, "the stored config.json"));
  return model;
}

ConvertedModel export_checkpoint(const std::filesystem::path& load,
                                 const std::filesystem::path& output) {
  auto checkpoint = CheckpointReader::open(load);
  const auto [record, config, map] = exported_model(checkpoint);
  const ProcessGroupCollection single = ProcessGroupCollection::single_rank();
  write_hf_folder(output, record, map, values_of_checkpoint(checkpoint), *single.world);
  return {.path = output,
          .tensors = std::ssize(map.tensors) + std::ssize(record.tied_copies),
          .parameters = count_elements(map)};
}

int64_t check_equal_tensors(TensorSource& expected, TensorSource& actual,
                            const std::vector<std::string>& ignored_buffers) {
  std::vector<std::string> problems;
  int64_t compared = 0;
  for (const std::string& name : expected.names()) {
    const bool ignored = std::ranges::any_of(
        ignored_buffers, [&](const auto& pattern) { return matches_pattern(name, pattern); });
    if (ignored) continue;
    if (actual.find(name) == nullptr) {
      problems.push_back(name + " is missing");
    } else if (!equal_tensors(expected, actual, name)) {
      problems.push_back(name + " differs");
    }
    ++compared;
  }
  for (const std::string& name : actual.names()) {
    if (expected.find(name) == nullptr) problems.push_back(name + " is new");
  }
  check(problems.empty(), "Expected the tensors of {} in {}, but {}", expected.path(),
        actual.path(), fmt::join(problems, ", "));
  return compared;
}

}  // namespace megatron
