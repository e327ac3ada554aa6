#include "megatron/tokenizers/models/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "megatron/base/error.h"
#include "megatron/tokenizers/models/character_bpe.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

constexpr double kUnknownPenalty = 10;  // below the lowest score

}  // namespace

Unigram::Unigram(std::vector<std::pair<std::string, double>> pieces, int32_t unknown,
                 bool byte_fallback, const std::string& source)
    : unknown_(unknown) {
  double lowest = std::numeric_limits<double>::infinity();
  std::vector<std::pair<std::string, int32_t>> entries;
  for (const auto& [spelling, score] : pieces) {
    check(std::isfinite(score), "Expected finite scores in {}, but '{}' has {}", source, spelling,
          score);
    const auto id = static_cast<int32_t>(entries.size());
    entries.emplace_back(spelling, id);
    vocabulary_.insert_or_assign(spelling, id);
    scores_.push_back(score);
    lowest = std::min(lowest, score);
  }
  trie_ = PrefixTrie(std::move(entries));
  unknown_score_ = lowest - kUnknownPenalty;
  if (!byte_fallback) return;
  byte_ids_.emplace();
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = vocabulary_.find(byte_token(static_cast<unsigned char>(byte)));
    byte_ids_->push_back(found == vocabulary_.end() ? -1 : found->second);
  }
}

int64_t Unigram::encode_word(std::string_view word, std::vector<int64_t>& ids) const {
  // The best split of each prefix of the word, by its last token. All sums run from left to right in
  // double, so that ties fall as in Hugging Face's.
  struct Best {
    double score = 0;
    size_t begin = std::string_view::npos;
    int32_t id = 0;
  };
  std::vector<Best> best(word.size() + 1);
  const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
    if (best[end].begin != std::string_view::npos && score <= best[end].score) return;
    best[end] = {score, begin, id};
  };
  visit_characters(word, [&](uint32_t, size_t begin, size_t end) {
    const double before = best[begin].score;
    bool known = false;
    trie_.visit_prefixes(word.substr(begin), [&](size_t length, int32_t id) {
      offer(begin, begin + length, scores_[static_cast<size_t>(id)] + before, id);
      known |= length == end - begin;
    });
    if (!known) offer(begin, end, unknown_score_ + before, unknown_);
  });
  std::vector<std::string_view> parts;
  for (size_t end = word.size(); end > 0;) {
    size_t begin = best[end].begin;
    // Neighbouring unknown characters are one part.
    const bool unknown = best[end].id == unknown_;
    while (unknown && begin > 0 && best[begin].id == unknown_) begin = best[begin].begin;
    parts.push_back(word.substr(begin, end - begin));
    end = begin;
  }
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) append_ids(*part, ids);
  return 0;
}

void Unigram::append_ids(std::string_view part, std::vector<int64_t>& ids) const {
  if (const auto found = vocabulary_.find(part); found != vocabulary_.end()) {
    ids.push_back(found->second);
    return;
  }
  const auto byte_id = [&](char c) { return (*byte_ids_)[static_cast<unsigned char>(c)]; };
  if (byte_ids_ && std::ranges::all_of(part, [&](char c) { return byte_id(c) >= 0; })) {
    for (const char c : part) ids.push_back(byte_id(c));
    return;
  }
  ids.push_back(unknown_);
}

}  // namespace megatron
