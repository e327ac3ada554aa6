// Runs steps of a model over a paged key-value cache that it owns.
#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "megatron/inference/step_batch.h"

namespace megatron {

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  // Writes keys and values of the rows' tokens into their blocks, and returns the logits that rows
  // ask for, in their order: [r, v] fp32 with v = vocab_size(); r = 0 without any. The tensor is
  // valid until the next call. A row sees its own blocks only: its logits do not depend on the
  // other rows. Throws Error for tokens outside the vocabulary, blocks outside the cache and rows
  // whose blocks do not cover them.
  virtual at::Tensor forward(std::span<const StepRow> rows) = 0;

  // Copies the keys and values of block `from` to block `to`, in all layers: a block that several
  // sequences share is copied before one of them writes to it.
  virtual void copy_block(int64_t from, int64_t to) = 0;

  virtual int64_t block_size() const = 0;  // tokens of a block
  virtual int64_t num_blocks() const = 0;
  virtual int64_t vocab_size() const = 0;  // without padding

 protected:
  ModelRunner() = default;
  ModelRunner(const ModelRunner&) = default;
  ModelRunner& operator=(const ModelRunner&) = default;
};

}  // namespace megatron
