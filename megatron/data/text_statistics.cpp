#include "megatron/data/text_statistics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr double kDiscount = 0.75;

uint64_t bigram_key(int64_t previous, int64_t token) {
  return static_cast<uint64_t>(previous) << 32 | static_cast<uint64_t>(token);
}

// Sum of n log2 n over counts: the term of an entropy that does not depend on the total.
template <typename Counts>
double sum_n_log_n(const Counts& counts) {
  double sum = 0;
  for (const int64_t n : counts) {
    if (n > 0) sum += static_cast<double>(n) * std::log2(static_cast<double>(n));
  }
  return sum;
}

}  // namespace

int64_t bytes_of_tokens(std::span<const int64_t> tokens, std::span<const int32_t> byte_lengths) {
  int64_t bytes = 0;
  for (const int64_t token : tokens) {
    check(token >= 0 && token < std::ssize(byte_lengths), "Expected token ids below {}, but got {}",
          byte_lengths.size(), token);
    bytes += byte_lengths[static_cast<size_t>(token)];
  }
  return bytes;
}

double bits_per_byte(double total_nats, int64_t total_bytes) {
  check(total_bytes > 0, "Expected text of at least one byte, but got {} bytes", total_bytes);
  return total_nats / std::numbers::ln2 / static_cast<double>(total_bytes);
}

TextStatistics text_statistics(std::span<const int64_t> tokens,
                               std::span<const int32_t> byte_lengths) {
  TextStatistics result;
  result.tokens = std::ssize(tokens);
  result.bytes = bytes_of_tokens(tokens, byte_lengths);
  check(result.bytes > 0,
        "Expected text of at least one byte, but got {} tokens that stand for none", tokens.size());
  std::vector<int64_t> counts(byte_lengths.size());
  std::vector<int64_t> followed(byte_lengths.size());
  std::vector<uint64_t> pairs;
  pairs.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    ++counts[static_cast<size_t>(tokens[i])];
    if (i == 0) continue;
    ++followed[static_cast<size_t>(tokens[i - 1])];
    pairs.push_back(bigram_key(tokens[i - 1], tokens[i]));
  }
  std::sort(pairs.begin(), pairs.end());  // makes the order of the sum deterministic
  std::vector<int64_t> pair_counts;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (i == 0 || pairs[i] != pairs[i - 1]) pair_counts.push_back(0);
    ++pair_counts.back();
  }
  const auto total = static_cast<double>(tokens.size());
  const auto bytes = static_cast<double>(result.bytes);
  result.bytes_per_token = bytes / total;
  result.unigram_bits_per_byte = (total * std::log2(total) - sum_n_log_n(counts)) / bytes;
  result.bigram_bits_per_byte = (sum_n_log_n(followed) - sum_n_log_n(pair_counts)) / bytes;
  return result;
}

NgramModel::NgramModel(std::span<const int64_t> training_tokens, int64_t vocab_size)
    : vocab_size_(vocab_size),
      counts_(static_cast<size_t>(vocab_size)),
      followed_(static_cast<size_t>(vocab_size)),
      followers_(static_cast<size_t>(vocab_size)) {
  for (size_t i = 0; i < training_tokens.size(); ++i) {
    const int64_t token = training_tokens[i];
    check(token >= 0 && token < vocab_size, "Expected token ids below {}, but got {}", vocab_size,
          token);
    ++counts_[static_cast<size_t>(token)];
    ++total_;
    if (i == 0) continue;
    const int64_t previous = training_tokens[i - 1];
    ++followed_[static_cast<size_t>(previous)];
    if (pairs_[bigram_key(previous, token)]++ == 0) ++followers_[static_cast<size_t>(previous)];
  }
}

double NgramModel::unigram(int64_t token) const {
  check(token >= 0 && token < vocab_size_, "Expected token ids below {}, but got {}", vocab_size_,
        token);
  return static_cast<double>(counts_[static_cast<size_t>(token)] + 1) /
         static_cast<double>(total_ + vocab_size_);
}

double NgramModel::bigram(int64_t previous, int64_t token) const {
  const auto seen = static_cast<double>(followed_[static_cast<size_t>(previous)]);
  if (seen == 0) return unigram(token);
  const auto found = pairs_.find(bigram_key(previous, token));
  const double count = found == pairs_.end() ? 0 : static_cast<double>(found->second);
  const auto kinds = static_cast<double>(followers_[static_cast<size_t>(previous)]);
  return std::max(count - kDiscount, 0.0) / seen + kDiscount * kinds / seen * unigram(token);
}

double NgramModel::unigram_bits_per_byte(std::span<const int64_t> tokens,
                                         std::span<const int32_t> byte_lengths) const {
  double nats = 0;
  for (const int64_t token : tokens) nats -= std::log(unigram(token));
  return bits_per_byte(nats, bytes_of_tokens(tokens, byte_lengths));
}

double NgramModel::bigram_bits_per_byte(std::span<const int64_t> tokens,
                                        std::span<const int32_t> byte_lengths) const {
  double nats = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    nats -= std::log(i == 0 ? unigram(tokens[i]) : bigram(tokens[i - 1], tokens[i]));
  }
  return bits_per_byte(nats, bytes_of_tokens(tokens, byte_lengths));
}

}  // namespace megatron
