// Unicode data and normalization forms, by utf8proc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace megatron {

enum class NormalizationForm { nfc, nfd, nfkc, nfkd };

// `text` is valid UTF-8. Agrees with Hugging Face's tokenizers, whose tables are older: characters
// that only later versions of Unicode decompose or reorder stay as they are.
std::string normalize(std::string_view text, NormalizationForm form);

// General categories; for characters younger than Unicode 8, Hugging Face's tables may differ.
bool is_combining_mark(uint32_t code_point);     // M
bool is_nonspacing_mark(uint32_t code_point);    // Mn
bool is_control_or_format(uint32_t code_point);  // Cc, Cf, Co
bool is_punctuation(uint32_t code_point);        // P, and ASCII punctuation such as $ and +
bool is_numeric(uint32_t code_point);            // N

// Unicode's full lowercase mapping without context.
void append_lowercase(uint32_t code_point, std::string& text);

// Length in bytes of the first extended grapheme cluster of valid, non-empty text.
size_t grapheme_length(std::string_view text);

}  // namespace megatron
