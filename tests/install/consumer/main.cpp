// A program outside the project: it includes the installed headers and calls into libmegatron.so
// and libtorch. Exits 0 where both answer as they should.
#include <iostream>

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/config/model/gpt_model_config.h"

int main() {
  megatron::GPTModelConfig config;
  config.vocab_size = 50257;
  config.should_pad_vocab = true;
  config.transformer.tensor_model_parallel_size = 2;
  if (config.padded_vocab_size() != 50432) {
    std::cerr << "Expected 50432 padded rows, but got " << config.padded_vocab_size() << '\n';
    return 1;
  }
  try {
    megatron::dtype_from_name("float7");
    std::cerr << "Expected an Error for the type float7, but got none\n";
    return 1;
  } catch (const megatron::Error& error) {
    std::cout << error.what() << '\n';
  }
  const at::Tensor ones = at::ones({2, 3}, megatron::dtype_from_name("fp64"));
  return ones.sum().item<double>() == 6.0 ? 0 : 1;
}
