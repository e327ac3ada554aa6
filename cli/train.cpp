// megatron train: trains a GPT.
#include "megatron/base/error.h"
#include "megatron/config/validate.h"
#include "megatron/data/build_tokenizer.h"
#include "megatron/parallel/launch.h"
#include "megatron/training/step_profiler.h"
#include "megatron/training/training_loop.h"

#include "cli/command.h"

namespace megatron {

int run_train(const ParsedCommand& command) {
  if (const auto ranks = ranks_to_start(command.options.launch)) {
    Options options = command.options;
    validate(options, *ranks);
  }
  prepare_step_profiler(command.options);
  return launch(command.options.launch, [&](RankContext& rank) {
    Options options = command.options;
    std::unique_ptr<Tokenizer> tokenizer;
    const TokenizerConfig& files = options.tokenizer;
    if (files.tokenizer_type || !files.tokenizer_model.empty() || !files.vocab_file.empty()) {
      const int64_t vocab_size = options.model.vocab_size;
      tokenizer = build_tokenizer(files, vocab_size > 0 ? std::optional(vocab_size) : std::nullopt);
      check(vocab_size == 0 || vocab_size >= tokenizer->vocab_size(),
            "Expected --vocab-size of at least the tokenizer's {}, but got {}",
            tokenizer->vocab_size(), vocab_size);
      if (vocab_size == 0) options.model.vocab_size = tokenizer->vocab_size();
    }
    validate(options, rank.world_size);
    return run_training(options, tokenizer.get(), rank);
  });
}

}  // namespace megatron
