#include "megatron/transformer/pipeline_stage.h"

#include "megatron/base/integer_math.h"

namespace megatron {

PipelineStage PipelineStage::even(int64_t num_layers, int rank, int size) {
  const int64_t layers = divide(num_layers, size, "num_layers");
  return {.rank = rank,
          .size = size,
          .pre_process = rank == 0,
          .post_process = rank == size - 1,
          .first_layer = rank * layers,
          .num_layers = layers};
}

PipelineStage PipelineStage::of(const PipelineLayout& layout, int rank, int chunk) {
  const PipelineChunk& held = layout.chunk(rank, chunk);
  const int virtual_stage = chunk * layout.stages() + rank;
  return {.rank = rank,
          .size = layout.stages(),
          .pre_process = held.embedding,
          .post_process = held.loss,
          .first_layer = held.first_layer,
          .num_layers = held.num_layers,
          .chunk = chunk,
          .mtp_process = held.mtp,
          .receives_mtp_hidden_states = virtual_stage > layout.mtp_virtual_stage()};
}

}  // namespace megatron
