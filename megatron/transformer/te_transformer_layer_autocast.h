// A whole layer of fused modules under autocast (Megatron's TETransformerLayerAutocast): with bf16
// set and fp32 parameters it computes in bf16, with fp32 gradients. Its residual stream keeps the
// dtype of its input.
#pragma once

#include "megatron/transformer/transformer_layer.h"

namespace megatron {

class TETransformerLayerAutocast : public TransformerLayer {
 public:
  // No slots: the layer consists of the modules of the Transformer Engine backend (layer_specs.h).
  // Parameter has_experts: whether it is a layer with experts.
  explicit TETransformerLayerAutocast(const BuildArguments& arguments);

 private:
  // What the base class is built from.
  struct Parts {
    ModuleSpec spec;
    LayerOptions options;
  };
  TETransformerLayerAutocast(const BuildArguments& arguments, const Parts& parts);
};

}  // namespace megatron
