// Query groups of zeros, appended to a loaded model whose groups the tensor-parallel size does not
// divide. The queries, keys and values of such a group and its columns of the output projection are
// zero, and so are their gradients: it adds nothing, and training keeps it so. Exports leave it out.
#pragma once

#include <cstdint>
#include <string_view>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/config/model/gpt_model_config.h"

namespace megatron {

// `model` with as many groups as tensor-parallel ranks share evenly. Unchanged where that is so
// already, and for attention that zeros would change: latent attention, norms of query and key with
// weights of each head or over all of them.
GPTModelConfig with_padding_groups(GPTModelConfig model, int64_t tensor_model_parallel_size);

// `model` without the groups that it has more than `source`. Unchanged where the two differ in another
// way.
GPTModelConfig without_padding_groups(GPTModelConfig model, const GPTModelConfig& source);

// Whether a parameter has more rows or columns with such groups. `parameter` may have a prefix, as the
// optimizer's state of a parameter has.
bool grows_with_groups(std::string_view parameter);

// `state` of a model with such groups, to be loaded from a checkpoint that lacks some of them: the
// shards are cut to the tensors that are stored. What is cut off is set to zero, in place.
ShardedStateDict within_stored_groups(const CheckpointReader& checkpoint, ShardedStateDict state);

}  // namespace megatron
