// How well counting alone predicts a tokenized text, in bits per byte: what a trained model is
// compared with.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace megatron {

// Entropies of the text's own empirical distributions, so that the bigram figure is what a table of
// all pairs would reach on the text that it was counted from.
struct TextStatistics {
  int64_t tokens = 0;
  int64_t bytes = 0;
  double bytes_per_token = 0;
  double unigram_bits_per_byte = 0;  // -sum log2 p(token) / bytes
  double bigram_bits_per_byte = 0;   // -sum log2 p(token | the one before) / bytes
};

// `byte_lengths`: Tokenizer::token_byte_lengths(). Throws Error on an id outside of it, or no
// bytes.
TextStatistics text_statistics(std::span<const int64_t> tokens,
                               std::span<const int32_t> byte_lengths);

// Counts of one text, by which another is predicted: the honest baselines for a validation loss.
class NgramModel {
 public:
  NgramModel(std::span<const int64_t> training_tokens, int64_t vocab_size);

  // Bits per byte of `tokens`: unigrams smoothed by adding one; bigrams by absolute discounting
  // (0.75), the discounted mass going to the unigrams (Ney, Essen and Kneser 1994). The first token
  // is predicted by its unigram.
  double unigram_bits_per_byte(std::span<const int64_t> tokens,
                               std::span<const int32_t> byte_lengths) const;
  double bigram_bits_per_byte(std::span<const int64_t> tokens,
                              std::span<const int32_t> byte_lengths) const;

 private:
  double unigram(int64_t token) const;
  double bigram(int64_t previous, int64_t token) const;

  int64_t vocab_size_;
  int64_t total_ = 0;
  std::vector<int64_t> counts_;     // of each token
  std::vector<int64_t> followed_;   // of each token as the first of a pair
  std::vector<int64_t> followers_;  // distinct tokens after each token
  std::unordered_map<uint64_t, int64_t> pairs_;
};

// Sum of byte lengths. Throws Error on an id outside.
int64_t bytes_of_tokens(std::span<const int64_t> tokens, std::span<const int32_t> byte_lengths);

// A sum of nats over predicted tokens, and the bytes that those tokens stand for.
double bits_per_byte(double total_nats, int64_t total_bytes);

}  // namespace megatron
