// megatron convert: between Hugging Face folders or GGUF files and checkpoints.
#include <filesystem>
#include <iostream>

#include "megatron/base/error.h"
#include "megatron/base/usage_error.h"
#include "megatron/convert/conversion_check.h"
#include "megatron/convert/gguf_model.h"

#include "cli/command.h"

namespace megatron {
namespace {

void report(const ConvertedModel& converted) {
  for (const std::string& note : converted.notes) std::cout << note << '\n';
  std::cout << fmt::format("{}: {} tensors, {} parameters\n", converted.path.string(),
                           converted.tensors, converted.parameters);
}

int import_model(SourceModel source, const Options& options) {
  report(import_checkpoint(source, options.checkpoint.save));
  if (options.convert.verify)
    std::cout << check_import(source, options.checkpoint.save) << std::flush;
  return 0;
}

int import_gguf(const ParsedCommand& command) {
  const Options& options = command.options;
  std::optional<at::ScalarType> dtype;
  if (command.is_given("params_dtype")) dtype = options.model.transformer.params_dtype;
  return import_model(open_gguf_model(options.convert.from_gguf, dtype), options);
}

int export_folder(const Options& options) {
  report(export_checkpoint(options.checkpoint.load, options.convert.to_hf));
  if (options.convert.verify)
    std::cout << check_export(options.checkpoint.load, options.convert.to_hf) << std::flush;
  return 0;
}

int export_gguf_file(const Options& options) {
  const std::string& name = options.convert.gguf_type;
  const auto type = name.empty() ? std::nullopt : ggml_type(name);
  const bool written = type == GgmlType::F32 || type == GgmlType::F16 || type == GgmlType::BF16 ||
                       type == GgmlType::Q8_0;
  if (!name.empty() && !written)
    throw UsageError(
        fmt::format("Expected --gguf-type f32, f16, bf16 or q8_0, but got '{}'", name));
  report(export_gguf(options.checkpoint.load, options.convert.to_gguf, type));
  if (options.convert.verify)
    std::cout << check_gguf_export(options.checkpoint.load, options.convert.to_gguf) << std::flush;
  return 0;
}

}  // namespace

int run_convert(const ParsedCommand& command) {
  const Options& options = command.options;
  const ConvertConfig& convert = options.convert;
  const bool saves = !options.checkpoint.save.empty(), loads = !options.checkpoint.load.empty();
  const int inputs = int(!convert.from_hf.empty()) + int(!convert.from_gguf.empty());
  const int outputs = int(!convert.to_hf.empty()) + int(!convert.to_gguf.empty());
  const bool imports = inputs == 1 && outputs == 0 && saves && !loads;
  const bool exports = inputs == 0 && outputs == 1 && loads && !saves;
  if (!imports && !exports) {
    throw UsageError(
        "Expected --from-hf or --from-gguf with --save, or --load with --to-hf or --to-gguf, but got "
        "another combination");
  }
  if (convert.from_gguf.empty() && command.is_given("params_dtype"))
    throw UsageError("Expected --params-dtype with --from-gguf only, but got it; leave it out");
  if (convert.to_gguf.empty() && !convert.gguf_type.empty())
    throw UsageError("Expected --gguf-type with --to-gguf only, but got it; leave it out");
  if (!convert.from_gguf.empty()) return import_gguf(command);
  if (imports) return import_model(open_source_model(convert.from_hf), options);
  return convert.to_hf.empty() ? export_gguf_file(options) : export_folder(options);
}

}  // namespace megatron
