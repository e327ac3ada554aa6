// What each pipeline stage holds: the one place that shares out embedding, layers and loss.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "megatron/config/model/transformer_config.h"

namespace megatron {

// A chunk of consecutive layers. With C chunks on each of P ranks, chunk c of rank r is the virtual
// stage c * P + r: activations pass through these in order.
struct PipelineChunk {
  bool embedding = false;
  int64_t first_layer = 0;  // global, from 0
  int64_t num_layers = 0;   // may be 0
  bool prediction = false;  // the multi-token prediction layers, where the model has any
  bool loss = false;        // output layer and loss
};

class PipelineLayout {
 public:
  // The split that the configuration asks for: even, with other first and last stages, with
  // embedding and loss counted as layers, or by its layout string. Every layer is in exactly one
  // chunk. Throws Error where that does not add up, with the nearest that does.
  static PipelineLayout of(const TransformerConfig& config);

  int stages() const { return stages_; }  // P, ranks
  int chunks() const { return chunks_; }  // C, on each rank
  const PipelineChunk& chunk(int stage, int chunk) const {
    return virtual_stages_[chunk * stages_ + stage];
  }
  const std::vector<PipelineChunk>& virtual_stages() const { return virtual_stages_; }
  // The rank among the stages whose chunks hold the prediction layers.
  int prediction_stage() const { return prediction_virtual_stage() % stages_; }
  int prediction_virtual_stage() const;
  // Whether prediction layers are in another chunk than the loss.
  bool prediction_is_apart() const { return !virtual_stages_.back().prediction; }
  // Of the chunk that has most.
  int64_t most_layers() const;

 private:
  PipelineLayout(int stages, std::vector<PipelineChunk> virtual_stages);

  int stages_, chunks_;
  std::vector<PipelineChunk> virtual_stages_;
};

// "layers 1-4, embedding; layers 9-12, output layer": the chunks of a stage, with layers from 1 on.
// `depths` of multi-token prediction.
std::string describe_stage(const PipelineLayout& layout, int stage, int64_t depths);

}  // namespace megatron
