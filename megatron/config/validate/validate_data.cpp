// Checks of the data of a training run: which files, their split, the vocabulary.
#include <array>
#include <utility>

#include <fmt/ranges.h>

#include "megatron/base/problems.h"
#include "megatron/config/model/split_weights.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

// One source of data, apart from --train-data-path and its kin, which belong together.
void check_sources(const DataConfig& data, Problems& problems) {
  const bool by_split = !data.train_data_path.empty() || !data.valid_data_path.empty() ||
                        !data.test_data_path.empty();
  const std::array<std::pair<const char*, bool>, 5> sources = {
      {{"--mock-data", data.mock_data},
       {"--data-path", !data.data_path.empty()},
       {"--data-args-path", !data.data_args_path.empty()},
       {"--train-data-path (with --valid-data-path, --test-data-path)", by_split},
       {"--per-split-data-args-path", !data.per_split_data_args_path.empty()}}};
  std::vector<const char*> given;
  for (const auto& [flag, is_given] : sources) {
    if (is_given) given.push_back(flag);
  }
  problems.expect(given.size() <= 1,
                  "Expected one source of data, but got {}; leave all but one out",
                  fmt::join(given, " and "));
  problems.expect(!by_split || !data.train_data_path.empty(),
                  "Expected --train-data-path with --valid-data-path or --test-data-path, but got "
                  "none; --data-path with --split takes all three from one dataset");
  const bool splits_whole = by_split || !data.per_split_data_args_path.empty();
  problems.expect(!splits_whole || data.split == DataConfig().split,
                  "Expected --data-path or --data-args-path with --split, but got data by split, "
                  "which is used whole; leave --split out");
}

}  // namespace

void check_data(const Options& options, Problems& problems) {
  const DataConfig& data = options.data;
  const TokenizerConfig& tokenizer = options.tokenizer;
  check_sources(data, problems);
  problems.expect(parse_split_weights(data.split).has_value(),
                  "Expected --split with up to three weights, but got '{}'; 969,30,1 works",
                  data.split);
  const bool has_tokenizer = !tokenizer.vocab_file.empty() || !tokenizer.tokenizer_model.empty() ||
                             tokenizer.tokenizer_type == TokenizerType::ByteTokenizer;
  problems.expect(has_tokenizer || options.model.vocab_size.has_value(),
                  "Expected --vocab-size of at least 1, or a tokenizer, but got neither; give "
                  "--vocab-size, --tokenizer-model, or --vocab-file with --merge-file");
}

}  // namespace megatron
