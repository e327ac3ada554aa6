// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

struct SamplingParams {
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 0;         // keeps the k most likely tokens; 0: all
  // Keeps the most likely tokens, up to the first whose predecessors sum to more than p; 0: all.
  double top_p = 0.0;
  // Keeps the tokens of at least this fraction of the largest probability; 0: all.
  double min_p = 0.0;
  // Divides positive logits of tokens in the prompt or the output, and multiplies negative ones
  // (Keskar et al., "CTRL", 2019); 1: none.
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;              // subtracted from the logits of tokens in the output
  std::map<int64_t, double> logit_bias = {};  // added to the logits of ids
  uint64_t seed = 0;
};

// Throws Error that names the field: values out of range, top_k and top_p together, biases of ids
// outside the vocabulary.
void check_sampling(const SamplingParams& params, int64_t vocab_size);

// What a choice depends on besides the logits and the parameters. The draw is a function of the
// seed, `row` and `position`, so it depends neither on the layout nor on other requests.
struct SamplingContext {
  int64_t row = 0;       // number of the sample among those of one prompt
  int64_t position = 0;  // of the chosen token
  std::span<const int64_t> prompt = {}, output = {};
  // [up to vocab_size] bool: ids that are false or beyond its end are never chosen. Undefined: all
  // are known.
  at::Tensor known_ids = {};
};

// logits [v_padded] of a floating type, on a CPU -> a token id below `vocab_size`; the columns from
// there on pad the vocabulary. The order is: bias and penalties, temperature, top-k or top-p, min-p,
// softmax, draw. Of equal logits greedy decoding takes the lowest id. Throws Error as
// check_sampling, where no id is known, and for logits that are not finite.
int64_t sample_token(const at::Tensor& logits, int64_t vocab_size, const SamplingParams& params,
                     const SamplingContext& context);

struct TokenLogprob {
  int64_t token = 0;
  double logprob = 0.0;
  std::vector<std::pair<int64_t, double>> top = {};  // the most likely tokens, in order
};

// The log-probability of `token` under the model's logits [v_padded], before any sampling parameter,
// and of the `top` most likely tokens.
TokenLogprob token_logprob(const at::Tensor& logits, int64_t vocab_size, int64_t token,
                           int64_t top);

}  // namespace megatron
