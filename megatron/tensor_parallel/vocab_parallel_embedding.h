// The word embedding, whose rows are partitioned over the tensor-parallel group.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

class VocabParallelEmbedding : public MegatronModule {
 public:
  // `num_embeddings` is global, and a multiple of the group's size.
  VocabParallelEmbedding(int64_t num_embeddings, int64_t embedding_dim, double init_std,
                         const LayerOptions& options);

  // ids [b, s] int64 -> [s, b, h]; [s/tp, b, h] with `reduce_scatter` (sequence parallelism).
  at::Tensor forward(const at::Tensor& ids, bool reduce_scatter) const;

  const ParameterPtr& weight() const { return weight_; }

 private:
  LayerOptions options_;
  ParameterPtr weight_;
};

}  // namespace megatron
