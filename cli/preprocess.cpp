// megatron preprocess: converts text or JSON lines to .bin/.idx.
#include "megatron/data/preprocess.h"

#include <iostream>

#include "megatron/base/error.h"
#include "megatron/base/progress_bar.h"
#include "megatron/config/validate/validate.h"
#include "megatron/data/indexed_dataset.h"
#include "megatron/data/text_statistics.h"
#include "megatron/tokenizers/build_tokenizer.h"
#include "megatron/training/shutdown_signal.h"

#include "cli/command.h"

namespace megatron {
namespace {

// Prints baselines for a validation loss: counts of the first 95% of the documents predict the
// rest.
void print_statistics(const std::string& prefix, const Tokenizer& tokenizer) {
  const IndexedDataset dataset(prefix);
  const int64_t sequences = dataset.num_sequences(), counted = sequences * 19 / 20;
  check(
      counted > 0 && counted < sequences,
      "Expected at least 2 documents for --statistics, but got {}; --document-start splits a text "
      "into documents",
      sequences);
  const auto tokens_of = [&](int64_t begin, int64_t end) {
    std::vector<int64_t> tokens;
    for (int64_t i = begin; i < end; ++i) {
      dataset.append_tokens(i, 0, dataset.sequence_length(i), tokens);
    }
    return tokens;
  };
  const NgramModel model(tokens_of(0, counted), tokenizer.vocab_size());
  const std::vector<int64_t> rest = tokens_of(counted, sequences);
  const auto bytes = tokenizer.token_byte_lengths();
  std::cout << fmt::format(
      "{}: {:.2f} bits per byte by unigrams, {:.2f} by bigrams: counts of {} documents, on the "
      "other {}\n",
      prefix, model.unigram_bits_per_byte(rest, bytes), model.bigram_bits_per_byte(rest, bytes),
      counted, sequences - counted);
}

}  // namespace

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

  const ShutdownSignal shutdown_signal;  // removes temporary files on Ctrl-C
  std::optional<ProgressBar> bar;
  const auto counts = [](const PreprocessProgress& progress) {
    return fmt::format("{} document{}, {} tokens", format_quantity(double(progress.documents)),
                       progress.documents == 1 ? "" : "s",
                       format_quantity(double(progress.tokens)));
  };
  const PreprocessResult result =
      preprocess(arguments, *tokenizer, [&](const PreprocessProgress& progress) {
        check(
            ShutdownSignal::received() == 0,
            "Expected to read all {} bytes, but got a signal to stop after {}; nothing was written",
            progress.bytes_total, progress.bytes_done);
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
  for (const auto& note : result.notes) std::cerr << "note: " << note << '\n';
  if (result.totals.bytes_left_out > 0) {
    std::cerr << fmt::format(
        "note: the vocabulary has no token for {} bytes of the text; they were left out\n",
        result.totals.bytes_left_out);
  }
  if (!arguments.document_start.empty() &&
      result.totals.documents <= static_cast<int64_t>(arguments.inputs.size())) {
    std::cerr << fmt::format(
        "note: --document-start '{}' matches no line within a file; each file is one document\n",
        arguments.document_start);
  }
  for (const auto& prefix : result.prefixes) {
    std::cout << fmt::format("wrote {}.bin and {}.idx\n", prefix, prefix);
  }
  std::cout << fmt::format("{} document{}, {} tokens\n", result.totals.documents,
                           result.totals.documents == 1 ? "" : "s", result.totals.tokens);
  if (options.preprocess.statistics) {
    for (const auto& prefix : result.prefixes) print_statistics(prefix, *tokenizer);
  }
  return 0;
}

}  // namespace megatron
