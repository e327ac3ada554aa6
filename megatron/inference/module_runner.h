// The general ModelRunner: it runs the model's modules, so it serves every model and layout that
// they support. Rows are computed one at a time, each a micro-batch of the pipeline's schedule: a
// matrix product may round differently with another number of rows, and a row must not depend on
// what is beside it. Each layer copies the cached tokens of a row out of their blocks.
#pragma once

#include "megatron/inference/model_runner.h"
#include "megatron/inference/paged_entries.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

class ModuleRunner : public ModelRunner {
 public:
  // `chunks` are this rank's part of the model and must outlive the runner. Finds out what the layers
  // cache with a pass of one token. Collective over the model's groups. allocate() must follow.
  ModuleRunner(const GPTModelChunks& chunks, int64_t block_size);

  // Bytes of a block on the rank that needs most of those that share a copy of the model.
  int64_t bytes_per_block() const { return bytes_per_block_; }
  void allocate(int64_t num_blocks);

  // Collective over the model's groups: all ranks pass the same rows. The logits are returned on the
  // ranks of the last pipeline stage, an undefined tensor on the others. Logits of a double
  // precision model are fp64.
  at::Tensor forward(std::span<const StepRow> rows) override;
  void copy_block(int64_t from, int64_t to) override;
  int64_t block_size() const override { return block_size_; }
  int64_t num_blocks() const override { return num_blocks_; }
  int64_t vocab_size() const override { return vocab_size_; }

 private:
  void check_row(const StepRow& row) const;

  const GPTModelChunks& chunks_;
  int64_t block_size_, num_blocks_ = 0, vocab_size_, bytes_per_block_ = 0;
  CacheEntries entries_;
  PagedEntries cache_;
};

}  // namespace megatron
