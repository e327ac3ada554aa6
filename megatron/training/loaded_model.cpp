#include "megatron/training/loaded_model.h"

#include <filesystem>

#include "megatron/config/options/options_json.h"
#include "megatron/convert/checkpoint_conversion.h"
#include "megatron/formats/gguf_file.h"
#include "megatron/training/training_state.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

bool names_tokenizer(const TokenizerConfig& config) {
  return config.tokenizer_type || !config.tokenizer_model.empty() || !config.vocab_file.empty();
}

}  // namespace

bool has_tokenizer(const std::string& folder) {
  if (GgufFile::is_gguf(folder)) {
    return GgufFile::open(folder).metadata().text("tokenizer.ggml.model", "none") != "none";
  }
  const fs::path path = folder;
  return fs::exists(path / "tokenizer.json") || fs::exists(path / "tokenizer.model") ||
         (fs::exists(path / "vocab.json") && fs::exists(path / "merges.txt"));
}

LoadedModel LoadedModel::open(const std::string& path) {
  LoadedModel model;
  std::string tokenizer = path;
  if (is_source_model(path)) {
    model.source_ = open_source_model(path);
    model.options_ = options_of_source(*model.source_);
  } else {
    model.checkpoint_ = CheckpointReader::open(path);
    const nlohmann::json& common = model.checkpoint_->common();
    model.options_ = from_json(common.at("options"));
    // FP8 is a way to train; the weights of a checkpoint are in high precision.
    model.options_.model.transformer.low_precision = {};
    model.tokenizer_fingerprint_ = common.value("tokenizer_fingerprint", "");
    tokenizer = (model.checkpoint_->directory() / kSourceFolder).string();
  }
  if (!names_tokenizer(model.options_.tokenizer) && has_tokenizer(tokenizer)) {
    model.options_.tokenizer.tokenizer_type = TokenizerType::HuggingFaceTokenizer;
    model.options_.tokenizer.tokenizer_model = tokenizer;
  }
  return model;
}

void LoadedModel::load_weights(const Options& options, const GPTModelChunks& chunks) {
  if (checkpoint_) return megatron::load_weights(*checkpoint_, options, chunks);
  load_source_model(*source_, sharded_state_dict(chunks));
}

}  // namespace megatron
