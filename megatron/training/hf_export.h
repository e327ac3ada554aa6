// --save-hf: a Hugging Face folder of each saved iteration.
#pragma once

#include <optional>

#include "megatron/config/options/options.h"
#include "megatron/convert/source_record.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

class HfExport {
 public:
  // `source` describes where the model came from; without one, the family is that which expresses
  // the model. Throws Error if none does, before anything is trained.
  HfExport(const Options& options, const std::optional<SourceRecord>& source);

  // Writes <--save-hf>/iter_0000123 and returns it. The parameters must be complete. Collective over
  // the world.
  std::filesystem::path write(int64_t iteration, const GPTModelChunks& chunks) const;

 private:
  std::filesystem::path root_;
  SourceRecord record_;
  TensorMap map_;
};

}  // namespace megatron
