#include "megatron/tokenizers/text/unicode.h"

#include <algorithm>
#include <utf8proc.h>
#include <vector>

#include "megatron/base/error.h"
#include "megatron/tokenizers/text/character_classes.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

struct CharacterRange {
  uint32_t first, last;
};

// Characters with a decomposition or a combining class that Hugging Face's normalization tables
// (Unicode 9 to 11) do not have: for them, these are plain characters.
constexpr CharacterRange kNotNormalized[] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},
    {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},
    {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x107BA}, {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9},
};

bool is_normalized(uint32_t code_point) {
  const auto* const after = std::upper_bound(
      std::begin(kNotNormalized), std::end(kNotNormalized), code_point,
      [](uint32_t wanted, const CharacterRange& range) { return wanted < range.first; });
  return after == std::begin(kNotNormalized) || code_point > (after - 1)->last;
}

// Below this code point a character is its own normalization form and does not compose with the
// character before it.
uint32_t first_changed(NormalizationForm form) {
  switch (form) {
    case NormalizationForm::nfc:
      return 0x300;
    case NormalizationForm::nfd:
      return 0xC0;
    default:
      return 0xA0;
  }
}

// Collects decomposed characters and appends them, in order and composed, to a text.
class Reordering {
 public:
  Reordering(NormalizationForm form, std::string& out)
      : out_(out),
        compose_(form == NormalizationForm::nfc || form == NormalizationForm::nfkc),
        compatible_(form == NormalizationForm::nfkc || form == NormalizationForm::nfkd) {}

  void add(uint32_t code_point) {
    if (!is_normalized(code_point)) {
      flush();
      append_utf8(code_point, out_);
      return;
    }
    utf8proc_int32_t parts[32];
    int boundary_class = 0;
    int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (compatible_) options |= UTF8PROC_COMPAT;
    const auto count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts, std::size(parts),
                                static_cast<utf8proc_option_t>(options), &boundary_class);
    check(count > 0 && count <= std::ssize(parts),
          "Expected to normalize U+{:04X}, but utf8proc cannot", code_point);
    pending_.insert(pending_.end(), parts, parts + count);
  }

  void flush() {
    if (pending_.empty()) return;
    const auto combining_class = [](utf8proc_int32_t code_point) {
      return utf8proc_get_property(code_point)->combining_class;
    };
    for (auto begin = pending_.begin(); begin != pending_.end();) {
      const auto marks = std::find_if(begin, pending_.end(), combining_class);
      begin = std::find_if_not(marks, pending_.end(), combining_class);
      std::stable_sort(marks, begin, [&](utf8proc_int32_t a, utf8proc_int32_t b) {
        return combining_class(a) < combining_class(b);
      });
    }
    auto count = static_cast<utf8proc_ssize_t>(pending_.size());
    if (compose_) {
      count = utf8proc_normalize_utf32(
          pending_.data(), count,
          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      append_utf8(static_cast<uint32_t>(pending_[static_cast<size_t>(i)]), out_);
    }
    pending_.clear();
  }

 private:
  std::string& out_;
  bool compose_;
  bool compatible_;
  std::vector<utf8proc_int32_t> pending_;
};

utf8proc_category_t category(uint32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

}  // namespace

std::string normalize(std::string_view text, NormalizationForm form) {
  const uint32_t limit = first_changed(form);
  std::string result;
  result.reserve(text.size());
  Reordering reordering(form, result);
  for (size_t i = 0; i < text.size();) {
    // Copy the characters that stay, but for the last of them, which may compose with the next.
    size_t end = i;
    size_t last = i;
    while (end < text.size() && decode_utf8(text.substr(end)) < limit) {
      last = end;
      end += utf8_length(text[end]);
    }
    if (end == text.size()) last = end;
    result += text.substr(i, last - i);
    if (end == text.size()) break;
    for (i = last; i < end; i += utf8_length(text[i])) reordering.add(decode_utf8(text.substr(i)));
    while (i < text.size()) {
      const uint32_t code_point = decode_utf8(text.substr(i));
      if (code_point < limit) break;
      reordering.add(code_point);
      i += utf8_length(text[i]);
    }
    reordering.flush();
  }
  return result;
}

bool is_combining_mark(uint32_t code_point) {
  const auto kind = category(code_point);
  return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC ||
         kind == UTF8PROC_CATEGORY_ME;
}

bool is_nonspacing_mark(uint32_t code_point) {
  return category(code_point) == UTF8PROC_CATEGORY_MN;
}

bool is_control_or_format(uint32_t code_point) {
  const auto kind = category(code_point);
  return kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF ||
         kind == UTF8PROC_CATEGORY_CO;
}

bool is_punctuation(uint32_t code_point) {
  if (code_point < 0x80) {
    return code_point > 0x20 && code_point < 0x7F &&
           character_classes()[code_point] == CharacterClass::other;
  }
  const auto kind = category(code_point);
  return kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO;
}

bool is_numeric(uint32_t code_point) {
  return character_classes()[code_point] == CharacterClass::number;
}

void append_lowercase(uint32_t code_point, std::string& text) {
  constexpr uint32_t kCapitalIWithDot = 0x130;  // the only one that becomes two characters
  if (code_point == kCapitalIWithDot) {
    text += "i\xcc\x87";
    return;
  }
  const auto lower = utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point));
  append_utf8(static_cast<uint32_t>(lower), text);
}

size_t grapheme_length(std::string_view text) {
  utf8proc_int32_t state = 0;
  auto before = static_cast<utf8proc_int32_t>(decode_utf8(text));
  size_t end = utf8_length(text[0]);
  while (end < text.size()) {
    const auto next = static_cast<utf8proc_int32_t>(decode_utf8(text.substr(end)));
    if (utf8proc_grapheme_break_stateful(before, next, &state)) break;
    before = next;
    end += utf8_length(text[end]);
  }
  return end;
}

}  // namespace megatron
