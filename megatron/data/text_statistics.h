// Unigram and bigram baselines of a tokenized text in bits per byte, to compare a trained model
// with.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace megatron {

// Entropies of the text's own empirical distributions: what tables of counts reach on the text that
// they were counted on.
struct TextStatistics {
  int64_t tokens = 0;
  int64_t bytes = 0;
  double bytes_per_token = 0;
  double unigram_bits_per_byte = 0;  // -sum log2 p(token) / bytes
  double bigram_bits_per_byte = 0;   // -sum log2 p(token | previous token) / bytes
};

// `byte_lengths`: Tokenizer::token_byte_lengths(). Throws Error for an id outside it, and for text
// of no bytes.
TextStatistics text_statistics(std::span<const int64_t> tokens,
                               std::span<const int32_t> byte_lengths);

// Unigram and bigram counts of a training text, to predict a validation text: baselines for a
// validation loss.
class NgramModel {
 public:
  NgramModel(std::span<const int64_t> training_tokens, int64_t vocab_size);

  // Bits per byte of `tokens`. Unigrams use add-one smoothing; bigrams use absolute discounting by
  // 0.75 with the unigrams as backoff (Ney, Essen and Kneser 1994). The unigram predicts the first
  // token.
  double unigram_bits_per_byte(std::span<const int64_t> tokens,
                               std::span<const int32_t> byte_lengths) const;
  double bigram_bits_per_byte(std::span<const int64_t> tokens,
                              std::span<const int32_t> byte_lengths) const;

 private:
  double unigram(int64_t token) const;
  double bigram(int64_t previous, int64_t token) const;

  int64_t vocab_size_;
  int64_t total_ = 0;
  std::vector<int64_t> counts_;     // occurrences of each token
  std::vector<int64_t> followed_;   // occurrences of each token as the first of a pair
  std::vector<int64_t> followers_;  // number of distinct tokens after each token
  std::unordered_map<uint64_t, int64_t> pairs_;
};

// Sum of the tokens' byte lengths. Throws Error for an id outside `byte_lengths`.
int64_t bytes_of_tokens(std::span<const int64_t> tokens, std::span<const int32_t> byte_lengths);

// Converts a sum of nats over predicted tokens, and the bytes of those tokens, to bits per byte.
double bits_per_byte(double total_nats, int64_t total_bytes);

}  // namespace megatron
