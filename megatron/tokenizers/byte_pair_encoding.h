// Byte-pair encoding of one word: applies the merges of a trained vocabulary by rank.
// pre_tokenizer.h splits text into words.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace megatron {

class BytePairEncoding {
 public:
  struct Options {
    std::optional<int32_t> unknown;  // for bytes without a token
    bool fuse_unknown = false;       // one unknown token per run of such bytes
    bool ignore_merges = false;      // a word in the vocabulary is one token, whatever the merges
  };

  // `vocabulary`: spelling in the byte alphabet -> id; `merges`: pairs of spellings, best first.
  // `source` names the file in messages. Throws Error for a merge whose parts or result are not in
  // the vocabulary.
  BytePairEncoding(const std::unordered_map<std::string, int32_t>& vocabulary,
                   const std::vector<std::pair<std::string, std::string>>& merges, Options options,
                   const std::string& source);

  // Appends the ids of a word of any bytes. Returns the number of bytes dropped for lack of a
  // token.
  int64_t encode_word(std::string_view word, std::vector<int64_t>& ids) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t id;
  };
  struct Symbol;

  const Merge* find_merge(int32_t left, int32_t right) const;
  void merge_short(std::vector<int32_t>& symbols) const;
  void merge_long(std::vector<int32_t>& symbols) const;

  Options options_;
  std::array<int32_t, 256> byte_ids_{};  // -1: no token
  std::unordered_map<uint64_t, Merge> merges_;
  std::unordered_map<std::string, int32_t> words_;  // bytes -> id, for ignore_merges
};

}  // namespace megatron
