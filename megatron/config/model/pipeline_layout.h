// The assignment of embedding, layers, MTP layers and loss to pipeline stages.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "megatron/config/model/transformer_config.h"

namespace megatron {

// A model chunk: consecutive layers. With C chunks on each of P ranks, chunk c of rank r is virtual
// stage c * P + r, and activations pass through the virtual stages in order.
struct PipelineChunk {
  bool embedding = false;
  int64_t first_layer = 0;  // global index, from 0
  int64_t num_layers = 0;   // may be 0
  bool mtp = false;         // holds the MTP layers, if the model has any
  bool loss = false;        // output layer and loss
};

class PipelineLayout {
 public:
  // The split that the configuration describes: even, with a different first or last stage, with
  // embedding and loss counted as layers, or pipeline_model_parallel_layout. Every layer is in
  // exactly one chunk. Throws Error with the nearest valid values if the split is not possible.
  static PipelineLayout of(const TransformerConfig& config);

  int stages() const { return stages_; }  // P: ranks
  int chunks() const { return chunks_; }  // C: chunks per rank
  const PipelineChunk& chunk(int stage, int chunk) const {
    return virtual_stages_[chunk * stages_ + stage];
  }
  const std::vector<PipelineChunk>& virtual_stages() const { return virtual_stages_; }
  // The pipeline rank that holds the MTP layers.
  int mtp_stage() const { return mtp_virtual_stage() % stages_; }
  int mtp_virtual_stage() const;
  // Whether the MTP layers are in another chunk than the loss.
  bool mtp_standalone() const { return !virtual_stages_.back().mtp; }
  // Layers of the largest chunk.
  int64_t most_layers() const;

 private:
  PipelineLayout(int stages, std::vector<PipelineChunk> virtual_stages);

  int stages_, chunks_;
  std::vector<PipelineChunk> virtual_stages_;
};

// The chunks of a stage: "layers 1-4, embedding; layers 9-12, output layer". `mtp_num_layers` is
// the number of MTP depths.
std::string describe_stage(const PipelineLayout& layout, int stage, int64_t mtp_num_layers);

}  // namespace megatron
