// Checks of text generation.
#include <algorithm>
#include <cmath>
#include <unistd.h>

#include "megatron/base/human_bytes.h"
#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

void check_engine_sizes(const GenerationConfig& config, Problems& problems) {
  const bool has_sizes = problems.is_size("--inference-dynamic-batching-block-size",
                                          config.inference_dynamic_batching_block_size) &
                         problems.is_size("--inference-dynamic-batching-chunk-size",
                                          config.inference_dynamic_batching_chunk_size) &
                         problems.is_size("--inference-dynamic-batching-max-requests",
                                          config.inference_dynamic_batching_max_requests);
  const double gb = config.inference_dynamic_batching_buffer_size_gb;
  const auto memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const double memory_gb = static_cast<double>(memory) / (1024.0 * 1024.0 * 1024.0);
  problems.expect(std::isfinite(gb) && gb > 0 && gb <= memory_gb,
                  "Expected --inference-dynamic-batching-buffer-size-gb above 0 and within the "
                  "machine's memory of {}, but got {}; {:.1f} works",
                  human_bytes(memory), gb, memory_gb / 4);
  const int64_t drafts = config.num_speculative_tokens;
  if (!has_sizes || !problems.at_least("--num-speculative-tokens", drafts, 0)) return;
  const int64_t block = config.inference_dynamic_batching_block_size;
  const int64_t chunk = config.inference_dynamic_batching_chunk_size;
  problems.expect(chunk % block == 0,
                  "Expected --inference-dynamic-batching-chunk-size as a multiple of "
                  "--inference-dynamic-batching-block-size {}, but got {}; {} works",
                  block, chunk, std::max<int64_t>(chunk / block, 1) * block);
  const int64_t others = config.inference_dynamic_batching_max_requests - 1;
  const int64_t least = others * (1 + drafts) + std::max(chunk, 1 + drafts);
  problems.expect(config.inference_dynamic_batching_max_tokens >= least,
                  "Expected --inference-dynamic-batching-max-tokens of at least {}, for a chunk of "
                  "{} tokens beside {} decoding requests of {}, but got {}",
                  least, chunk, others, 1 + drafts, config.inference_dynamic_batching_max_tokens);
}

}  // namespace

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
  problems.expect(config.prompts_file.empty() || config.prompt.empty(),
                  "Expected --prompt or --prompts-file, but got both; leave one out");
  problems.expect(config.output.empty() || !config.prompts_file.empty(),
                  "Expected --prompts-file with --output, but got none; --prompt prints its text");
}

void check_evaluation(const EvaluationConfig& config, Problems& problems) {
  problems.expect(!config.text_file.empty() || !config.choices_file.empty(),
                  "Expected --text-file or --choices-file, but got none; both together work");
  problems.expect(config.text_window == 0 || !config.text_file.empty(),
                  "Expected --text-file with --text-window {}, but got none", config.text_window);
  problems.expect(config.text_window == 0 || config.text_window >= 2,
                  "Expected --text-window of at least 2, but got {}; the first token of a part has "
                  "no tokens before it",
                  config.text_window);
}

void check_engine(const Options& options, Command command, Problems& problems) {
  check_engine_sizes(options.generation, problems);
  problems.expect(options.model.transformer.context_parallel_size == 1,
                  "Expected --context-parallel-size 1 for {}, which decodes one position at a "
                  "time, but got {}; leave it out",
                  command_name(command), options.model.transformer.context_parallel_size);
  check_tokenizer(options.tokenizer, problems);
}

}  // namespace megatron
