#include "megatron/models/common/float16_module.h"

#include "megatron/base/error.h"
#include "megatron/models/common/language_module.h"

namespace megatron {

std::shared_ptr<MegatronModule> Float16Module(const TransformerConfig& config,
                                              std::shared_ptr<MegatronModule> module) {
  check(
      config.bf16 || config.fp16,
      "Expected bf16=true or fp16=true for Float16Module, but got neither; fp32 needs no wrapper");
  check(module != nullptr, "Expected a module for Float16Module, but got null");
  module->convert_parameters(config.compute_dtype());
  if (auto* model = dynamic_cast<LanguageModule*>(module.get())) model->return_fp32_logits();
  return module;
}

}  // namespace megatron
