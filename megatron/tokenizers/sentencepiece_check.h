// Checks a SentencePiece model before libsentencepiece reads it: the library trusts the tables in it.
#pragma once

#include <string_view>

namespace megatron {

// Whether `model` is a protocol buffer whose character maps, if it has any, are sound.
bool is_safe_sentencepiece_model(std::string_view model);

}  // namespace megatron
