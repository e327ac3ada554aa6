#include "megatron/models/common/float16_module.h"

#include "megatron/base/error.h"

namespace megatron {

std::shared_ptr<MegatronModule> Float16Module(const TransformerConfig& config,
                                              std::shared_ptr<MegatronModule> module) {
  check(config.bf16, "Expected bf16=true for Float16Module, but got false; fp32 needs no wrapper");
  module->convert_parameters(at::kBFloat16);
  return module;
}

}  // namespace megatron
