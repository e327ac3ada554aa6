// Byte-pair encoding of words of bytes, whose vocabulary spells tokens in the byte alphabet.
// character_bpe.h is the variant over characters.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/tokenizers/models/merge_table.h"
#include "megatron/tokenizers/text/string_map.h"

namespace megatron {

class BytePairEncoding {
 public:
  struct Options {
    std::optional<int32_t> unknown;  // for bytes without a token
    bool fuse_unknown = false;       // one unknown token per run of such bytes
    bool ignore_merges = false;      // a word in the vocabulary is one token, whatever the merges
    bool ranks_are_ids = false;      // merges apply in the order of their results' ids
  };

  // `vocabulary`: spelling in the byte alphabet -> id; `merges`: pairs of spellings, best first.
  // `source` names the file in messages. Throws Error for a merge whose parts or result are not in
  // the vocabulary.
  BytePairEncoding(const StringMap<int32_t>& vocabulary,
                   const std::vector<std::pair<std::string, std::string>>& merges, Options options,
                   const std::string& source);

  // Appends the ids of a word of any bytes. Returns the number of bytes dropped for lack of a
  // token.
  int64_t encode_word(std::string_view word, std::vector<int64_t>& ids) const;

 private:
  Options options_;
  std::array<int32_t, 256> byte_ids_{};  // -1: no token
  MergeTable merges_;
  StringMap<int32_t> words_;  // bytes -> id, for ignore_merges
};

// Adds the merge of rank `rank` of `left` and `right` to a table. `skipped` bytes at the front of
// `right` are not part of the result: a prefix that marks continued words. Throws Error if a token
// is not in the vocabulary.
void add_merge(MergeTable& table, const StringMap<int32_t>& vocabulary, const std::string& left,
               const std::string& right, size_t skipped, std::optional<int32_t> rank,
               const std::string& source);

}  // namespace megatron
