// megatron preprocess: text or JSON lines to .bin/.idx.
#include "megatron/data/preprocess.h"

#include <iostream>

#include "megatron/base/progress_bar.h"
#include "megatron/config/validate.h"
#include "megatron/data/build_tokenizer.h"

#include "cli/command.h"

namespace megatron {

int run_preprocess(const ParsedCommand& command) {
  Options options = command.options;
  validate(options, /*world_size=*/1, Command::preprocess);
  const auto tokenizer = build_tokenizer(options.tokenizer);
  PreprocessArguments arguments;
  arguments.inputs = options.preprocess.input;
  arguments.output_prefix = options.preprocess.output_prefix;
  arguments.json_keys = options.preprocess.json_keys;
  arguments.workers = options.preprocess.workers;
  arguments.append_eod = options.preprocess.append_eod;
  arguments.document_start = options.preprocess.document_start;

  std::optional<ProgressBar> bar;
  const auto counts = [](const PreprocessProgress& progress) {
    return fmt::format("{} documents, {} tokens", format_quantity(double(progress.documents)),
                       format_quantity(double(progress.tokens)));
  };
  const PreprocessResult result =
      preprocess(arguments, *tokenizer, [&](const PreprocessProgress& progress) {
        if (!bar) {
          ProgressBarOptions look;
          look.label = "preprocess";
          look.unit = "B";
          look.total = static_cast<double>(progress.bytes_total);
          bar.emplace(std::move(look));
        }
        bar->update(static_cast<double>(progress.bytes_done), counts(progress));
      });
  if (bar) bar->finish(counts(result.totals));
  if (result.totals.bytes_left_out > 0) {
    std::cerr << fmt::format(
        "note: {} bytes of the text have no token in this vocabulary and were "
        "left out\n",
        result.totals.bytes_left_out);
  }
  for (const auto& prefix : result.prefixes) {
    std::cout << fmt::format("wrote {}.bin and {}.idx\n", prefix, prefix);
  }
  std::cout << fmt::format("{} documents, {} tokens\n", result.totals.documents,
                           result.totals.tokens);
  return 0;
}

}  // namespace megatron
