// Checks of text generation.
#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {

void check_generation(const GenerationConfig& config, Problems& problems) {
  problems.at_least("--max-new-tokens", config.max_new_tokens, 1);
  problems.at_least("--num-samples", config.num_samples, 1);
  problems.at_least("--top-k", config.top_k, 0);
  problems.expect(config.temperature >= 0,
                  "Expected --temperature of at least 0, but got {}; 0 is greedy decoding",
                  config.temperature);
  problems.expect(config.top_p >= 0 && config.top_p <= 1,
                  "Expected --top-p between 0 and 1, but got {}; 0 samples from all tokens",
                  config.top_p);
  problems.expect(
      config.temperature != 0 || (config.top_k == 0 && config.top_p == 0),
      "Expected --greedy (--temperature 0), or --top-k or --top-p, but got both; greedy "
      "decoding does not sample");
  problems.expect(
      config.temperature != 0 || config.num_samples <= 1,
      "Expected --temperature above 0 with --num-samples {}, but got 0; greedy decoding "
      "always gives the same text",
      config.num_samples);
  problems.expect(config.top_k <= 0 || config.top_p <= 0,
                  "Expected --top-k or --top-p, but got both ({} and {}); 0 turns one off",
                  config.top_k, config.top_p);
}

}  // namespace megatron
