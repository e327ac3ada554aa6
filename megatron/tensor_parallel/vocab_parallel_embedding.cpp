#include "megatron/tensor_parallel/vocab_parallel_embedding.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/ops/embedding.h"
#include "megatron/parallel/collectives.h"

namespace megatron {

VocabParallelEmbedding::VocabParallelEmbedding(int64_t num_embeddings, int64_t embedding_dim,
                                               double init_std, const LayerOptions& options)
    : options_(options) {
  const int64_t rows_p = divide(num_embeddings, options.tp->size(), "the padded vocabulary");
  weight_ = register_parameter(
      "weight",
      std::make_shared<Parameter>(std::vector<int64_t>{rows_p, embedding_dim}, options.tensor,
                                  options.sharding(/*dim=*/0), Initialization::normal(init_std)));
  weight_->allow_shape_mismatch = true;
  weight_->is_embedding_or_output_parameter = weight_->is_embedding_parameter = true;
}

at::Tensor VocabParallelEmbedding::forward(const at::Tensor& ids, bool reduce_scatter) const {
  // Ids that no rank holds. Not checked on a GPU, where it would synchronize with the device.
  if (ids.is_cpu() && ids.numel() > 0) {
    const int64_t rows = weight_->data.size(0) * options_.tp->size(),
                  last = ids.max().item<int64_t>();
    check(last < rows, "Expected token ids in [0, {}), but got {}", rows, last);
  }
  const int64_t vocab_start = options_.tp->rank() * weight_->data.size(0);
  const at::Tensor partial = embedding_lookup(weight_->data, ids, vocab_start, weight_->main_grad);
  return reduce_scatter ? reduce_scatter_to_sequence_parallel_region(partial, *options_.tp)
                        : reduce_from_tensor_model_parallel_region(partial, *options_.tp);
}

}  // namespace megatron
