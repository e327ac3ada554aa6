// The model that --load names for inference: a checkpoint, or a folder of another library.
#pragma once

#include <optional>
#include <string>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/config/options/options.h"
#include "megatron/convert/source_model.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

class LoadedModel {
 public:
  // Reads the configuration and headers. Throws Error as CheckpointReader::open and
  // open_source_model.
  static LoadedModel open(const std::string& path);

  // The model and the tokenizer that belong to it.
  const Options& options() const { return options_; }
  // Empty if any tokenizer will do.
  const std::string& tokenizer_fingerprint() const { return tokenizer_fingerprint_; }

  // Loads the weights of chunks of any layout. Throws Error where the architecture of `options` is
  // another.
  void load_weights(const Options& options, const GPTModelChunks& chunks);

 private:
  LoadedModel() = default;

  Options options_;
  std::string tokenizer_fingerprint_;
  std::optional<CheckpointReader> checkpoint_;
  std::optional<SourceModel> source_;
};

// Whether a folder or a GGUF file holds a tokenizer that a run can use.
bool has_tokenizer(const std::string& folder);

}  // namespace megatron
